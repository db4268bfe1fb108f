"""Words to tags and back, segments, decoding, and the scores: by hand and by other means."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasrnn.recipes.tasks.segmentation import (
    CLAUSE_ENDS,
    SHORTEST,
    TAGS,
    longest_match,
    most_likely_tags,
    score,
    segments,
    tagged_f1,
    to_tags,
    to_words,
)

ALPHABET = "一二三"  # few characters, so that words come again
sentences = st.lists(st.text(ALPHABET, min_size=1, max_size=5), max_size=6)


@pytest.mark.parametrize(
    ("words", "tags"),
    [
        ([], ""),
        (["我"], "S"),
        (["喜欢"], "BE"),
        (["电视机"], "BME"),
        (["社会主义"], "BMME"),
        (["我", "喜欢", "看", "电视机"], "SBESBME"),
        (["𠀀𠀁", "𠀂"], "BES"),  # beyond the basic plane, still one character each
    ],
)
def test_tags_by_hand(words, tags):
    assert to_tags(words) == tags
    assert to_words("".join(words), tags) == words


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ("BBES", ["甲", "乙丙", "丁"]),  # never ended
        ("BSBE", ["甲", "乙", "丙丁"]),
        ("SMES", ["甲", "乙丙", "丁"]),  # never begun
        ("SEBE", ["甲", "乙", "丙丁"]),
        ("EEES", ["甲", "乙", "丙", "丁"]),
        ("BEMM", ["甲乙", "丙丁"]),
        ("MMMM", ["甲乙丙丁"]),
        ("MMSB", ["甲乙", "丙", "丁"]),
        ("BEBM", ["甲乙", "丙丁"]),  # the sentence ends first
    ],
)
def test_contradictory_tags(tags, words):
    assert to_words("甲乙丙丁", tags) == words


@given(sentences)
def test_round_trip(words):
    assert to_words("".join(words), to_tags(words)) == words


def test_every_tag_sequence_is_decoded():
    """All of up to six tags: a cut where the rule says, and the words' own tags decode alike."""
    for length in range(7):
        sentence = "甲乙丙丁戊己"[:length]
        for letters in itertools.product(TAGS, repeat=length):
            tags = "".join(letters)
            cuts = [i for i in range(1, length) if tags[i - 1] in "ES" or tags[i] in "BS"]
            edges = [0, *cuts, length] if length else []
            expected = [sentence[a:b] for a, b in itertools.pairwise(edges)]
            words = to_words(sentence, tags)
            assert words == expected
            assert to_words(sentence, to_tags(words)) == words


@pytest.mark.parametrize("tags", ["", "B", "BEB", "Be", "BO"])
def test_unknown_tags_are_errors(tags):
    with pytest.raises(ValueError, match="expected 2 of the letters B, M, E, S"):
        to_words("甲乙", tags)


def test_empty_words_are_refused():
    with pytest.raises(ValueError, match=r"words=\['我', ''\]: expected words"):
        to_tags(["我", ""])


def test_scores_by_hand():
    """Eight words, of which 电视机, 王 and 小明 are unknown.

    Found are 我, 喜欢 and 。 of the first sentence, 王 and 在 of the second: five of eight, one of
    three unknown, four of five known. Eleven words were predicted.
    """
    references = [["我", "喜欢", "电视机", "。"], ["王", "小明", "在", "家里"]]
    predictions = [["我", "喜欢", "电视", "机", "。"], ["王", "小", "明", "在", "家", "里"]]
    scores = score(references, predictions, {"我", "喜欢", "。", "在", "家里", "电视"})
    assert scores.precision == 5 / 11
    assert scores.recall == 5 / 8
    assert scores.f1 == pytest.approx(2 * (5 / 11) * (5 / 8) / (5 / 11 + 5 / 8))
    assert scores.oov_rate == 3 / 8
    assert scores.oov_recall == 1 / 3
    assert scores.iv_recall == 4 / 5


def test_a_word_at_another_position_is_wrong():
    """The same words in another order: 乙 alone stands where it stood."""
    scores = score([["甲甲", "乙", "甲"]], [["甲", "甲", "乙", "甲"]], {"甲甲", "乙", "甲"})
    assert scores[:3] == (2 / 4, 2 / 3, 4 / 7)
    scores = score([["甲甲", "甲"]], [["甲", "甲甲"]], {"甲甲", "甲"})
    assert scores == (0, 0, 0, 0, None, 0)


def test_recall_of_absent_words_is_none():
    assert score([["甲"]], [["甲"]], {"甲"}) == (1, 1, 1, 0, None, 1)
    assert score([["甲"]], [["甲"]], []) == (1, 1, 1, 1, 1, None)


@pytest.mark.parametrize(
    ("references", "predictions", "message"),
    [
        ([["甲"]], [], "predictions: expected 1, one for each reference, found 0"),
        ([["甲"], ["乙"]], [["甲"], ["丙"]], r"predictions\[1\]: expected the characters '乙'"),
        ([["甲"]], [["甲", ""]], "words of sentence 0: expected at least one character"),
        ([], [], "references: expected at least one word, found none"),
        ([[]], [[]], "references: expected at least one word, found none"),
    ],
)
def test_what_cannot_be_scored_is_an_error(references, predictions, message):
    with pytest.raises(ValueError, match=message):
        score(references, predictions, {"甲"})


@st.composite
def segmented(draw):
    """Sentences with two segmentations each, and a vocabulary."""
    references = [words for words in draw(st.lists(sentences, min_size=1, max_size=4)) if words]
    predictions = []
    for words in references:
        sentence = "".join(words)
        tags = draw(st.text(TAGS, min_size=len(sentence), max_size=len(sentence)))
        predictions.append(to_words(sentence, tags))
    known = draw(st.sets(st.text(ALPHABET, min_size=1, max_size=3), max_size=8))
    return references or [["一"]], predictions or [["一"]], known


