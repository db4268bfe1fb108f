"""Logits processors, which change the scores of the symbols before one is chosen.

    log p_t = log_softmax(logits_t)
    scores_t = processor_n(... processor_1(log p_t))

Samplers and beams use only the scores. A rule therefore needs to be written only once for all of
them, for the compiled loop, and for exports.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.validation import NonNegativeInteger, PositiveInteger, PositiveNumber

Tensor = Any

IMPOSSIBLE = -1e30
"""The score of a class that is never chosen, and of a hypothesis that does not exist: finite, so
that no NaN arises. Every score below half of it counts as impossible."""


LARGEST = 2**31 - 1
"""The largest id, where the number of classes is not known."""


def possible(scores: Tensor) -> Tensor:
    """Which scores belong to possible classes or existing hypotheses."""
    return scores > IMPOSSIBLE / 2


class History:
    """The sequences generated so far, one row for each hypothesis.

    Attributes:
        step: int32 scalar: the number of symbols generated so far, without the prompt.
        log_probabilities: float32 `(rows, size)`: the model's own for the next symbol, before any
            processor. None in `LogitsProcessor.initialize` and `advance`.
        end: the id that ends a row, or None.
        size: the number of classes; in a graph of pointers, an int32 scalar.
    """

    def __init__(
        self,
        step: Tensor,
        rows: Any,
        size: Any,
        end: int | None,
        generated: Any,
        prompt: Tensor | None = None,
        prompt_lengths: Tensor | None = None,
        log_probabilities: Tensor | None = None,
    ) -> None:
        self.step, self.rows, self.size, self.end = step, rows, size, end
        self.log_probabilities = log_probabilities
        self._generated, self._prompt, self._prompt_lengths = generated, prompt, prompt_lengths

    @property
    def has_prompt(self) -> bool:
        """Whether the sequences may begin with a prompt."""
        return self._prompt is not None

    @property
    def generated(self) -> Tensor:
        """int32 ids `(rows, width)`: the generated symbols, without the prompt, then zeros."""
        return self._generated()

    @property
    def lengths(self) -> Tensor:
        """int32 `(rows,)`: the number of symbols so far, including the prompt's."""
        step = ops.broadcast_to(ops.cast(self.step, "int32"), (self.rows,))
        return step if self._prompt is None else self._prompt_lengths + step

    @property
    def symbols(self) -> Tensor:
        """int32 ids `(rows, width)`: the prompt and the generated symbols, then zeros.

        The start symbol is excluded, unless a prompt begins with it.
        """
        generated = self._generated()
        if self._prompt is None:
            return generated
        before = ops.shape(self._prompt)[1]
        both = ops.concatenate([self._prompt, generated], axis=1)
        places = ops.expand_dims(ops.arange(ops.shape(both)[1], dtype="int32"), 0)
        skipped = before - ops.expand_dims(self._prompt_lengths, 1)  # the prompt's padding
        of_prompt = places < ops.expand_dims(self._prompt_lengths, 1)
        index = ops.minimum(ops.where(of_prompt, places, places + skipped), ops.shape(both)[1] - 1)
        ids = ops.take_along_axis(both, index, axis=1)
        return ops.where(places < ops.expand_dims(self.lengths, 1), ids, 0)

    @property
    def last(self) -> Tensor:
        """int32 `(rows,)`: the last symbol so far, or 0 if there is none."""
        place = ops.expand_dims(ops.maximum(self.lengths - 1, 0), 1)
        last = ops.squeeze(ops.take_along_axis(self.symbols, place, axis=1), 1)
        return ops.where(self.lengths > 0, last, 0)


