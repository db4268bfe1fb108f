"""Vocabularies that travel with the model, and files of a user's own."""

import collections
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasrnn import zoo
from kerasrnn.recipes.base.config import ConfigError
from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.tasks import text

pytestmark = pytest.mark.tensorflow

TEXTS = ["a cat and a dog", "a dog and a cow", "the dog"]


def tagger(size):
    return zoo.many_to_many(zoo.Tokens(size, 4), zoo.Classes(3), cell="gru", units=3, name="tagger")


def test_symbols_are_sorted_by_frequency():
    assert text.adapted(["a a a b b c", "a b d d d d d d"]) == ["d", "a", "b", "c"]
    assert text.adapted(["a a a b b c"], size=2) == ["a", "b"]
    assert text.adapted(["aab", "a\n\n\n\n b"], split="character") == ["\n", "a", "b", " "]
    lowered = text.adapted(["The cat. the CAT! The end"], standardize="lower_and_strip_punctuation")
    assert lowered == ["the", "cat", "end"]


@settings(max_examples=15)
@given(st.lists(st.text("abcd\n é", min_size=1), min_size=1, max_size=4), st.integers(1, 8))
def test_symbols_against_a_counter(texts, size):
    counts = collections.Counter("".join(texts))
    symbols = text.adapted(texts, split="character")
    assert set(symbols) == set(counts)
    assert [counts[s] for s in symbols] == sorted(counts.values(), reverse=True)
    assert text.adapted(texts, size, split="character") == symbols[:size]


def test_ids_are_positions_in_the_vocabulary():
    layer = text.vectorizer(["e", "\n", " ", "h"], split="character")
    np.testing.assert_array_equal(layer(["he\n he?", "e"])[0], [5, 2, 3, 4, 5, 2, 1])
    np.testing.assert_array_equal(layer(["he\n he?", "e"])[1], [2, 0, 0, 0, 0, 0, 0])
    layer = text.vectorizer(["dog", "cat"], standardize="lower_and_strip_punctuation")
    np.testing.assert_array_equal(layer(["Cat, dog: cow!"]), [[3, 2, 1]])


@pytest.mark.parametrize(
    ("kind", "line", "cut"),
    [
        ("words", "The DOG, a cow!", ["the", "dog", "a", "cow"]),
        ("characters", "A Dog", ["a", " ", "d", "o", "g"]),
    ],
)
def test_fitted_vectorizers_round_trip_through_json(kind, line, cut):
    fit = json.loads(json.dumps(text.fitted(kind, TEXTS, 100)))
    assert fit["kind"] == kind
    expected = [fit["symbols"].index(symbol) + 2 for symbol in cut]
    np.testing.assert_array_equal(text.numbering(fit)([line])[0], expected)
    assert len(text.fitted(kind, TEXTS, 3)["symbols"]) == 3


def test_pieces_are_those_of_sentencepiece():
    sentencepiece = pytest.importorskip("sentencepiece")
    import base64

    fit = json.loads(json.dumps(text.fitted("pieces", TEXTS * 20, 14)))
    processor = sentencepiece.SentencePieceProcessor(model_proto=base64.b64decode(fit["model"]))
    assert fit["symbols"] == [processor.id_to_piece(n) for n in range(2, 16)]
    numbers = text.numbering(fit)(["a dog", "and the cat"])
    for row, line in zip(np.array(numbers), ("a dog", "and the cat"), strict=True):
        assert processor.decode([int(n) for n in row if n]) == line


def test_the_number_of_pieces_is_limited_by_the_texts():
    """At most as many as are asked for, as of words; and at least the characters."""
    pytest.importorskip("sentencepiece")
    words = {
        kind: len(text.fitted(kind, TEXTS, 100_000)["symbols"]) for kind in ("words", "pieces")
    }
    assert words["words"] == 6
    characters = set("".join(TEXTS)) | {"▁"}  # which stands for the space
    least = len(characters - {" "})
    assert least < words["pieces"] < 30
    assert len(text.fitted("pieces", TEXTS, least)["symbols"]) == least
    with pytest.raises(ConfigError, match=f"vocabulary={least - 1}: expected at least {least}"):
        text.fitted("pieces", TEXTS, least - 1)


def test_texts_rewritten_as_by_the_model():
    """By hand: what a model of such symbols, all of which it knows, can write at best."""
    texts = ["The DOG,  a cow!", "", "Ä  b"]
    assert text.rewritten("pieces", texts) == texts
    assert text.rewritten("symbols", texts) == ["The DOG, a cow!", "", "Ä b"]
    assert text.rewritten("words", texts)[:2] == ["the dog a cow", ""]
    assert text.rewritten("characters", texts)[0] == "the dog,  a cow!"
    assert text.rewritten("words", ["?!"]) == [""]
    assert text.rewritten("words", []) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected text; found none"),
        (b" \n\t\n", "expected text; found none"),
        (b"one\ntw\xffo\n", "line 2: expected UTF-8 text; found byte 0xff"),
        (b"\xef\xbb\xbfone\ntwo\n\xe4\xbd\n", "line 3: expected UTF-8 text; found byte 0xe4"),
        (None, "cannot be read: No such file or directory"),
        (b"one\ntw\0o\n", r"line 2: expected text; found the control .* U\+0000. Is it UTF-16"),
        ("on\ne".encode("utf-16-le"), r"line 1: expected text; found the control .* U\+0000"),
        (b"one\n\ntwo\x1b[0m", r"line 3: expected text; found the control character U\+001B\.$"),
        (b"one\x7f", r"line 1: expected text; found the control character U\+007F\.$"),
    ],
)
def test_files_that_are_not_text(tmp_path, content, message):
    path = tmp_path / "mine.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match=f"mine.txt.*{message}"):
        text.read_text(path)


def test_control_characters_that_texts_have(tmp_path):
    """White space, and what Windows-1252 has in the place of others."""
    content = "one\ttwo\x0b\x0cthree\x96four\n"
    (tmp_path / "mine.txt").write_text(content, encoding="utf-8")
    assert text.read_text(tmp_path / "mine.txt") == content


def test_only_some_of_many_unknown_symbols_are_listed():
    said = text.remark_on_unknown([chr(0x4E00 + n) for n in range(23)])
    quoted = "'\u4e00', '\u4e01', "
    assert said.startswith(quoted)
    assert said.count("', '") == 19
    assert "'\u4e13' and 3 more are not in the model's vocabulary" in said


def test_folders_are_not_text(tmp_path):
    with pytest.raises(DatasetError, match="cannot be read: Is a directory"):
        text.read_text(tmp_path)


def test_byte_order_marks_and_other_line_ends_are_read(tmp_path):
    (tmp_path / "mine.txt").write_bytes("\ufeffhé\r\nthere\n".encode())
    assert text.read_text(tmp_path / "mine.txt") == "hé\nthere\n"
