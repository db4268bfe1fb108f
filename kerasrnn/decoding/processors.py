"""The hook on the logits: what may follow, and how probable it is, before a symbol is chosen.

    log p_t = log_softmax(logits_t)
    scores_t = processor_n(... processor_1(log p_t))

Samplers and beams choose by the scores alone. So a rule that is written once holds for all of
them, in the compiled loop, and in exports.
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
"""A score whose class is never chosen, and the score of a hypothesis that does not exist: finite,
so that nothing becomes NaN. Every score below its half counts as impossible."""


def possible(scores: Tensor) -> Tensor:
    """Which scores are of classes that may be chosen, or of hypotheses that exist."""
    return scores > IMPOSSIBLE / 2


class History:
    """What has been generated so far, one row for each hypothesis.

    Attributes:
        step: int32 scalar: the number of symbols generated so far, the prompt not counted.
        log_probabilities: float32 `(rows, size)`: the model's own for the next symbol, before any
            processor. None in `LogitsProcessor.initialize` and `advance`.
        end: the id that ends a row, or None.
        size: the number of classes.
    """

    def __init__(
        self,
        step: Tensor,
        rows: Any,
        size: int,
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
    def lengths(self) -> Tensor:
        """int32 `(rows,)`: the number of symbols so far, the prompt's included."""
        step = ops.broadcast_to(ops.cast(self.step, "int32"), (self.rows,))
        return step if self._prompt is None else self._prompt_lengths + step

    @property
    def symbols(self) -> Tensor:
        """int32 ids `(rows, width)`: the prompt and what follows it, then zeros.

        The start symbol is not among them, unless a prompt begins with it.
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
        read = ops.take_along_axis(both, index, axis=1)
        return ops.where(places < ops.expand_dims(self.lengths, 1), read, 0)

    @property
    def last(self) -> Tensor:
        """int32 `(rows,)`: the last symbol so far, 0 where there is none."""
        place = ops.expand_dims(ops.maximum(self.lengths - 1, 0), 1)
        last = ops.squeeze(ops.take_along_axis(self.symbols, place, axis=1), 1)
        return ops.where(self.lengths > 0, last, 0)


class LogitsProcessor:
    """Changes the scores of the classes before a sampler or a beam chooses among them.

    A processor reads log-probabilities, which are logits that are normalized, and returns scores.
    It runs inside the decode loop, so it is written in `keras.ops`, with shapes that do not change
    from step to step. Several are applied in order, each to what the one before it returned.

    Scores at or near `kerasrnn.decoding.IMPOSSIBLE`, or -inf, forbid a class. A beam adds the
    scores up: with processors that only forbid, its totals are sums of the model's own
    log-probabilities, which are not normalized again over the classes that are left.

    Where every class is forbidden the row ends: by `end`, which is possible then after all, or
    without a further symbol if there is no end.

    A processor with a state, such as that of a language model, overrides `initialize` and
    `advance`; beams move the state's rows together with their hypotheses. One that holds Keras
    layers names them in `layers`, so that their weights are saved with the generator's.

    To be saved it is registered as Keras's own objects are, and has `get_config`.

    Attributes:
        reads_history: whether `History.symbols` is read; if not, no beam has to carry it.
        may_reward: whether scores may be above 0. A beam then searches up to the longest length,
            since it cannot bound what an open hypothesis may still reach.
        layers: the Keras layers it holds, built.

    Example: every symbol is less probable the greater its id.

        >>> import keras, kerasrnn
        >>> class Small(kerasrnn.decoding.LogitsProcessor):
        ...     reads_history = False
        ...     def __call__(self, logits, history, state):
        ...         return logits - 0.5 * keras.ops.arange(history.size, dtype="float32")
    """

    reads_history: bool = True
    may_reward: bool = False
    layers: Sequence[Any] = ()

    def check(self, size: int, end: int | None) -> None:
        """Raise ValueError if it cannot be applied to so many classes and this end."""

    def initialize(self, history: History) -> Any:
        """The state before the first step: a structure of tensors `(rows, ...)`."""
        return ()

    def advance(self, history: History, state: Any) -> Any:
        """The state with which the next symbol is scored, from that of the symbol before it.

        At the first step, `history` has no symbol but the prompt's.
        """
        return state

    def __call__(self, logits: Tensor, history: History, state: Any) -> Tensor:
        """The scores of the next symbol.

        Args:
            logits: float32 `(rows, size)`: log-probabilities, or what the processor before this
                one returned.
            history: what has been generated so far.
            state: of `advance`.

        Returns:
            float32 `(rows, size)`.
        """
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
    """Symbols that are never generated.

    Args:
        ids: of the symbols.

    Raises:
        ValueError: an id is no class of the decoder, or none is left beside them.

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
        return ops.where(np.isin(np.arange(history.size), self.ids), IMPOSSIBLE, logits)

    def get_config(self) -> dict[str, Any]:
        return {"ids": self.ids}