class LogitsProcessor:
    """Changes the scores of the classes before a sampler or a beam chooses among them.

    A processor takes log-probabilities, which are normalized logits, and returns scores. It runs
    inside the generation loop, so it must use `keras.ops`, with shapes that are the same at every
    step. Several processors are applied in order, each to the result of the previous one.

    Scores at or near `kerasrnn.decoding.IMPOSSIBLE`, or -inf, forbid a class. A beam adds up the
    scores: with processors that only forbid, its totals are sums of the model's own
    log-probabilities, which are not renormalized over the remaining classes.

    If every class is forbidden, the row ends: with `end`, which then becomes possible after all, or
    without a further symbol if there is no end symbol.

    A processor with a state, such as that of a language model, overrides `initialize` and
    `advance`; beams reorder the state's rows together with their hypotheses. A processor that
    contains Keras layers lists them in `layers`, so that their weights are saved with the
    generator's.

    To be saved, a processor is registered like Keras's own objects, and has `get_config`.

    Attributes:
        reads_history: whether `History.symbols` is read; if not, a beam need not carry it.
        may_reward: whether scores may be above 0. A beam then searches up to the maximum length,
            since it has no upper bound for the score of an open hypothesis.
        constrains: whether sequences must reach a `goal`, as `RequiredPhrases` do. Only beams
            support it, and one such processor at a time.
        layers: its Keras layers, built.

    Example: the larger a symbol's id, the less probable it is.

        >>> import keras, kerasrnn
        >>> class Small(kerasrnn.decoding.LogitsProcessor):
        ...     reads_history = False
        ...     def __call__(self, logits, history, state):
        ...         return logits - 0.5 * keras.ops.arange(history.size, dtype="float32")
    """

    reads_history: bool = True
    may_reward: bool = False
    constrains: bool = False
    layers: Sequence[Any] = ()

    def check(self, size: int, end: int | None) -> None:
        """Raise ValueError if it does not support this number of classes and this end symbol."""

    def initialize(self, history: History) -> Any:
        """The state before the first step: a structure of tensors `(rows, ...)`."""
        return ()

    def advance(self, history: History, state: Any) -> Any:
        """Update the state, from that of the previous symbol to that used to score the next one.

        At the first step, `history` contains only the prompt.
        """
        return state

    def __call__(self, logits: Tensor, history: History, state: Any) -> Tensor:
        """Compute the scores of the next symbol.

        Args:
            logits: float32 `(rows, size)`: log-probabilities, or the result of the previous
                processor.
            history: the sequences generated so far.
            state: the result of `advance`.

        Returns:
            float32 `(rows, size)`.
        """
        # Abstract: every processor defines it.
        raise NotImplementedError(f"{type(self).__name__} must define `__call__`.")

    def get_config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LogitsProcessor":
        return cls(**config)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


@keras.saving.register_keras_serializable(package="kerasrnn")
class ForbiddenSymbols(LogitsProcessor):
    """Forbids symbols.

    Args:
        ids: ids of the symbols.

    Raises:
        ValueError: an id is not a class of the decoder, or no other class remains.

    Example:

        >>> import kerasrnn
        >>> kerasrnn.decoding.ForbiddenSymbols([1, 7])
        ForbiddenSymbols(ids=[1, 7])
    """

    reads_history = False

    def __init__(self, ids: Sequence[int]) -> None:
        self.ids = _ids("ids", ids)

    def check(self, size: int, end: int | None) -> None:
        _check_classes("ids", self.ids, size)

    def __call__(self, logits: Tensor, history: History, state: Any) -> Tensor:
        if not isinstance(history.size, int):
            places = ops.expand_dims(ops.arange(history.size, dtype="int32"), 1)
            forbidden = ops.any(places == np.array(self.ids, "int32"), axis=1)
            return logits + ops.where(forbidden, np.float32(IMPOSSIBLE), np.float32(0))
        # A sum, which takes a fraction of the time of a selection with a broadcast condition.
        forbidden = np.isin(np.arange(history.size), self.ids)
        return logits + np.where(forbidden, np.float32(IMPOSSIBLE), np.float32(0))

    def get_config(self) -> dict[str, Any]:
        return {"ids": self.ids}


