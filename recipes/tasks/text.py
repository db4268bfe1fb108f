"""Text in recipes: vocabularies stored in the model, and the user's own files.

Symbols are numbered by Keras's `TextVectorization` (words, characters) or by SentencePiece: 0 is
padding, 1 is any symbol that does not occur in the training data, and the others follow by
frequency in the training data. A model is trained on ids; the saved model reads texts, since it
includes its vectorizers: see `kerasrnn.zoo.of_texts`.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kerasrnn.recipes.base.config import ConfigError
from kerasrnn.recipes.base.errors import DatasetError

if TYPE_CHECKING:
    import keras

    import kerasrnn

Split = Literal["whitespace", "character"]


def adapted(
    texts: Sequence[str],
    size: int | None = None,
    split: Split = "whitespace",
    standardize: str | None = None,
) -> list[str]:
    """The symbols of texts, by decreasing frequency.

    Args:
        texts: the training texts.
        size: the largest number of symbols.
        split: how texts are split into symbols.
        standardize: see `keras.layers.TextVectorization`.

    Returns:
        The symbols without padding and unknown.
    """
    import keras

    layer = keras.layers.TextVectorization(
        max_tokens=None if size is None else size + 2, split=split, standardize=standardize
    )
    layer.adapt(texts)
    return [str(symbol) for symbol in layer.get_vocabulary()[2:]]


def vectorizer(
    symbols: Sequence[str],
    split: Split = "whitespace",
    standardize: str | None = None,
    name: str = "vectorizer",
) -> "keras.layers.TextVectorization":
    """The layer that maps the symbols of a text to ids: `symbols[0]` has the id 2.

    Args:
        symbols: as returned by `adapted`.
        split: how texts are split into symbols.
        standardize: the same as for `adapted`.
        name: of the layer.
    """
    import keras

    # Passed here, the vocabulary is saved in the configuration; set later, it would be saved as
    # lines, which cannot contain a newline.
    return keras.layers.TextVectorization(
        vocabulary=list(symbols), split=split, standardize=standardize, name=name
    )


KINDS = ("words", "characters", "pieces")
# Words are separated by spaces, in lower case and without punctuation.
_CUTS: dict[str, dict[str, Any]] = {
    "words": {"split": "whitespace", "standardize": "lower_and_strip_punctuation"},
    "characters": {"split": "character", "standardize": "lower"},
    "symbols": {"split": "whitespace", "standardize": None},
}


def fitted(kind: str, texts: Sequence[str], size: int | None = None) -> dict[str, Any]:
    """Learn a vocabulary from the training data, as JSON: see `numbering`.

    Args:
        kind: "words"; "characters"; "symbols", which are separated by spaces and unmodified; or
            "pieces", from SentencePiece.
        texts: the training texts.
        size: the largest number of symbols; None: all words, characters or symbols, and at most
            8,000 pieces. Few texts may have fewer.

    Raises:
        ConfigError: the texts have more than `size` characters, since each is a piece; or
            sentencepiece is not installed.
    """
    if kind != "pieces":
        return {"kind": kind, "symbols": adapted(texts, size, **_CUTS[kind])}
    layer = _pieces(texts, size or 8_000)
    return {"kind": kind, "symbols": layer.get_vocabulary()[2:], "model": layer.model}


def _pieces(texts: Sequence[str], size: int) -> "kerasrnn.SentencePieceVectorization":
    """A layer with this number of pieces, or as many as the texts allow."""
    import kerasrnn

    try:
        return kerasrnn.SentencePieceVectorization.train(texts, size + 2)
    except ModuleNotFoundError:
        raise ConfigError(
            "symbols='pieces': needs sentencepiece; install it with "
            "`pip install 'kerasrnn[pieces]'`."
        ) from None
    except ValueError as error:
        # SentencePiece fails if it cannot train exactly `size` pieces; its message has the maximum.
        largest = re.search(r"Please set it to a value <= (\d+)", str(error))
        if largest and int(largest[1]) - 2 < size:
            return _pieces(texts, int(largest[1]) - 2)
        smallest = re.search(r"required_chars\. \d+ vs (\d+)", str(error))
        if smallest:
            raise ConfigError(
                f"vocabulary={size}: expected at least {int(smallest[1]) - 2}, since each "
                "character of the texts is a piece."
            ) from None
        raise ConfigError(f"vocabulary={size}: {error}") from None


def numbering(fit: Mapping[str, Any], name: str = "vectorizer") -> "keras.layers.Layer":
    """The layer that maps texts to ids, made from `fitted`: `fit["symbols"][0]` has the id 2."""
    if fit["kind"] != "pieces":
        return vectorizer(fit["symbols"], **_CUTS[fit["kind"]], name=name)
    import kerasrnn

    return kerasrnn.SentencePieceVectorization(fit["model"], name=name)


def rewritten(kind: str, texts: Sequence[str]) -> list[str]:
    """Normalize texts as a model does, for example to lower case.

    Args:
        kind: see `fitted`; pieces do not change texts.
        texts: any texts.
    """
    if kind == "pieces":
        return list(texts)
    from kerasrnn.zoo import reading

    return reading.readable(numbering({"kind": kind, "symbols": [" "]}), texts)


def described(layer: "keras.layers.Layer") -> dict[str, Any]:
    """How a layer maps texts to ids, as JSON: see docs/export.md."""
    import kerasrnn

    if isinstance(layer, kerasrnn.SentencePieceVectorization):
        pieces = layer.get_vocabulary()
        scores = [round(layer.processor.get_score(n), 6) for n in range(len(pieces))]
        return {"cut": "pieces", "symbols": pieces, "scores": scores, "separator": ""}
    config = layer.get_config()
    characters, standardize = config["split"] == "character", config["standardize"] or ""
    return {
        "cut": "characters" if characters else "blanks",
        "lower": standardize.startswith("lower"),
        "strip_punctuation": standardize.endswith("punctuation"),
        "symbols": [str(symbol) for symbol in layer.get_vocabulary()],
        "separator": "" if characters else " ",
    }


SHOWN = 20
"""The largest number of unknown symbols in a warning."""


def unknown_symbols(layer: "keras.layers.Layer", texts: Sequence[str]) -> list[str]:
    """The symbols of texts that a model reads as unknown, without duplicates.

    Args:
        layer: the vectorizer.
        texts: the inputs of `predict`.

    Raises:
        DatasetError: a text has no symbol in the model's vocabulary.
    """
    from kerasrnn.zoo import reading

    unknown: dict[str, None] = {}
    for text in texts:
        known, others = reading.known_and_unknown(layer, text)
        if not known and not text.isspace():
            raise DatasetError(f"{text!r}: expected symbols in the model's vocabulary; found none.")
        unknown |= dict.fromkeys(others)
    return list(unknown)


def remark_on_unknown(symbols: Sequence[str]) -> str:
    """The warning about one or more unknown symbols."""
    shown = ", ".join(map(repr, symbols[:SHOWN]))
    if len(symbols) > SHOWN:
        shown += f" and {len(symbols) - SHOWN} more"
    verb = "is" if len(symbols) == 1 else "are"
    return f"{shown} {verb} not in the model's vocabulary (read as unknown)."


def checked(text: str, what: str = "a text") -> str:
    """Check a text given by the user; returns it unchanged.

    Raises:
        DatasetError: the text is blank, or not UTF-8.
    """
    if not text.strip():
        raise DatasetError(f"{text!r}: expected {what}; found none.")
    try:
        text.encode()
    except UnicodeEncodeError:  # Python keeps undecodable bytes of an argument
        raise DatasetError(f"{text!r}: expected {what} in UTF-8.") from None
    return text


# Except white space, and except those from U+0080 on: text converted from Windows-1252 has them in
# place of dashes and quotes.
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")


def read_text(path: str | Path) -> str:
    """Read a UTF-8 file.

    Raises:
        DatasetError: the file cannot be read, is not UTF-8 or has a control character (the message
            names the line), or is empty.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}.") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # Use the error's bytes, from which the byte order mark has been removed.
        line = error.object.count(b"\n", 0, error.start) + 1
        found = f"byte {error.object[error.start]:#04x}"
        raise DatasetError(f"{path}, line {line}: expected UTF-8 text; found {found}.") from None
    if not text.strip():
        raise DatasetError(f"{path}: expected text; found none.")
    control = CONTROL.search(text)
    if control:
        line = text.count("\n", 0, control.start()) + 1
        hint = " Is it UTF-16, or not a text file?" if control[0] == "\0" else ""
        raise DatasetError(
            f"{path}, line {line}: expected text; found the control character "
            f"U+{ord(control[0]):04X}.{hint}"
        )
    return text.replace("\r\n", "\n")
