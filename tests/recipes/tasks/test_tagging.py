"""A user's own sentences, and the words and parts of speech that a model finds."""

import dataclasses
import math

import numpy as np
import pytest

from kerasrnn import recipes
from kerasrnn.recipes.base.config import ConfigError
from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.tasks import segmentation
from kerasrnn.recipes.tasks.segmentation import most_likely_tags, segments
from kerasrnn.recipes.tasks.tagging import LENGTHS

pytestmark = pytest.mark.tensorflow
RECIPE = recipes.load("word_segmentation")
LONGEST = LENGTHS[-1]


def test_narrow_characters_are_widened():
    assert RECIPE.parse_input("  我有3 apples~!\n") == "我有３　ａｐｐｌｅｓ～！"
    assert RECIPE.parse_input("全角，。") == "全角，。"
    with pytest.raises(DatasetError, match="expected a sentence; found none"):
        RECIPE.parse_input(" \n ")


@pytest.fixture
def own(tmp_path):
    """Forty lines, the last of which have words that are not among the others."""
    lines = [f"我们 看 {'电视' if n % 2 else '电影'} 。" for n in range(34)]
    lines += [
        "",
        "我们 看 书 。",
        "我们 ok 看 书 。",
        "我们 看 电影 。",
        "看 电视 书",
        "看 书",
        "书",
    ]
    path = tmp_path / "mine.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    config = dataclasses.replace(RECIPE.tiny(), data=str(path), cell="gru")
    return config, [line.split() for line in lines if line]


def test_own_sentences(own):
    """40 lines: 4 to judge by, 1 in 20 of the others to choose by; numbers are of what is twice."""
    config, lines = own
    data = RECIPE.load(config)
    assert (data.train_size, data.validation_size, data.test_size) == (35, 1, 4)
    assert data.metadata["parts"] == []
    assert [line.words for line in data.raw["test"]] == [
        ["我们", "看", "电影", "。"],
        ["看", "电视", "书"],
        ["看", "书"],
        ["书"],
    ]
    assert data.raw["train_words"] == {"我们", "看", "电视", "电影", "。", "书"}
    (ids, tags), = data.validation.as_numpy_iterator()  # fmt: skip
    assert RECIPE.parse_input("ok") == "ｏｋ"
    symbols = ["", "[UNK]", *data.metadata["vocabulary"]]
    assert [symbols[n] for n in ids] == ["我", "们", "[UNK]", "[UNK]", "看", "[UNK]", "。"]
    assert "".join("BMES"[n] for n in tags) == segmentation.to_tags(lines[35])
    assert set(symbols[2:]) == set(
        "我们看电视影。"
    )  # 书 stands in one of them, and counts as unknown
    for (ids, tags), words in zip(data.train.as_numpy_iterator(), lines, strict=False):
        assert "".join("BMES"[n] for n in tags) == segmentation.to_tags(words)
        known = [c if c in symbols else "[UNK]" for c in "".join(words)]
        assert [symbols[n] for n in ids] == known


def test_words_are_those_of_the_most_probable_tags(own, tmp_path):
    """Of sentences of any length, in batches of any; a piece is read for itself."""
    config, _ = own
    data = RECIPE.load(config)
    model = RECIPE.bundle(RECIPE.model(config, data), config, data)
    long = "我们看电视，" * 40 + "电影。"
    sentences = ["看", "我们看电影。", long, "书"]
    answers = RECIPE.predict(model, data.metadata, sentences, RECIPE.PredictOptions())
    symbols = ["", "[UNK]", *data.metadata["vocabulary"]]
    for sentence, answer in zip(sentences, answers, strict=True):
        expected = []
        for piece in segments(sentence, LONGEST):
            ids = [symbols.index(c) if c in symbols else 1 for c in piece]
            p = np.array(RECIPE.trained_model(model)(np.array([ids])))[0]
            (tags,) = most_likely_tags([np.log(p)])
            expected += segmentation.to_words("".join(piece), tags)
        assert answer == " ".join(expected)
        assert answer.replace(" ", "") == sentence
    with pytest.raises(ConfigError, match="parts=True: the model was trained without"):
        RECIPE.predict(model, data.metadata, sentences, RECIPE.PredictOptions(parts=True))


@pytest.fixture
def tagged(tmp_path):
    lines = [f"我们/r 看/v {'电视' if n % 2 else '电影'}/n 。/w" for n in range(36)]
    lines += ["看/v 电视/n 。/w", "我/r 看/v", "看/vn 。/w", "电视/x ok/n"]
    path = tmp_path / "mine.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return dataclasses.replace(RECIPE.tiny(), data=str(path), cell="gru")


