"""Text in recipes: vocabularies that travel with the model, and a user's own files.

Symbols are numbered by Keras's `TextVectorization` (words, characters) or by SentencePiece: 0 is
padding, 1 is every symbol that the training data does not have, and the rest follow by how often
they occur in the training data. A model is trained on numbers; what is saved takes text, since
`attach` puts its vectorizers before it, and `core` takes them off again.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kerasrnn.recipes.config import ConfigError
from kerasrnn.recipes.errors import DatasetError

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
    """The symbols of texts, from the most frequent one down.

    Args:
        texts: of the training data.
        size: how many symbols to keep at most.
        split: what a symbol is.
        standardize: of `keras.layers.TextVectorization`.

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
    """The layer that numbers the symbols of a text: `symbols[0]` is 2.

    Args:
        symbols: of `adapted`.
        split: what a symbol is.
        standardize: as they were adapted.
        name: of the layer.
    """
    import keras

    # Given here, the vocabulary is saved in the configuration; set later, it would be saved as
    # lines, which cannot hold the end of a line.
    return keras.layers.TextVectorization(
        vocabulary=list(symbols), split=split, standardize=standardize, name=name
    )


KINDS = ("words", "characters", "pieces")
# Words are those between spaces, without capitals and punctuation.
_CUTS: dict[str, dict[str, Any]] = {
    "words": {"split": "whitespace", "standardize": "lower_and_strip_punctuation"},
    "characters": {"split": "character", "standardize": "lower"},
    "symbols": {"split": "whitespace", "standardize": None},
}


def fitted(kind: str, texts: Sequence[str], size: int | None = None) -> dict[str, Any]:
    """How texts are numbered, learned from the training data, as JSON: see `numbering`.

    Args:
        kind: "words", "characters", "symbols" apart by blanks, as they are, or "pieces"; these are
            SentencePiece's.
        texts: of the training data.
        size: how many symbols to keep at most; None: all words, characters or symbols, and 8,000
            pieces at most. Of few texts there are fewer.

    Raises:
        ConfigError: the texts have more characters than that, each of which is a piece, or
            sentencepiece is not installed.
    """
    if kind != "pieces":
        return {"kind": kind, "symbols": adapted(texts, size, **_CUTS[kind])}
    layer = _pieces(texts, size or 8_000)
    return {"kind": kind, "symbols": layer.get_vocabulary()[2:], "model": layer.model}


def _pieces(texts: Sequence[str], size: int) -> "kerasrnn.SentencePieceVectorization":
    """A layer of so many pieces, or of as many as there are."""
    import kerasrnn

    try:
        return kerasrnn.SentencePieceVectorization.train(texts, size + 2)
    except ModuleNotFoundError:
        raise ConfigError(
            "symbols='pieces': needs sentencepiece: pip install kerasrnn[pieces]."
        ) from None
    except ValueError as error:
        # SentencePiece trains exactly as many as it is told to; how many there are, it says.
        there_are = re.search(r"Please set it to a value <= (\d+)", str(error))
        if there_are and int(there_are[1]) - 2 < size:
            return _pieces(texts, int(there_are[1]) - 2)
        fewest = re.search(r"required_chars\. \d+ vs (\d+)", str(error))
        if fewest:
            raise ConfigError(
                f"vocabulary={size}: expected {int(fewest[1]) - 2} at least, since each character "
                "of the texts is a piece."
            ) from None
        raise ConfigError(f"vocabulary={size}: {error}") from None


def numbering(fit: Mapping[str, Any], name: str = "vectorizer") -> "keras.layers.Layer":
    """The layer that numbers texts, of what `fitted` learned: `fit["symbols"][0]` is 2."""
    if fit["kind"] != "pieces":
        return vectorizer(fit["symbols"], **_CUTS[fit["kind"]], name=name)
    import kerasrnn

    return kerasrnn.SentencePieceVectorization(fit["model"], name=name)


def rewritten(kind: str, texts: Sequence[str]) -> list[str]:
    """Texts as a model that knows all of their symbols writes them: without capitals, say.

    Args:
        kind: of `fitted`; pieces hold texts as they are.
        texts: any.
    """
    if kind == "pieces":
        return list(texts)
    from kerasrnn.zoo import reading

    return reading.readable(numbering({"kind": kind, "symbols": [" "]}), texts)


def described(layer: "keras.layers.Layer") -> dict[str, Any]:
    """How a layer numbers texts, as JSON: see docs/export.md."""
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


