"""Lexical constraints: phrases that generated sequences must not contain, or must contain."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.decoding.processors import IMPOSSIBLE, History, LogitsProcessor

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class ForbiddenPhrases(LogitsProcessor):
    """Forbids phrases: the last symbol of a phrase, wherever its other symbols precede it.

    The prompt counts.

    Args:
        phrases: a list of phrases, each a list of ids.

    Raises:
        ValueError: there is no phrase, a phrase is empty, or an id is not a class of the decoder.

    Example:

        >>> import kerasrnn
        >>> kerasrnn.decoding.ForbiddenPhrases([[4, 2], [7]])
        ForbiddenPhrases(phrases=[[4, 2], [7]])
    """

    def __init__(self, phrases: Sequence[Sequence[int]]) -> None:
        self.phrases = _checked("phrases", phrases)

    def check(self, size: int, end: int | None) -> None:
        _check_classes(self.phrases, size)

    def __call__(self, logits: Tensor, history: History, state: Any) -> Tensor:
        ids = _array(self.phrases)
        lengths = (ids > 0).sum(axis=1)
        last = ids[np.arange(len(ids)), lengths - 1]
        # Before the last symbol, aligned to the right: -1 in front of a phrase fits any symbol.
        before = np.full((len(ids), ids.shape[1] - 1), -1, "int32")
        for row, phrase in zip(before, self.phrases, strict=True):
            row[before.shape[1] - len(phrase) + 1 :] = phrase[:-1]
        found = _last_symbols(history, before.shape[1])  # (rows, width)
        fits = (ops.expand_dims(found, 1) == before) | (before < 0)
        fits = ops.cast(ops.all(fits, axis=-1), "float32")  # (rows, phrases)
        ends = ops.cast(last[:, None] == ops.arange(history.size, dtype="int32"), "float32")
        return ops.where(ops.matmul(fits, ends) > 0, IMPOSSIBLE, logits)

    def get_config(self) -> dict[str, Any]:
        return {"phrases": self.phrases}


@keras.saving.register_keras_serializable(package="kerasrnn")
class RequiredPhrases(LogitsProcessor):
    """Only sequences that contain given phrases are found, by a beam.

    The search divides the beam by the number of the phrases' symbols that a hypothesis has so far,
    as in Post & Vilar (2018), "Fast lexically constrained decoding with dynamic beam allocation for
    neural machine translation": with C symbols in all phrases, each of the C + 1 numbers gets an
    equal share of the beam's width, higher numbers the remainder, and what one number cannot use
    the most probable of the others do. Hypotheses that continue a phrase are thus never crowded
    out by more probable ones. Unlike there, every continuation of a hypothesis is a candidate, not
    only the most probable ones. The symbols of a phrase follow each other directly; those of
    unfinished phrases do not count any more once another symbol follows. Several phrases may
    overlap; a phrase that is given twice must occur once.

    A hypothesis cannot end, nor count as a result at the maximum length, while a phrase is missing.
    Choose a width of at least C + 1. If no sequence that the search follows has all phrases within
    the maximum length, the row's result has the length 0 and the score `IMPOSSIBLE`. The prompt
    does not count.

    Args:
        phrases: a list of phrases for all rows, each a list of ids. For phrases of each row, use
            the argument `required` of a generator's call, which creates this processor.

    Raises:
        ValueError: there is no phrase, a phrase is empty or contains the end, or an id is not a
            class of the decoder; the sequences are sampled.

    Example:

        >>> import kerasrnn
        >>> kerasrnn.decoding.RequiredPhrases([[4, 2], [7]])
        RequiredPhrases(phrases=[[4, 2], [7]])
    """

    constrains = True

    def __init__(self, phrases: Any) -> None:
        # Ids for each row are a tensor, from a generator's call.
        self.of_rows = len(getattr(phrases, "shape", ())) == 3
        self.phrases = phrases if self.of_rows else _checked("phrases", phrases)

    @property
    def most(self) -> int:
        """The largest number of symbols in the phrases of a row."""
        if self.of_rows:
            return self.phrases.shape[1] * self.phrases.shape[2]
        return sum(map(len, self.phrases))

    def check(self, size: int, end: int | None) -> None:
        if self.of_rows:
            return
        _check_classes(self.phrases, size)
        for k, phrase in enumerate(self.phrases):
            if end in phrase:
                raise ValueError(f"phrases[{k}]={phrase!r}: contains the end, {end}.")

    def initialize(self, history: History) -> Any:
        """The phrases, `(rows, phrases, length)`, and which of them have occurred."""
        phrases = self.phrases if self.of_rows else _array(self.phrases)[None]
        shape = (history.rows, *phrases.shape[1:])
        phrases = ops.broadcast_to(ops.cast(phrases, "int32"), shape)
        return {"phrases": phrases, "done": ops.all(phrases == 0, axis=-1)}

    def advance(self, history: History, state: Any) -> Any:
        whole = self._continued(history, state["phrases"])
        lengths = _lengths(state["phrases"])
        ends = [fits & (lengths == n) for n, fits in enumerate(whole) if n]
        done = state["done"] | (history.step > 0) & ops.any(ops.stack(ends), axis=0)
        return {**state, "done": done}

    def __call__(self, logits: Tensor, history: History, state: Any) -> Tensor:
        if history.end is None:
            return logits
        missing = ops.expand_dims(ops.any(~state["done"], axis=-1), -1)
        early = missing & (ops.arange(history.size) == history.end)
        return ops.where(early, IMPOSSIBLE, logits)

    def goal(self, state: Any) -> Tensor:
        """C, int32 `(rows,)`: the number of symbols in the phrases of each row."""
        return ops.sum(_lengths(state["phrases"]), axis=-1)

    def progress(self, history: History, state: Any) -> Tensor:
        """How many of them a hypothesis has after each class, int32 `(rows, size)`."""
        phrases, done = state["phrases"], state["done"]
        lengths = _lengths(phrases)
        before = ops.sum(ops.where(done, lengths, 0), axis=-1, keepdims=True)
        classes = ops.arange(history.size, dtype="int32")
        whole = self._continued(history, phrases)
        progress = before
        for p in range(phrases.shape[1]):
            of_phrase = ops.zeros((1, 1), dtype="int32")
            for n in range(phrases.shape[2]):
                # Its first n symbols are the last ones, and the class is the next.
                fits = whole[n][:, p] & ~done[:, p] & (lengths[:, p] > n)
                follows = ops.expand_dims(fits, 1) & (classes == phrases[:, p, n : n + 1])
                of_phrase = ops.where(follows, n + 1, of_phrase)
            progress = progress + of_phrase
        return progress

    def _continued(self, history: History, phrases: Tensor) -> list[Tensor]:
        """For n from 0 to the length: whether the last n symbols of a row are the first n of each
        phrase, boolean `(rows, phrases)`."""
        width = phrases.shape[2]
        last = ops.expand_dims(_last_symbols(history, width, prompt=False), 1)
        whole = [ops.ones_like(phrases[..., 0], dtype="bool")]
        for n in range(1, width + 1):
            whole.append(ops.all(last[..., width - n :] == phrases[..., :n], axis=-1))
        return whole

    def get_config(self) -> dict[str, Any]:
        phrases = self.phrases
        return {"phrases": ops.convert_to_numpy(phrases).tolist() if self.of_rows else phrases}


def _last_symbols(history: History, width: int, prompt: bool = True) -> Tensor:
    """The last symbols of each row, `(rows, width)`, with -2 before the first one."""
    symbols = history.symbols if prompt else history.generated
    lengths = history.lengths if prompt else history.step
    places = ops.reshape(ops.cast(lengths, "int32"), (-1, 1)) + np.arange(-width, 0, dtype="int32")
    places = ops.broadcast_to(places, (history.rows, width))
    found = ops.take_along_axis(symbols, ops.maximum(places, 0), axis=1)
    return ops.where(places >= 0, found, -2)


def _lengths(phrases: Tensor) -> Tensor:
    return ops.sum(ops.cast(phrases > 0, "int32"), axis=-1)


def _array(phrases: Sequence[Sequence[int]]) -> np.ndarray:
    """int32 `(phrases, longest)`, right-padded with 0."""
    ids = np.zeros((len(phrases), max(map(len, phrases))), "int32")
    for row, phrase in zip(ids, phrases, strict=True):
        row[: len(phrase)] = phrase
    return ids


def _checked(name: str, phrases: Any) -> list[list[int]]:
    if isinstance(phrases, (str, bytes)) or not isinstance(phrases, (Sequence, np.ndarray)):
        raise validation.ArgumentError(name, phrases, "a list of phrases, each a list of ids")
    if not len(phrases):
        raise ValueError(f"{name}={phrases!r}: expected at least one phrase.")
    checked = []
    for k, phrase in enumerate(phrases):
        is_list = isinstance(phrase, (Sequence, np.ndarray)) and not isinstance(
            phrase, (str, bytes)
        )
        if not is_list or not len(phrase):
            raise ValueError(f"{name}[{k}]={phrase!r}: expected a list of ids, not empty.")
        checked.append(
            [validation.integer(f"{name}[{k}][{n}]", each, 1) for n, each in enumerate(phrase)]
        )
    return checked


def _check_classes(phrases: Sequence[Sequence[int]], size: int) -> None:
    for k, phrase in enumerate(phrases):
        for n, each in enumerate(phrase):
            validation.integer(f"phrases[{k}][{n}]", each, 1, size - 1)