@keras.saving.register_keras_serializable(package="kerasrnn")
class MinimumLength(LogitsProcessor):
    """No end before so many symbols have been generated.

    Args:
        length: number of symbols, the end and the prompt not counted.

    Raises:
        ValueError: it is negative; or there is no end.

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
            raise ValueError(f"{self!r}: without an end, expected length=0.")

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
    """No n symbols in a row that have occurred before in the same order (Paulus et al. 2018, "A
    deep reinforced model for abstractive summarization", section 2.5).

    The prompt counts. With n = 1 no symbol occurs twice.

    Args:
        n: number of symbols, positive.

    Raises:
        ValueError: it is not.

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
        # The n-gram that begins at a place has been completed; its first n - 1 are the last ones.
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
    """Symbols that have occurred become less probable.

        score_k = penalty * log p_k  if k has occurred, else log p_k

    so that p_k becomes p_k^penalty (after Keskar et al. 2019, "CTRL: a conditional transformer
    language model", section 4.1, which divides logits; of log-probabilities, which are never above
    0, a multiple is what discounts, and the constant that logits may be shifted by has no effect).
    The prompt counts.

    Args:
        penalty: positive; 1 changes nothing, below 1 repetitions become more probable.

    Raises:
        ValueError: it is not.

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
    """Symbols with which every sequence begins, whatever other processors before this one forbid.

    They are generated like others: they count in the length, and have log-probabilities and
    attention; a `prompt` of the generator is read without that.

    Args:
        ids: of the symbols `(length,)`; or of each row, `(rows, length)`, 0 behind its own.

    Raises:
        ValueError: an id is no class of the decoder.

    Example:

        >>> import kerasrnn
        >>> kerasrnn.decoding.ForcedPrefix([4, 2])
        ForcedPrefix(ids=[4, 2])
    """

    reads_history = False

    def __init__(self, ids: Any) -> None:
        # Ids of each row are tensors: those that a generator is called with.
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
        alone = ops.where(
            ops.expand_dims(ops.arange(history.size, dtype="int32"), 0) == forced,
            history.log_probabilities,
            IMPOSSIBLE,
        )
        return ops.where(forced > 0, alone, logits)

    def get_config(self) -> dict[str, Any]:
        ids = self.ids if isinstance(self.ids, list) else ops.convert_to_numpy(self.ids).tolist()
        return {"ids": ids}


class Processing:
    """The processors of a loop, in order, and what they remember: the part that policies share.

    Args:
        processors: see `LogitsProcessor`. Padding is forbidden in addition.
        size: number of classes.
        end: the id that ends a row, or None.
        prompt: int32 `(rows, time)`, right-padded, or None.
        prompt_lengths: int32 `(rows,)`.
    """

    def __init__(
        self,
        processors: Sequence[LogitsProcessor],
        size: int,
        end: int | None = None,
        prompt: Tensor | None = None,
        prompt_lengths: Tensor | None = None,
    ) -> None:
        self.processors, self.size, self.end = [*processors, ForbiddenSymbols([0])], size, end
        self.prompt, self.prompt_lengths = (
            None if ids is None else ops.cast(ids, "int32") for ids in (prompt, prompt_lengths)
        )
        self.reads_history = any(processor.reads_history for processor in self.processors)
        self.may_reward = any(processor.may_reward for processor in self.processors)

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

        Of every row at least one class is possible: where all are forbidden, it is the end, or
        padding if there is no end.
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
        nothing = ops.logical_not(ops.any(possible(scores), axis=-1, keepdims=True))
        way_out = ops.expand_dims(ops.arange(self.size) == (self.end or 0), 0)
        last = ops.zeros_like(log_p) if self.end is None else log_p
        return log_p, ops.where(ops.logical_and(nothing, way_out), last, scores), states

    def _history(self, step: Tensor, rows: Any, generated: Any) -> History:
        return History(step, rows, self.size, self.end, generated, self.prompt, self.prompt_lengths)


def check_processors(processors: Any, size: int, end: int | None = None) -> list[LogitsProcessor]:
    """The processors as a list.

    Raises:
        ValueError: one is none, or does not fit the classes; or no class is left beside those that
            are always forbidden.
    """
    if isinstance(processors, LogitsProcessor) or not isinstance(processors, Sequence):
        raise ValueError(f"processors={processors!r}: expected a list of LogitsProcessor.")
    left = set(range(1, size))
    for processor in processors:
        if not isinstance(processor, LogitsProcessor):
            raise ValueError(f"processors: {processor!r}: expected a LogitsProcessor.")
        processor.check(size, end)
        if isinstance(processor, ForbiddenSymbols):
            left -= set(processor.ids)
    if not left:
        raise ValueError(
            f"processors={list(processors)!r}: no symbol is left of {size - 1}; expected one that "
            "is not forbidden."
        )
    for processor in processors:
        if isinstance(processor, MinimumLength) and processor.length and left == {end}:
            raise ValueError(
                f"{processor!r}: no symbol but the end is possible; expected length=0."
            )
    return list(processors)


def _ids(name: str, ids: Any) -> list[int]:
    if isinstance(ids, (str, bytes)) or not isinstance(ids, (Sequence, np.ndarray)):
        raise ValueError(f"{name}={ids!r}: expected a list of ids.")
    return [validation.integer(f"{name}[{k}]", n, minimum=0) for k, n in enumerate(ids)]


def _check_classes(name: str, ids: Sequence[int], size: int, smallest: int = 0) -> None:
    for k, n in enumerate(ids):
        validation.integer(f"{name}[{k}]", n, smallest, size - 1)


def _among(symbols: Tensor, history: History) -> Tensor:
    """boolean `(rows, size)`: which classes are among the symbols `(rows, width)`.

    Those that are 0 are none: padding, which is forbidden anyway.
    """
    rows, width = ops.shape(symbols)[0], ops.shape(symbols)[1]
    first = ops.expand_dims(ops.arange(rows, dtype="int32") * history.size, 1)
    places = ops.reshape(first + symbols, (-1, 1))
    found = ops.scatter_update(
        ops.zeros((rows * history.size,), dtype="int32"),
        places,
        ops.ones((rows * width,), dtype="int32"),
    )
    return ops.reshape(found, (-1, history.size)) > 0