def attach(
    model: "keras.Model",
    vectorizers: Mapping[str, "keras.layers.Layer"],
    longest: int | None = None,
) -> "keras.Model":
    """A model that takes text where the given one takes numbers.

    Args:
        model: functional.
        vectorizers: by the name of the input that each is for.
        longest: how many symbols of a text are read, where there is a limit; what follows is cut
            off. Of texts without a symbol, a step of padding is read.

    Returns:
        A model with the same inputs, save that those named are strings `(batch,)`.
    """
    import keras

    whole, inner = [], []
    for tensor in model.inputs:
        if tensor.name in vectorizers:
            whole.append(keras.Input((), dtype="string", name=tensor.name))
            numbers = vectorizers[tensor.name](whole[-1])
            if longest is not None:
                numbers = keras.ops.pad(numbers, ((0, 0), (0, 1)))[:, :longest]
            inner.append(numbers)
        else:
            whole.append(keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=tensor.name))
            inner.append(whole[-1])
    outputs = model(inner if len(inner) > 1 else inner[0])
    # The layer that puts it out is the model itself, and gives the output its name.
    return keras.Model(whole if len(whole) > 1 else whole[0], outputs, name=f"{model.name}_of_text")


def core(model: "keras.Model") -> "keras.Model":
    """The model that `attach` was given."""
    import keras

    inner = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    return inner[0] if len(inner) == 1 else model


def symbols_of(model: "keras.Model", name: str = "vectorizer") -> list[str]:
    """The vocabulary of a model's vectorizer, by number: padding and unknown first."""
    return model.get_layer(name).get_vocabulary()


SHOWN = 20
"""So many unknown symbols are named."""


def unknown_symbols(layer: "keras.layers.Layer", texts: Sequence[str]) -> list[str]:
    """What of the texts a model reads as unknown, each symbol once.

    Args:
        layer: the one that numbers the texts.
        texts: of `predict`.

    Raises:
        DatasetError: there is nothing in a text that the model knows.
    """
    from kerasrnn.zoo import reading

    unknown: dict[str, None] = {}
    for text in texts:
        known, others = reading.known_and_unknown(layer, text)
        if not known and not text.isspace():
            raise DatasetError(
                f"{text!r}: expected a text with symbols that the model knows; found none."
            )
        unknown |= dict.fromkeys(others)
    return list(unknown)


def remark_on_unknown(symbols: Sequence[str]) -> str:
    """What the user is told of unknown symbols: one at least."""
    shown = ", ".join(map(repr, symbols[:SHOWN]))
    if len(symbols) > SHOWN:
        shown += f" and {len(symbols) - SHOWN} more"
    return (
        f"the model does not know {shown}: "
        f"{'it is' if len(symbols) == 1 else 'they are'} read as unknown."
    )


def checked(text: str, what: str = "a text") -> str:
    """A text that the user has given, as it is.

    Raises:
        DatasetError: it has nothing but white space, or is not UTF-8.
    """
    if not text.strip():
        raise DatasetError(f"{text!r}: expected {what}; found none.")
    try:
        text.encode()
    except UnicodeEncodeError:  # Python keeps the bytes of an argument that it cannot decode
        raise DatasetError(f"{text!r}: expected {what} in UTF-8.") from None
    return text


# Not those that move on in a text, nor those from U+0080 on: text that was once in Windows-1252 has
# them in the place of dashes and quotes.
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")


def read_text(path: str | Path) -> str:
    """A file in UTF-8.

    Raises:
        DatasetError: it cannot be read, is not UTF-8 or has a control character (the line is
            named), or is empty.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}.") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The error's own bytes: a mark of the byte order has been taken off them.
        line = error.object.count(b"\n", 0, error.start) + 1
        found = f"byte {error.object[error.start]:#04x}"
        raise DatasetError(f"{path}, line {line}: expected UTF-8 text; found {found}.") from None
    if not text.strip():
        raise DatasetError(f"{path}: expected text; found none.")
    control = CONTROL.search(text)
    if control:
        line = text.count("\n", 0, control.start()) + 1
        hint = " Is it text in UTF-16, or no text at all?" if control[0] == "\0" else ""
        raise DatasetError(
            f"{path}, line {line}: expected text; found the control character "
            f"U+{ord(control[0]):04X}.{hint}"
        )
    return text.replace("\r\n", "\n")
