"""Labelled texts of a user's own, and the scores."""

import dataclasses

import numpy as np
import pytest

from kerasrnn import recipes
from kerasrnn.recipes.base import splits
from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.tasks import classification

pytestmark = pytest.mark.tensorflow
RECIPE = recipes.load("movie_sentiment")
LABELS = ["sad" if n % 3 else "glad" for n in range(30)]
WORDS = {"sad": "dull", "glad": "fine"}
ROWS = [(label, f"Film no. {n}, a {WORDS[label]} one!") for n, label in enumerate(LABELS)]


def own(folder, lines, **overrides):
    path = folder / "mine.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return dataclasses.replace(RECIPE.tiny(), data=str(path), **overrides)


def test_own_texts(tmp_path):
    """A text's hash says whether it is judged by; labels are numbered in their order."""
    data = RECIPE.load(own(tmp_path, ["\t".join(row) for row in ROWS], longest=4))
    held = [row for row in ROWS if splits.place(row[1]) < 0.2]
    assert 0 < len(held) < 15
    assert data.raw["test_texts"] == [line for _, line in held]
    assert data.raw["test_labels"] == [("glad", "sad").index(label) for label, _ in held]
    assert data.raw["train_texts"] == [
        line for _, line in ROWS if line not in data.raw["test_texts"]
    ]
    assert (data.train_size, data.test_size) == (30 - len(held), len(held))
    assert data.metadata["classes"] == ["glad", "sad"]

    symbols = ["", "[UNK]", *data.metadata["numbers"]["symbols"]]
    for (ids, label), (name, line) in zip(data.test.as_numpy_iterator(), held, strict=True):
        words = line.lower().replace(".", "").replace(",", "").replace("!", "").split()
        known = [word if word in symbols else "[UNK]" for word in words]
        assert [symbols[n] for n in ids] == known[:4]  # what is longer is cut off
        assert label == ("glad", "sad").index(name)
        assert ids.dtype == np.int32


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["sad\tdull", "glad fine"], "line 2: expected 2 columns .* .label, text.; found 1"),
        (["sad\tdull", "", "glad\tfine\tmore"], "line 3: expected 2 columns .*; found 3"),
        (["sad\tdull", "glad\t "], "line 2: the column text is empty"),
        (["sad\tdull", "\tfine"], "line 2: the column label is empty"),
        (["sad\tdull", "sad\tbad"], "expected at least two labels; found sad"),
        (
            ["sad\tdull", "glad\tfine"] * 2,
            r"expected texts for .*; found none among its 4 texts\. 50 different ones",
        ),
        ([f"{n % 2}\t{'?' * n}!" for n in range(40)], "expected texts with words; found no word"),
        ([f"{n % 2}\t{n % 10} a _" for n in range(40)], "expected texts with words; found no word"),
    ],
)
def test_invalid_files_are_errors(tmp_path, lines, message):
    with pytest.raises(DatasetError, match=f"mine.tsv(, |: ){message}"):
        RECIPE.load(own(tmp_path, lines))


def test_texts_without_a_word_are_padding(tmp_path):
    lines = ["\t".join(row) for row in ROWS] + [f"sad\t{'?' * n}" for n in range(1, 30)]
    data = RECIPE.load(own(tmp_path, lines))
    empty = [ids for ids, _ in data.train.as_numpy_iterator() if not ids.any()]
    assert len(empty) > 5
    assert all(len(ids) == 1 for ids in empty)


def test_evaluation_and_prediction_agree(tmp_path):
    """Whether a text comes alone or among others, padded, or is longer than what is read."""
    lines = ["\t".join(row) for row in ROWS]
    config = own(tmp_path, lines, longest=3, pooling="mean")
    data = RECIPE.load(config)
    model = RECIPE.bundle(RECIPE.model(config, data), config, data)
    batches = RECIPE.batches(data.test, config)
    judged = RECIPE.trained_model(model).predict(batches, verbose=0)
    answers = RECIPE.predict(model, data.metadata, data.raw["test_texts"], None)
    (alone,) = RECIPE.predict(model, data.metadata, data.raw["test_texts"][:1], None)
    assert answers[0] == alone
    for p, answer in zip(judged, answers, strict=True):
        said = {part.split(": ")[0]: part.split(": ")[1] for part in answer.split(", ")}
        assert said == {"glad": f"{p[0]:.1%}", "sad": f"{p[1]:.1%}"}


def test_scores_by_hand():
    """Class 0: precision 1/2, recall 1/2; class 1: 2/3 and 2/2; class 2: of one text, not found."""
    scores = classification.f1_scores(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 0]))
    f1 = [1 / 2, 2 * (2 / 3) / (2 / 3 + 1), 0.0]
    assert scores["test_f1_macro"] == pytest.approx(sum(f1) / 3)
    assert scores["test_f1_weighted"] == pytest.approx((2 * f1[0] + 2 * f1[1] + 1 * f1[2]) / 5)
    assert scores["test_accuracy"] == pytest.approx(3 / 5)


def test_the_baselines_count_words(tmp_path):
    """Naive Bayes finds the word that tells; the majority is sad."""
    data = RECIPE.load(own(tmp_path, ["\t".join(row) for row in ROWS]))
    found = classification.baseline_predictions(data)
    np.testing.assert_array_equal(found["naive_Bayes"], data.raw["test_labels"])
    np.testing.assert_array_equal(found["majority"], 1)


def test_an_empty_text_is_an_error():
    with pytest.raises(DatasetError, match="expected a text; found none"):
        RECIPE.parse_input(" \n")


@pytest.mark.parametrize(
    ("first", "line"),
    [("stars\tcomment", 1), ("a film of another kind\tgood", 1)],
    ids=["header", "exchanged"],
)
def test_a_label_that_occurs_once_is_an_error(tmp_path, first, line):
    rows = [first, *("\t".join(row) for row in ROWS)]
    message = f"mine.tsv, line {line}: expected several texts of each label; found no other line"
    with pytest.raises(DatasetError, match=message):
        RECIPE.load(own(tmp_path, rows))


def test_accuracy_and_loss_by_hand():
    """One of two is right; what was true had the probabilities 1/2 and 1/5."""
    p = np.array([[0.5, 0.3, 0.2], [0.1, 0.7, 0.2]])
    scores = recipes.load("japanese_vowels").scores(np.array([0, 2]), p)
    assert scores == pytest.approx({"test_accuracy": 0.5, "test_loss": np.log(10) / 2})


def test_the_most_likely_classes_come_first():
    answer = classification.most_likely([0.1, 0.6, 0.05, 0.25], ["a", "b", "c", "d"])
    assert answer == "b: 60.0%, d: 25.0%, a: 10.0%"
    assert classification.most_likely([0.25, 0.75], ["a", "b"]) == "b: 75.0%, a: 25.0%"