def right_words(reference, prediction):
    """The reference's words that are right: cut at both of their edges, and nowhere inside."""
    sentence = "".join(reference)
    cut = [True, *[False] * len(sentence)]
    at = 0
    for word in prediction:
        at += len(word)
        cut[at] = True
    at, right = 0, []
    for word in reference:
        inside = cut[at + 1 : at + len(word)]
        right.append(cut[at] and cut[at + len(word)] and not any(inside))
        at += len(word)
    return right


@given(segmented())
@settings(deadline=None)
def test_scores_by_counting_edges(case):
    references, predictions, known = case
    pairs = [
        (word, right)
        for reference, prediction in zip(references, predictions, strict=True)
        for word, right in zip(reference, right_words(reference, prediction), strict=True)
    ]
    unknown = [right for word, right in pairs if word not in known]
    familiar = [right for word, right in pairs if word in known]
    count = sum(right for _, right in pairs)
    scores = score(references, predictions, known)
    assert scores.recall == count / len(pairs)
    assert scores.precision == count / sum(map(len, predictions))
    assert scores.oov_rate == len(unknown) / len(pairs)
    assert scores.oov_recall == (sum(unknown) / len(unknown) if unknown else None)
    assert scores.iv_recall == (sum(familiar) / len(familiar) if familiar else None)
    if count:
        harmonic = 2 / (1 / scores.precision + 1 / scores.recall)
        assert scores.f1 == pytest.approx(harmonic)
    else:
        assert scores.f1 == 0


@given(segmented())
@settings(deadline=None)
def test_scores_of_equal_and_of_swapped_texts(case):
    references, predictions, known = case
    assert score(references, references, known)[:3] == (1, 1, 1)
    one, other = score(references, predictions, known), score(predictions, references, known)
    assert (one.precision, one.recall, one.f1) == (other.recall, other.precision, other.f1)
    assert (one.f1 == 1) == (references == predictions)


def test_tagged_words_by_hand():
    """Three of four and of five words stand right; one of these has another part of speech."""
    expected = [(["我", "喜欢"], ["r", "v"]), (["电视机", "好"], ["n", "a"])]
    found = [(["我", "喜欢"], ["r", "n"]), (["电视", "机", "好"], ["n", "n", "a"])]
    assert tagged_f1(expected, found) == pytest.approx(2 * 2 / (4 + 5))
    assert tagged_f1(expected, expected) == 1.0
    for wrong in (found[:1], [(["我", "喜欢"], ["r"]), found[1]]):
        with pytest.raises(ValueError, match="zip"):
            tagged_f1(expected, wrong)
    with pytest.raises(ValueError, match="expected at least one word"):
        tagged_f1([([], [])], [([], [])])


LONGEST = 112
PAIRS = {"BM", "BE", "MM", "ME", "EB", "ES", "SB", "SS"}

word = st.one_of(st.text("天地人", min_size=1, max_size=40), st.sampled_from(CLAUSE_ENDS))


@given(st.lists(word, max_size=30))
def test_pieces_keep_every_word_and_are_never_too_long(words):
    pieces = segments(words, LONGEST)
    assert [w for piece in pieces for w in piece] == words
    lengths = [sum(map(len, piece)) for piece in pieces]
    assert all(0 < length <= LONGEST for length in lengths)
    for piece, length, following in zip(pieces, lengths, pieces[1:], strict=False):
        ended = piece[-1] in CLAUSE_ENDS and length >= SHORTEST
        assert ended or length + len(following[0]) > LONGEST
    for piece in pieces:
        for n, w in enumerate(piece[:-1], start=1):
            assert not (w in CLAUSE_ENDS and sum(map(len, piece[:n])) >= SHORTEST)


@given(st.text("天地人。！", max_size=400))
def test_characters_are_split_like_words(sentence):
    pieces = segments(sentence, LONGEST)
    assert "".join(c for piece in pieces for c in piece) == sentence
    assert all(0 < len(piece) <= LONGEST for piece in pieces)


@pytest.mark.parametrize("length", [LONGEST, LONGEST + 1, 3 * LONGEST + 5])
def test_words_longer_than_a_piece_are_split(length):
    pieces = segments(["天", "地" * length, "人"], LONGEST)
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
def test_the_most_probable_tags_among_all_valid_ones(scores):
    (tags,) = most_likely_tags([np.array(scores, "float64")])
    assert len(tags) == len(scores)
    assert tags[0] in "BS"
    assert tags[-1] in "ES"
    assert all("".join(pair) in PAIRS for pair in itertools.pairwise(tags))
    # Of several that are equally likely, it may be any.
    assert total(scores, tags) == brute_force(scores)
    # They are those of the words that they say.
    sentence = "天" * len(tags)
    assert to_tags(to_words(sentence, tags)) == tags


def test_the_most_probable_tags_by_hand():
    """Each for itself, M M E; but nothing begins with M, and S M E is impossible too."""
    p = np.array([[0.3, 0.4, 0.0, 0.3], [0.1, 0.6, 0.2, 0.1], [0.1, 0.1, 0.7, 0.1]])
    one = np.array([[0.9, 0.05, 0.04, 0.01]])
    assert most_likely_tags([np.log(p + 1e-30), np.log(one)]) == ["BME", "S"]


def test_the_longest_match_by_hand():
    known = {"研究", "研究生", "生命", "命", "起源"}
    assert longest_match(["研究生命起源", "源起", ""], known) == [
        ["研究生", "命", "起源"],
        ["源", "起"],
        [],
    ]