@keras.saving.register_keras_serializable(package="kerasrnn")
class MinimumLength(LogitsProcessor):
    """Forbids the end before a minimum number of symbols has been generated.

    Args:
        length: number of symbols, without the end and the prompt.

    Raises:
        ValueError: `length` is negative; or there is no end symbol.

    Example:

        >>> import kerasrnn
        >>> kerasrnn.decoding.MinimumLength(3)
        MinimumLength(length=3)
    """

    reads_history = False

    @validation.checked
    def __init__(self, length: NonNegativeInteger) -> None:
        self.length = length

    def check(self, size: int, end: int | None) -> None:
        if self.length and end is None:
            raise ValueError(f"{self!r}: expected length=0 without an end.")

    def __call__(self, logits: Tensor, history: History, state: Any) -> Tensor:
        if not self.length or history.end is None:
            return logits
        ends = ops.arange(history.size) == history.end
        early = ops.logical_and(ends, history.step < self.length)
        return ops.where(early, IMPOSSIBLE, logits)

    def get_config(self) -> dict[str, Any]:
        return {"length": self.length}


@keras.saving.register_keras_serializable(package="kerasrnn")
class NoRepeatNGrams(LogitsProcessor):
    """Forbids repeated n-grams (Paulus et al. 2018, "A deep reinforced model for abstractive
    summarization", section 2.5).

    The prompt counts. With n = 1 no symbol occurs twice.

    Args:
        n: number of symbols, positive.

    Raises:
        ValueError: `n` is not positive.

    Example:

        >>> import kerasrnn
        >>> kerasrnn.decoding.NoRepeatNGrams(3)
        NoRepeatNGrams(n=3)
    """

    @validation.checked
    def __init__(self, n: PositiveInteger) -> None:
        self.n = n

    def __call__(self, logits: Tensor, history: History, state: Any) -> Tensor:
        symbols, lengths = history.symbols, ops.expand_dims(history.lengths, 1)
        before, width = self.n - 1, ops.shape(symbols)[1]
        padded = ops.pad(symbols, ((0, 0), (0, self.n)))
        places = ops.expand_dims(ops.arange(width, dtype="int32"), 0)
        # An n-gram starts here that is complete, and whose first n - 1 symbols are the last ones.
        repeats = places + before < lengths
        for k in range(before):
            last = ops.take_along_axis(symbols, ops.maximum(lengths - before + k, 0), axis=1)
            repeats = ops.logical_and(repeats, padded[:, k : k - self.n] == last)
        return ops.where(
            _among(ops.where(repeats, padded[:, before:-1], 0), history), IMPOSSIBLE, logits
        )

    def get_config(self) -> dict[str, Any]:
        return {"n": self.n}


@keras.saving.register_keras_serializable(package="kerasrnn")
class RepetitionPenalty(LogitsProcessor):
    """Makes symbols that have occurred less probable.

        score_k = penalty * log p_k  if k has occurred, else log p_k

    so p_k becomes p_k^penalty (after Keskar et al. 2019, "CTRL: a conditional transformer language
    model", section 4.1, which divides logits; for log-probabilities, which are never above 0,
    multiplication is the discount, and a constant shift of the logits has no effect). The prompt
    counts.

    Args:
        penalty: positive; 1 changes nothing, and values below 1 make repetitions more probable.

    Raises:
        ValueError: `penalty` is not positive.

    Example:

        >>> import kerasrnn
        >>> kerasrnn.decoding.RepetitionPenalty(1.2)
        RepetitionPenalty(penalty=1.2)
    """

    @validation.checked
    def __init__(self, penalty: PositiveNumber) -> None:
        self.penalty = penalty

    def __call__(self, logits: Tensor, history: History, state: Any) -> Tensor:
        repeated = ops.logical_and(_among(history.symbols, history), possible(logits))
        return ops.where(repeated, self.penalty * logits, logits)

    def get_config(self) -> dict[str, Any]:
        return {"penalty": self.penalty}


