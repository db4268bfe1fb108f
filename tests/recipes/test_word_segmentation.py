"""Cutting sentences into pieces, characters into words, and a file of a user's own."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasrnn import recipes
from kerasrnn.recipes.base.config import ConfigError
from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.datasets.peoples_daily import segmentation
from kerasrnn.recipes.word_segmentation import (
    ENDS,
    LENGTHS,
    SHORTEST,
    cut,
    likeliest,
    longest_match,
)

pytestmark = pytest.mark.tensorflow
RECIPE = recipes.load("word_segmentation")
LONGEST = LENGTHS[-1]
PAIRS = {"BM", "BE", "MM", "ME", "EB", "ES", "SB", "SS"}

word = st.one_of(st.text("天地人", min_size=1, max_size=40), st.sampled_from(ENDS))


@given(st.lists(word, max_size=30))
def test_pieces_keep_every_word_and_are_never_too_long(words):
    pieces = cut(words)
    assert [w for piece in pieces for w in piece] == words
    lengths = [sum(map(len, piece)) for piece in pieces]
    assert all(0 < length <= LONGEST for length in lengths)
    for piece, length, following in zip(pieces, lengths, pieces[1:], strict=False):
        ended = piece[-1] in ENDS and length >= SHORTEST
        assert ended or length + len(following[0]) > LONGEST
    for piece in pieces:
        for n, w in enumerate(piece[:-1], start=1):
            assert not (w in ENDS and sum(map(len, piece[:n])) >= SHORTEST)


@given(st.text("天地人。！", max_size=400))
def test_characters_are_cut_where_words_are(sentence):
    pieces = cut(sentence)
    assert "".join(c for piece in pieces for c in piece) == sentence
    assert all(0 < len(piece) <= LONGEST for piece in pieces)


@pytest.mark.parametrize("length", [LONGEST, LONGEST + 1, 3 * LONGEST + 5])
def test_words_longer_than_a_piece_are_cut_too(length):
    pieces = cut(["天", "地" * length, "人"])
    assert "".join(w for piece in pieces for w in piece) == "天" + "地" * length + "人"
    assert all(0 < sum(map(len, piece)) <= LONGEST for piece in pieces)


def brute_force(scores):
    """The highest total of all sequences of tags that do not contradict each other."""
    best = -math.inf
    for tags in itertools.product("BMES", repeat=len(scores)):
        ends = tags[0] in "BS" and tags[-1] in "ES"
        if ends and all("".join(pair) in PAIRS for pair in itertools.pairwise(tags)):
            best = max(best, total(scores, tags))
    return best


def total(scores, tags):
    return sum(row["BMES".index(tag)] for row, tag in zip(scores, tags, strict=True))


@given(
    st.integers(1, 5).flatmap(
        lambda n: st.lists(
            st.lists(st.integers(-9, 0), min_size=4, max_size=4), min_size=n, max_size=n
        )
    )
)
def test_the_likeliest_tags_against_all_that_are_possible(scores):
    tags = likeliest(np.array(scores, "float64"))
    assert len(tags) == len(scores)
    assert tags[0] in "BS"
    assert tags[-1] in "ES"
    assert all("".join(pair) in PAIRS for pair in itertools.pairwise(tags))
    # Of several that are equally likely, it may be any.
    assert total(scores, tags) == brute_force(scores)
    # They are those of the words that they say.
    sentence = "天" * len(tags)
    assert segmentation.to_tags(segmentation.to_words(sentence, tags)) == tags


def test_the_likeliest_tags_by_hand():
    """Each for itself, M M E; but nothing begins with M, and S M E is impossible too."""
    p = np.array([[0.3, 0.4, 0.0, 0.3], [0.1, 0.6, 0.2, 0.1], [0.1, 0.1, 0.7, 0.1]])
    assert likeliest(np.log(p + 1e-30)) == "BME"
    assert likeliest(np.log(np.array([[0.9, 0.05, 0.04, 0.01]]))) == "S"


def test_the_longest_match_by_hand():
    known = {"研究", "研究生", "生命", "命", "起源"}
    assert longest_match(["研究生命起源", "源起", ""], known) == [
        ["研究生", "命", "起源"],
        ["源", "起"],
        [],
    ]


def test_what_is_narrow_is_read_wide():
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


def test_sentences_of_ones_own(own):
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


def test_words_are_those_of_the_likeliest_tags(own, tmp_path):
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
        for piece in cut(sentence):
            ids = [symbols.index(c) if c in symbols else 1 for c in piece]
            p = np.array(RECIPE.trained_model(model)(np.array([ids])))[0]
            expected += segmentation.to_words("".join(piece), likeliest(np.log(p)))
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


def test_words_and_parts_are_the_likeliest(tagged, tmp_path):
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
        tags = likeliest(np.log(p.sum(-1)))
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


def test_a_word_without_its_part_of_speech_is_refused(tmp_path):
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
        ("我们 看\n" * 19, "expected 20 sentences at least; found 19"),
        (
            "".join(f"{chr(0x4E00 + n)} {chr(0x5E00 + n)}\n" for n in range(40)),
            "characters that occur more than once",
        ),
        ("", "expected text; found none"),
    ],
    ids=["few", "nothing twice", "empty"],
)
def test_files_that_are_none(tmp_path, content, message):
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
        ("我喜欢看电视。\n", ": expected sentences, .*; no line has a space"),
    ],
    ids=["conll", "bmes", "columns", "treebank", "unsegmented"],
)
def test_files_of_other_kinds_are_refused(tmp_path, line, message):
    path = tmp_path / "mine.txt"
    path.write_text(line * 40, encoding="utf-8")
    with pytest.raises(DatasetError, match=f"mine.txt.*{message}"):
        RECIPE.load(dataclasses.replace(RECIPE.tiny(), data=str(path)))