def test_parts_of_speech_are_learned_with_the_tags(tagged):
    """Those of the test lines, x and vn, are not known; what is narrow stays so in a part."""
    data = RECIPE.load(tagged)
    assert data.metadata["parts"] == ["n", "r", "v", "w"]
    symbols = ["", "[UNK]", *data.metadata["vocabulary"]]
    (ids, targets) = next(iter(data.train.as_numpy_iterator()))
    assert "".join(symbols[n] for n in ids) == "我们看电影。"
    assert "".join("BMES"[n // 4] for n in targets) == "BESBES"
    assert "".join(data.metadata["parts"][n % 4] for n in targets) == "rrvnnw"
    assert data.raw["test"][-1] == (["电视", "ｏｋ"], ["x", "n"])
    assert RECIPE.model(tagged, data).output_shape == (None, None, 16)
    without = RECIPE.load(dataclasses.replace(tagged, parts_of_speech=False))
    (_, targets) = next(iter(without.train.as_numpy_iterator()))
    assert "".join("BMES"[n] for n in targets) == "BESBES"
    assert without.metadata["parts"] == []


def test_words_and_parts_of_speech_are_the_most_probable(tagged, tmp_path):
    """Of the tags by their sums over the parts; of the parts by what a word's characters say."""
    data = RECIPE.load(tagged)
    model = RECIPE.bundle(RECIPE.model(tagged, data), tagged, data)
    for weight in model.trainable_weights:  # so that there are words of several characters
        weight.assign(np.random.default_rng(1).normal(size=weight.shape))
    sentences = ["看我们看电视。", "我看", "电影电影。我们看"]
    asked = RECIPE.PredictOptions(parts=True)
    answers = RECIPE.predict(model, data.metadata, sentences, asked)
    symbols, parts = ["", "[UNK]", *data.metadata["vocabulary"]], data.metadata["parts"]
    lengths = set()
    for sentence, answer in zip(sentences, answers, strict=True):
        ids = [symbols.index(c) if c in symbols else 1 for c in sentence]
        p = np.array(RECIPE.trained_model(model)(np.array([ids])))[0].reshape(-1, 4, len(parts))
        (tags,) = most_likely_tags([np.log(p.sum(-1))])
        expected, start = [], 0
        for word in segmentation.to_words(sentence, tags):
            lengths.add(len(word))
            of_word = [
                math.prod(p[n, "BMES".index(tags[n]), k] for n in range(start, start + len(word)))
                for k in range(len(parts))
            ]
            expected.append(f"{word}/{parts[int(np.argmax(of_word))]}")
            start += len(word)
        assert answer == " ".join(expected)
    assert len(lengths) > 1
    metrics = RECIPE.evaluate(model, data, tagged, tmp_path)
    metrics |= RECIPE.baselines(data, tagged)
    assert 0 <= metrics["test_tagged_f1"] <= metrics["test_f1"]
    # Longest match, usual parts: 看/v 电视/n 。/w, 我/r 看/v, 看/v 。/w, 电视/n ｏ/r ｋ/r.
    # Six of them are among the nine that are right.
    assert metrics["baseline_longest_match_test_tagged_f1"] == pytest.approx(2 * 6 / (9 + 10))


def test_a_word_without_its_part_of_speech_is_an_error(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("我们/r 看/v\n\n我们/r 看\n" * 20, encoding="utf-8")
    config = dataclasses.replace(RECIPE.tiny(), data=str(path))
    with pytest.raises(
        DatasetError, match=r"line 3: expected words with their parts .* found '看'"
    ):
        RECIPE.load(config)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("我们 看\n" * 19, "expected at least 20 sentences; found 19"),
        (
            "".join(f"{chr(0x4E00 + n)} {chr(0x5E00 + n)}\n" for n in range(40)),
            "characters that occur more than once",
        ),
        ("", "expected text; found none"),
    ],
    ids=["few", "nothing twice", "empty"],
)
def test_invalid_files_are_errors(tmp_path, content, message):
    path = tmp_path / "mine.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DatasetError, match=f"mine.txt: .*{message}"):
        RECIPE.load(dataclasses.replace(RECIPE.tiny(), data=str(path)))


@pytest.mark.parametrize("length", [LONGEST, 301])
def test_a_line_without_spaces_is_one_long_word(tmp_path, length):
    """Where others have some."""
    path = tmp_path / "mine.txt"
    path.write_text("\n".join(["天 天", *["天" * length] * 40]), encoding="utf-8")
    data = RECIPE.load(dataclasses.replace(RECIPE.tiny(), data=str(path)))
    lengths = [len(ids) for ids, _ in data.test.take(3).as_numpy_iterator()]
    assert lengths == (
        [LONGEST] * 3 if length == LONGEST else [LONGEST, LONGEST, 301 - 2 * LONGEST]
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("EU NNP B-NP B-ORG\nrejects VBZ B-VP O\n", "line 1: .*; found a token and its tag, as in"),
        ("迈 B-NT\n向 E-NT\n\n充 B\n满 E\n", "line 1: .*; found a token and its tag, as in"),
        ("我\tB\n", "line 1: .*; found a tab"),
        ("1 我 我\n2\t看\t看\n", "line 2: .*; found a tab"),
        ("我喜欢看电视。\n", ": expected one sentence per line, .*; no line has a space"),
    ],
    ids=["conll", "bmes", "columns", "treebank", "unsegmented"],
)
def test_files_of_other_formats_are_errors(tmp_path, line, message):
    path = tmp_path / "mine.txt"
    path.write_text(line * 40, encoding="utf-8")
    with pytest.raises(DatasetError, match=f"mine.txt.*{message}"):
        RECIPE.load(dataclasses.replace(RECIPE.tiny(), data=str(path)))