@keras.saving.register_keras_serializable(package="kerasrnn")
class ForcedPrefix(LogitsProcessor):
    """Forces every sequence to begin with given symbols, even if earlier processors forbid them.

    They are generated like others: they count in the length, and have log-probabilities and
    attention, unlike the symbols of the generator's `prompt`.

    Args:
        ids: ids `(length,)`; or for each row, `(rows, length)`, right-padded with 0.

    Raises:
        ValueError: an id is not a class of the decoder.

    Example:

        >>> import kerasrnn
        >>> kerasrnn.decoding.ForcedPrefix([4, 2])
        ForcedPrefix(ids=[4, 2])
    """

    reads_history = False

    def __init__(self, ids: Any) -> None:
        # Ids for each row are tensors, from a generator's call.
        self.ids = ids if len(getattr(ids, "shape", ())) == 2 else _ids("ids", ids)

    def check(self, size: int, end: int | None) -> None:
        if isinstance(self.ids, list):
            _check_classes("ids", self.ids, size, smallest=1)

    def __call__(self, logits: Tensor, history: History, state: Any) -> Tensor:
        ids = self.ids
        if isinstance(ids, list):
            ids = np.array([ids], "int32")
        ids = ops.pad(ops.cast(ids, "int32"), ((0, 0), (0, 1)))
        step = ops.minimum(history.step, ops.shape(ids)[1] - 1)
        forced = ops.expand_dims(ops.take(ids, step, axis=1), -1)  # (rows or 1, 1)
        only_end = ops.where(
            ops.expand_dims(ops.arange(history.size, dtype="int32"), 0) == forced,
            history.log_probabilities,
            IMPOSSIBLE,
        )
        return ops.where(forced > 0, only_end, logits)

    def get_config(self) -> dict[str, Any]:
        ids = self.ids if isinstance(self.ids, list) else ops.convert_to_numpy(self.ids).tolist()
        return {"ids": ids}


class Processing:
    """The processors of a loop, in order, and their states: shared by the policies.

    Args:
        processors: see `LogitsProcessor`. Padding is always forbidden.
        size: number of classes, which a graph may not know: an int32 scalar.
        end: the id that ends a row, or None.
        prompt: int32 `(rows, time)`, right-padded, or None.
        prompt_lengths: int32 `(rows,)`.
    """

    def __init__(
        self,
        processors: Sequence[LogitsProcessor],
        size: Any,
        end: int | None = None,
        prompt: Tensor | None = None,
        prompt_lengths: Tensor | None = None,
    ) -> None:
        self.processors, self.size, self.end = (
            _merged([*processors, ForbiddenSymbols([0])]),
            size,
            end,
        )
        self.always_possible = _leave_some(self.processors, size, end)
        self.prompt, self.prompt_lengths = (
            None if ids is None else ops.cast(ids, "int32") for ids in (prompt, prompt_lengths)
        )
        self.reads_history = any(processor.reads_history for processor in self.processors)
        self.may_reward = any(processor.may_reward for processor in self.processors)
        # Prompts and prefixes have the rows of the whole batch.
        prefixes = [each for each in self.processors if isinstance(each, ForcedPrefix)]
        constraints = [n for n, each in enumerate(self.processors) if each.constrains]
        if len(constraints) > 1:
            raise ValueError(
                f"processors={self.processors!r}: {len(constraints)} of them constrain the search; "
                "expected one, with all phrases."
            )
        self.constraint = constraints[0] if constraints else None
        self.selects = prompt is None and all(isinstance(each.ids, list) for each in prefixes)

    def initialize(self, rows: Any, generated: Any) -> list[Any]:
        """The states of all processors before the first step.

        `generated` returns the ids generated so far, `(rows, max_length)`: zeros here.
        """
        history = self._history(0, rows, generated)
        return [processor.initialize(history) for processor in self.processors]

    def __call__(
        self, step: Tensor, logits: Tensor, generated: Any, states: list[Any]
    ) -> tuple[Tensor, Tensor, list[Any]]:
        """`(log_probabilities, scores, states)` of the next symbol.

        Every row has at least one possible class: if all are forbidden, it is the end, or padding
        if there is no end symbol.
        """
        log_p = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
        rows = ops.shape(log_p)[0]
        history = self._history(step, rows, generated)
        states = [
            processor.advance(history, state)
            for processor, state in zip(self.processors, states, strict=True)
        ]
        history.log_probabilities = scores = log_p
        for processor, state in zip(self.processors, states, strict=True):
            scores = processor(scores, history, state)
        if self.always_possible:
            return log_p, scores, states
        nothing = ops.logical_not(ops.any(possible(scores), axis=-1, keepdims=True))
        fallback = ops.expand_dims(ops.arange(self.size) == (self.end or 0), 0)
        last = ops.zeros_like(log_p) if self.end is None else log_p
        return log_p, ops.where(ops.logical_and(nothing, fallback), last, scores), states

    def progress(
        self, step: Tensor, rows: Any, generated: Any, states: list[Any]
    ) -> tuple[Tensor, Tensor, int]:
        """How far each hypothesis is after each class, `(rows, size)`, the goal, `(rows,)`, and the
        largest possible goal, of the processor that constrains the search."""
        processor, state = self.processors[self.constraint], states[self.constraint]
        history = self._history(step, rows, generated)
        return processor.progress(history, state), processor.goal(state), processor.most

    def _history(self, step: Tensor, rows: Any, generated: Any) -> History:
        return History(step, rows, self.size, self.end, generated, self.prompt, self.prompt_lengths)


