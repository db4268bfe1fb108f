"""From texts to symbols and back: shared by training, evaluation, prediction and exports.

The result of a vectorizer in a graph is authoritative. Its symbols as strings come from the
vectorizer itself, and are never recomputed in Python: it lowercases only ASCII letters, and splits
only at ASCII white space.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

import kerasrnn
from kerasrnn.keras_internals import preprocessed
from kerasrnn.validation import ArgumentError

BLANK = "\u2581"
"""SentencePiece's symbol for a space."""

UNKNOWN = 1
"""The id of every symbol unknown to a vectorizer."""


def tokenized(vectorizer: keras.layers.Layer, texts: Sequence[str]) -> list[list[str]]:
    """The symbols of each text: as many as the vectorizer's ids, in the same order."""
    if not len(texts):
        return []
    if isinstance(vectorizer, kerasrnn.SentencePieceVectorization):
        return vectorizer.processor.encode(list(texts), out_type=str)
    longest = vectorizer.get_config()["output_sequence_length"]
    rows = preprocessed(vectorizer, list(texts)).to_list()
    return [[symbol.decode() for symbol in row[:longest]] for row in rows]


def tokens(vectorizer: keras.layers.Layer, text: str) -> list[str]:
    """The symbols of one text: see `tokenized`."""
    return tokenized(vectorizer, [text])[0]


def surfaces(vectorizer: keras.layers.TextVectorization, texts: Sequence[str]) -> list[list[str]]:
    """For each symbol of `tokenized`, the corresponding part of the original text.

    A vectorizer changes letters and punctuation, but neither inserts nor removes separators. So the
    words of the original text, standardized one by one, have the text's symbols: a word of
    punctuation may have none, and a character several.
    """
    config = vectorizer.get_config()
    plain = keras.layers.TextVectorization(split=config["split"], standardize=None)
    written = tokenized(plain, texts)
    parts = iter(tokenized(vectorizer, [*itertools.chain.from_iterable(written)]))
    rows = [[word for word in words for _ in next(parts)] for words in written]
    longest = config["output_sequence_length"]
    return [row[:longest] for row in rows]


def known_and_unknown(vectorizer: keras.layers.Layer, text: str) -> tuple[list[str], list[str]]:
    """The parts of a text in a vectorizer's vocabulary, and the others, each once.

    Spaces are neither. Words and characters are in their original form, pieces in SentencePiece's.
    """
    cut = tokenized if isinstance(vectorizer, kerasrnn.SentencePieceVectorization) else surfaces
    sides: tuple[dict[str, None], dict[str, None]] = ({}, {})
    (symbols,), (ids,) = cut(vectorizer, [text]), numbered(vectorizer, [text])
    for symbol, number in zip(symbols, ids, strict=False):  # without symbols, one padding id
        shown = symbol.replace(BLANK, " ").strip()
        if shown:
            sides[int(number) == UNKNOWN][shown] = None
    return list(sides[False]), list(sides[True])


def joined(vectorizer: keras.layers.Layer, symbols: Sequence[str]) -> str:
    """The text of a list of symbols."""
    if isinstance(vectorizer, kerasrnn.SentencePieceVectorization):
        return "".join(symbols).replace(BLANK, " ").strip(" ")
    return separator(vectorizer).join(symbols)


def readable(vectorizer: keras.layers.Layer, texts: Sequence[str]) -> list[str]:
    """The texts as their symbols express them: the best possible output of a model.

    With pieces the texts are unchanged: SentencePiece preserves case and punctuation.
    """
    if isinstance(vectorizer, kerasrnn.SentencePieceVectorization):
        return list(texts)
    return [joined(vectorizer, symbols) for symbols in tokenized(vectorizer, texts)]


def separator(vectorizer: keras.layers.Layer) -> str:
    """The separator of two symbols in a text."""
    if isinstance(vectorizer, kerasrnn.SentencePieceVectorization):
        return ""
    return " " if vectorizer.get_config()["split"] == "whitespace" else ""


