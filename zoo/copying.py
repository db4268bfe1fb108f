"""The extended vocabulary of models that copy: ids of source symbols outside the vocabulary."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

import kerasrnn
from kerasrnn import validation
from kerasrnn.validation import PositiveInteger
from kerasrnn.wording import counted
from kerasrnn.zoo import reading
from kerasrnn.zoo.reading import UNKNOWN


class Extension(NamedTuple):
    """The ids of one source text, and the symbols that it adds to the vocabulary."""

    ids: list[int]
    """For each symbol of the source: its id, or 0 if it cannot be copied."""

    symbols: dict[str, int]
    """The ids of the symbols outside the vocabulary, in the form in which targets have them."""

    written: list[str]
    """The same symbols as the source has them, from the first id on."""


@validation.checked
def copied_ids(
    source: keras.layers.Layer,
    target: keras.layers.Layer,
    texts: Sequence[str],
    targets: Sequence[str] | None = None,
    copied_symbols: PositiveInteger = 32,
) -> Any:
    """Prepare texts for a model of `zoo.encoder_decoder(copy=True)`.

    The ids are those of the target's vocabulary, as of `zoo.target_ids`. In each row, the symbols
    of the source outside this vocabulary get the ids after the start symbol, in the order of their
    first occurrence; if there are more than `copied_symbols`, the others cannot be copied, nor can
    a word that the target's vectorizer removes or cuts in several symbols. A symbol of the target
    outside the vocabulary has the id of the equal symbol of the source, if there is one.

    Args:
        source: the vectorizer of the source, as for a `Translator`.
        target: that of the target: both split texts into words, or both into characters.
        texts: source texts.
        targets: target texts, one for each source; None for inference.
        copied_symbols: the same as that of the model.

    Returns:
        Source ids `(batch, source's time)`; with `targets`, `(source ids, previous, target)`, the
        last two `(batch, time)`: a decoder's inputs and targets.

    Raises:
        ValueError: a vectorizer splits otherwise; `texts` or `targets` are not texts, or not as
            many.

    Example: "Zork" and "zilch" are unknown.

        >>> import keras
        >>> from kerasrnn import zoo
        >>> words = keras.layers.TextVectorization(vocabulary=["i", "am", "you", "are"])
        >>> ids, previous, target = zoo.copied_ids(
        ...     words, words, ["I am Zork"], ["you are zork zilch"])
        >>> ids.tolist(), target.tolist()
        ([[2, 3, 8]], [[4, 5, 8, 1, 6]])
    """
    rows = extensions(source, target, reading.as_texts("texts", texts), copied_symbols)
    ids = padded([row.ids for row in rows])
    if targets is None:
        return ids
    targets = reading.as_texts("targets", targets)
    if len(targets) != len(rows):
        raise ValueError(
            f"targets has {counted(len(targets), 'text')}; expected one for each of texts, "
            f"{len(rows)}."
        )
    previous, following = reading.target_ids(target, targets)
    symbols = reading.tokenized(target, targets)
    for n, (row, of_target) in enumerate(zip(rows, symbols, strict=True)):
        for t, symbol in enumerate(of_target):
            if symbol in row.symbols:
                following[n, t] = previous[n, t + 1 : t + 2] = row.symbols[symbol]
    return ids, previous, following


def extensions(
    source: keras.layers.Layer,
    target: keras.layers.Layer,
    texts: Sequence[str],
    copied_symbols: int,
) -> list[Extension]:
    """The extension of the vocabulary by each text."""
    check_vectorizers("copy=True", source, target)
    known = {str(symbol): n for n, symbol in enumerate(target.get_vocabulary())}
    first = len(known) + 2  # after the end and the start
    words = reading.surfaces(source, texts)
    forms = iter(reading.tokenized(target, [*itertools.chain.from_iterable(words)]))
    rows = []
    for of_text in words:
        row = Extension([], {}, [])
        for word in of_text:
            form = next(forms)
            n = known.get(form[0], UNKNOWN) if len(form) == 1 else 0
            if n == UNKNOWN:
                if form[0] not in row.symbols and len(row.symbols) < copied_symbols:
                    row.symbols[form[0]] = first + len(row.symbols)
                    row.written.append(word)
                n = row.symbols.get(form[0], 0)
            row.ids.append(n)
        rows.append(row)
    return rows


def check_vectorizers(option: str, source: keras.layers.Layer, target: keras.layers.Layer) -> None:
    """Raise ValueError unless symbols of the source are also symbols of the target."""
    for name, layer in (("source", source), ("target", target)):
        reading.check_vectorizer(name, layer)
        if isinstance(layer, kerasrnn.SentencePieceVectorization):
            raise ValueError(
                f"{option}: {name} splits texts into pieces, which are not words to copy; expected "
                "words or characters."
            )
    if reading.separator(source) != reading.separator(target):
        raise ValueError(f"{option}: expected words on both sides, or characters on both.")


def padded(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """int32 `(rows, longest)`, at least one wide."""
    ids = np.zeros((len(rows), max(1, *map(len, rows))), "int32")
    for of_row, row in zip(ids, rows, strict=True):
        of_row[: len(row)] = row
    return ids