def check_processors(
    processors: Any, size: int | None, end: int | None = None
) -> list[LogitsProcessor]:
    """Check the processors, and return them as a list.

    Args:
        processors: the argument.
        size: number of classes; None: it is not known.
        end: the id that ends a row, or None.

    Raises:
        ValueError: an element is not a processor, or does not support the classes; or all classes
            are forbidden.
    """
    if isinstance(processors, LogitsProcessor) or not isinstance(processors, Sequence):
        raise ValueError(f"processors={processors!r}: expected a list of LogitsProcessor.")
    left = {end} if size is None else set(range(1, size))
    for processor in processors:
        if not isinstance(processor, LogitsProcessor):
            raise ValueError(f"processors: {processor!r}: expected a LogitsProcessor.")
        processor.check(LARGEST if size is None else size, end)
        if isinstance(processor, ForbiddenSymbols) and size is not None:
            left -= set(processor.ids)
    if not left:
        raise ValueError(
            f"processors={list(processors)!r}: all {size - 1} symbols are forbidden; expected "
            "at least one that is allowed."
        )
    for processor in processors:
        if size is None:
            break
        if isinstance(processor, MinimumLength) and processor.length and left == {end}:
            raise ValueError(f"{processor!r}: only the end is allowed; expected length=0.")
    return list(processors)


def _merged(processors: Sequence[LogitsProcessor]) -> list[LogitsProcessor]:
    """The processors, with one instead of several successive ones that forbid symbols."""
    merged: list[LogitsProcessor] = []
    for processor in processors:
        if merged and all(type(each) is ForbiddenSymbols for each in (merged[-1], processor)):
            processor = ForbiddenSymbols([*merged.pop().ids, *processor.ids])
        merged.append(processor)
    return merged


def _leave_some(processors: Sequence[LogitsProcessor], size: Any, end: int | None) -> bool:
    """Whether some class is possible at every step, whatever the (finite) logits are."""
    if not isinstance(size, int):
        return False
    left = set(range(size))
    for processor in processors:
        if type(processor) is ForbiddenSymbols:
            left -= set(processor.ids)
        elif type(processor) is MinimumLength:
            left.discard(end)
        else:
            return False
    return bool(left)


def _ids(name: str, ids: Any) -> list[int]:
    if isinstance(ids, (str, bytes)) or not isinstance(ids, (Sequence, np.ndarray)):
        raise ValueError(f"{name}={ids!r}: expected a list of ids.")
    return [validation.integer(f"{name}[{k}]", n, minimum=0) for k, n in enumerate(ids)]


def _check_classes(name: str, ids: Sequence[int], size: int, smallest: int = 0) -> None:
    for k, n in enumerate(ids):
        validation.integer(f"{name}[{k}]", n, smallest, size - 1)


def _among(symbols: Tensor, history: History) -> Tensor:
    """boolean `(rows, size)`: which classes occur in the symbols `(rows, width)`.

    Zeros are padding and are ignored, since 0 is forbidden anyway.
    """
    rows, width = ops.shape(symbols)[0], ops.shape(symbols)[1]
    first = ops.expand_dims(ops.arange(rows, dtype="int32") * history.size, 1)
    places = ops.reshape(first + symbols, (-1, 1))
    marks = ops.scatter_update(
        ops.zeros((rows * history.size,), dtype="int32"),
        places,
        ops.ones((rows * width,), dtype="int32"),
    )
    return ops.reshape(marks, (-1, history.size)) > 0