def check_vectorizer(name: str, layer: Any) -> None:
    """Raise ValueError unless the layer converts words, characters or pieces to ids one by one."""
    if isinstance(layer, kerasrnn.SentencePieceVectorization):
        return
    config = layer.get_config() if isinstance(layer, keras.layers.TextVectorization) else {}
    if config.get("split") not in ("whitespace", "character"):
        raise ValueError(
            f"{name}={layer!r}: expected a TextVectorization whose split is 'whitespace' or "
            "'character', or a kerasrnn.SentencePieceVectorization."
        )
    if callable(config["standardize"]) or isinstance(config["standardize"], dict):
        raise ValueError(
            f"{name}: standardize={config['standardize']!r}: expected one of Keras's names, or "
            "None."
        )
    for option, expected in (("output_mode", "int"), ("ngrams", None), ("ragged", False)):
        if config[option] != expected:
            raise ValueError(f"{name}: {option}={config[option]!r}: expected {expected!r}.")


def as_texts(name: str, values: Any) -> list[str]:
    """Convert a one-dimensional collection of strings to a list; bytes are decoded as UTF-8.

    Raises:
        ValueError: it is not such a collection, or is empty; or an entry, which is named, is not a
            text.
    """
    if values is None or isinstance(values, (str, bytes, dict, set, frozenset)):
        raise ArgumentError(name, values, "a list of texts")
    if getattr(values, "ndim", 1) != 1:
        raise ValueError(
            f"{name} has the shape {tuple(values.shape)}; expected a list of texts, of one "
            "dimension."
        )
    if ops.is_tensor(values):
        values = ops.convert_to_numpy(values)
    try:
        rows = list(values)
    except TypeError:
        raise ArgumentError(name, values, "a list of texts") from None
    if not rows:
        raise ArgumentError(name, rows, "a list of texts")
    texts = []
    for n, text in enumerate(rows):
        try:
            text = text.decode() if isinstance(text, bytes) else text
            if not isinstance(text, str):
                raise ArgumentError(f"{name}[{n}]", text, "a text")
            text.encode()
        except UnicodeError:
            raise ArgumentError(f"{name}[{n}]", text, "text that can be encoded as UTF-8") from None
        texts.append(str(text))
    return texts


def target_ids(target: keras.layers.Layer, texts: Sequence[str]) -> tuple[Any, Any]:
    """Prepare target texts for `fit`: a decoder's inputs and targets.

    Args:
        target: the vectorizer, as for a `Translator`.
        texts: target texts.

    Returns:
        `(previous, target)`: ids `(batch, time)` each, the first after a start symbol, the second
        followed by an end symbol.

    Raises:
        ValueError: `texts` is empty, or contains something other than texts.

    Example:

        >>> import keras
        >>> from kerasrnn import zoo
        >>> sounds = keras.layers.TextVectorization(vocabulary=["AE", "B"], standardize=None)
        >>> previous, target = zoo.target_ids(sounds, ["B AE B", "B"])
        >>> previous.tolist(), target.tolist()
        ([[5, 3, 2, 3], [5, 3, 0, 0]], [[3, 2, 3, 4], [3, 4, 0, 0]])
    """
    check_vectorizer("target", target)
    ids = np.pad(numbered(target, as_texts("texts", texts)), ((0, 0), (0, 1)))
    end = len(target.get_vocabulary())
    previous = np.insert(ids[:, :-1], 0, end + 1, axis=1)
    ids[np.arange(len(ids)), (ids > 0).sum(axis=1)] = end
    return previous, ids


def numbered(vectorizer: keras.layers.Layer, texts: Sequence[str]) -> np.ndarray:
    """Convert texts to ids, int32 `(batch, time)`, padded with zeros."""
    return ops.convert_to_numpy(vectorizer(ops.convert_to_tensor(list(texts)))).astype("int32")
