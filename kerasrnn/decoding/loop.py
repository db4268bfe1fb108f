"""The generation loop: initialize, step, finalize; and the policy with one hypothesis per row."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol

import keras
from keras import ops, tree

from kerasrnn.decoding.processors import LogitsProcessor, Processing
from kerasrnn.decoding.samplers import Sampler
from kerasrnn.distributions.forecast import Distribution

Tensor = Any


class Policy(Protocol):
    """Chooses the symbols, and stores them.

    It receives the decoder's states at every step and returns them, so that a policy with several
    hypotheses per row can reorder them.
    """

    selects: bool
    """Whether `select` is possible."""

    def initialize(self, selecting: bool = False) -> Any:
        """The initial memory: a structure of tensors of constant shapes.

        `selecting`: whether `select` will be called.
        """

    def unfinished(self, memory: Any) -> Tensor:
        """Which rows need another step, boolean `(batch,)`."""

    def choose(
        self, t: Tensor, logits: Tensor, attention: Tensor | None, states: Any, memory: Any
    ) -> tuple[Any, Any, Any]:
        """`(symbols, states, memory)` after step t; the symbols are the inputs of the next step."""

    def select(self, kept: Tensor, carry: Any, memory: Any) -> tuple[Any, Any]:
        """Only these rows, int32 indices, of a structure of the decoder's tensors and of the
        memory."""

    def finalize(self, memory: Any) -> Any:
        """The result of the loop."""


_selecting: ContextVar[bool] = ContextVar("_selecting", default=False)


@contextmanager
def without_finished_rows() -> Iterator[None]:
    """Within this context, TensorFlow graphs for an unknown number of rows stop computing rows that
    are finished: whenever a quarter of the rows is, the others are selected.

    The shapes then change from step to step, which neither XLA nor the formats of exports allow.
    """
    token = _selecting.set(True)
    try:
        yield
    finally:
        _selecting.reset(token)


def decode(
    step: Callable[..., tuple[Tensor, Any, Tensor | None]],
    policy: Policy,
    previous: Tensor,
    states: Any,
    max_length: int,
    constants: Any = None,
) -> Any:
    """Generate until no row needs another step: one loop in one graph, on every backend.

        logits_t, s_t, p_t = step(y_{t-1}, s_{t-1})
        y_t, s_t, memory_t = policy.choose(t, logits_t, p_t, s_t, memory_{t-1})

    Args:
        step: one step of a decoder, from `(previous, states)`, followed by the constants if there
            are any, to `(logits, states, attention)`; the last are the weights of the source's
            positions, `(rows, positions)`, or None.
        policy: see `Policy`.
        previous: y_0, the symbols that the first step reads.
        states: s_0, a structure of tensors of constant shapes.
        max_length: the maximum number of steps.
        constants: a structure of what each step reads of its rows besides, `(rows, ...)`.

    Returns:
        The result of the policy's `finalize`.
    """
    # Only graphs of TensorFlow have an unknown number of rows.
    selecting = _selecting.get() and previous.shape[0] is None and policy.selects
    start = (ops.convert_to_tensor(0, dtype="int32"), previous, states)
    memory = policy.initialize(selecting)

    def run(t: Tensor, previous: Tensor, states: Any, constants: Any, memory: Any) -> Any:
        carry = (t, previous, states, memory)
        extra = () if constants is None else (constants,)

        def should_continue(*flat: Tensor) -> Tensor:
            t, _, _, memory = tree.pack_sequence_as(carry, list(flat))
            unfinished = policy.unfinished(memory)
            enough = ops.any(unfinished)
            if selecting:
                rows = ops.shape(unfinished)[0]
                count = ops.sum(ops.cast(unfinished, "int32"))
                enough = ops.logical_and(enough, 4 * count > 3 * rows)
            return ops.logical_and(t < max_length, enough)

        def body(*flat: Tensor) -> list[Tensor]:
            t, previous, states, memory = tree.pack_sequence_as(carry, list(flat))
            logits, states, attention = step(previous, states, *extra)
            after = policy.choose(t, logits, attention, states, memory)
            return tree.flatten((t + 1, *after))

        return tree.pack_sequence_as(
            carry, list(ops.while_loop(should_continue, body, tree.flatten(carry)))
        )

    if not selecting:
        return policy.finalize(run(*start, constants, memory)[-1])
    flat_constants = tree.flatten(constants)
    everything = (*start, [x for x in flat_constants if x is not None], memory)

    def should_continue(*flat: Tensor) -> Tensor:
        t, *_, memory = tree.pack_sequence_as(everything, list(flat))
        return ops.logical_and(t < max_length, ops.any(policy.unfinished(memory)))

    def body(*flat: Tensor) -> list[Tensor]:
        t, *carry, memory = tree.pack_sequence_as(everything, list(flat))
        (kept,) = ops.nonzero(policy.unfinished(memory))
        (previous, states, given), memory = policy.select(kept, tuple(carry), memory)
        left = iter(given)
        of_step = [None if x is None else next(left) for x in flat_constants]
        of_step = tree.pack_sequence_as(constants, of_step)
        t, previous, states, memory = run(t, previous, states, of_step, memory)
        return tree.flatten((t, previous, states, given, memory))

    flat = ops.while_loop(should_continue, body, tree.flatten(everything))
    return policy.finalize(tree.pack_sequence_as(everything, list(flat))[-1])


class Sequences(NamedTuple):
    """Generated sequences.

    With `n_best`, the second axis contains the sequences of a row, the best first.
    """

    symbols: Tensor
    """ids `(batch, max_length)`, 0 after the end; or `(batch, max_length, size)`."""

    lengths: Tensor
    """`(batch,)`: the number of symbols, including the one that ends the row."""

    log_probabilities: Tensor
    """`(batch, max_length)`: the model's log-probability of each symbol, unaffected by the sampler;
    0 after the end."""

    scores: Tensor | None = None
    """`(batch,)`: the scores that hypotheses were compared by; None with one hypothesis per row."""

    attention: Tensor | None = None
    """`(batch, max_length, positions)`, float32: the weights of the source's positions at each
    symbol, zeros after the end; None unless recorded."""


class _Memory(NamedTuple):
    # Of all rows.
    symbols: Tensor  # (max_length, batch, ...): time first, so that a step writes one row
    log_probabilities: Tensor  # (max_length, batch)
    attention: Any  # (max_length, batch, positions); () if not recorded
    # Of the rows that are left.
    rows: Any  # (left,): their indices in the batch; () if all are
    max_lengths: Tensor  # (left,)
    ended: Tensor  # (left,)
    processing: Any  # the states of the processors; () without processors


class Sampling:
    """The policy with one hypothesis per row, extended by a sampler's choice.

    Args:
        sampler: see `Sampler`.
        size: number of classes, which a graph may not know: an int32 scalar; or width.
        max_lengths: maximum length of each row, `(batch,)`.
        noise: uniform in [0, 1), `(max_length, batch, *noise_shape)`; None if not needed.
        max_length: maximum length of all rows.
        end: the id that ends a row, or None.
        dtype: dtype of symbols that are not ids.
        processors: change the logits of classes before the sampler chooses; see
            `LogitsProcessor`.
        positions: number of the source's positions whose attention is recorded; None: not recorded.
        prompt: ids `(batch, time)`, right-padded, which processors read as the beginning of the
            generated sequence.
        prompt_lengths: `(batch,)`.
        forecast: the distribution whose parameters are computed from the logits of values, or None.
    """

    def __init__(
        self,
        sampler: Sampler,
        size: Any,
        max_lengths: Tensor,
        noise: Tensor | None,
        max_length: int,
        end: int | None = None,
        dtype: str = "float32",
        processors: Sequence[LogitsProcessor] = (),
        positions: Any = None,
        prompt: Tensor | None = None,
        prompt_lengths: Tensor | None = None,
        forecast: Distribution | None = None,
    ) -> None:
        self.sampler, self.size, self.end = sampler, size, end
        self.forecast = forecast
        self.max_lengths, self.max_length = max_lengths, max_length
        self.noise, self.dtype, self.positions = noise, dtype, positions
        self.processing = Processing(processors, size, end, prompt, prompt_lengths)
        if self.processing.constraint is not None:
            processor = self.processing.processors[self.processing.constraint]
            raise ValueError(f"processors: {processor!r} needs a search; expected a Beam.")
        self.selects = self.processing.selects

    def initialize(self, selecting: bool = False) -> _Memory:
        batch = ops.shape(self.max_lengths)[0]
        classes = self.sampler.kind == "classes"
        shape = (self.max_length, batch) if classes else (self.max_length, batch, self.size)
        attention = ()
        if self.positions is not None:
            attention = ops.zeros((self.max_length, batch, self.positions), dtype="float32")
        symbols = ops.zeros(shape, dtype="int32" if classes else self.dtype)
        processing: Any = ()
        if classes:
            processing = self.processing.initialize(batch, lambda: ops.transpose(symbols))
        return _Memory(
            symbols=symbols,
            log_probabilities=ops.zeros((self.max_length, batch), dtype="float32"),
            attention=attention,
            rows=ops.arange(batch, dtype="int32") if selecting else (),
            max_lengths=self.max_lengths,
            ended=self.max_lengths <= 0,
            processing=processing,
        )

    def unfinished(self, memory: _Memory) -> Tensor:
        return ops.logical_not(memory.ended)

    def choose(
        self, t: Tensor, logits: Tensor, attention: Tensor | None, states: Any, memory: _Memory
    ) -> tuple[Tensor, Any, _Memory]:
        active, processing = ops.logical_not(memory.ended), memory.processing
        rows = memory.rows

        def of_rows(array: Tensor) -> Tensor:
            return array if isinstance(rows, tuple) else ops.take(array, rows, axis=0)

        noise = None if self.noise is None else of_rows(ops.take(self.noise, t, axis=0))
        if self.sampler.kind == "classes":
            log_p, scores, processing = self.processing(
                t, logits, lambda: of_rows(ops.transpose(memory.symbols)), processing
            )
            chosen = self.sampler(scores, noise)
            # Without an end symbol, a row without a possible symbol stops.
            active = ops.logical_and(active, chosen > 0)
            chosen = ops.where(active, chosen, 0)
            log_probability = ops.squeeze(taken(log_p, ops.expand_dims(chosen, -1)), -1)
        else:
            logits = ops.cast(logits, "float32")
            chosen = ops.cast(self.sampler(logits, noise), self.dtype)
            chosen = ops.where(ops.expand_dims(active, -1), chosen, 0)
            log_probability = self._log_probability(logits, chosen)
        log_probability = ops.where(active, log_probability, 0)
        recorded = memory.attention
        if self.positions is not None:
            weights = ops.where(ops.expand_dims(active, -1), attention, 0)
            recorded = written(recorded, t, weights, rows)
        ended = ops.logical_or(ops.logical_not(active), t + 1 >= memory.max_lengths)
        if self.end is not None:
            ended = ops.logical_or(ended, chosen == self.end)
        return (
            chosen,
            states,
            memory._replace(
                symbols=written(memory.symbols, t, chosen, rows),
                log_probabilities=written(memory.log_probabilities, t, log_probability, rows),
                attention=recorded,
                ended=ended,
                processing=processing,
            ),
        )

    def select(self, kept: Tensor, carry: Any, memory: _Memory) -> tuple[Any, _Memory]:
        left = (memory.rows, memory.max_lengths, memory.ended, memory.processing)
        carry, left = selected(kept, (carry, left))
        return carry, _Memory(*memory[:3], *left)

    def finalize(self, memory: _Memory) -> Sequences:
        symbols = ops.swapaxes(memory.symbols, 0, 1)
        # Without classes, nothing ends a row early.
        lengths = ops.clip(self.max_lengths, 0, self.max_length)
        if self.sampler.kind == "classes":
            lengths = ops.sum(ops.cast(symbols > 0, "int32"), axis=1)
        return Sequences(
            symbols,
            lengths,
            ops.swapaxes(memory.log_probabilities, 0, 1),
            attention=None if self.positions is None else ops.swapaxes(memory.attention, 0, 1),
        )

    def _log_probability(self, logits: Tensor, chosen: Tensor) -> Tensor:
        """The log-probability of frames."""
        if self.sampler.kind == "flags":
            signed = ops.where(chosen > 0, logits, -logits)
            return ops.sum(ops.log_sigmoid(signed), axis=-1)
        if self.forecast is not None:
            return self.forecast.log_prob(self.forecast.parameters(logits), chosen)
        return ops.zeros_like(logits[:, 0])  # values without a distribution


def written(array: Tensor, t: Tensor, values: Tensor, rows: Any = ()) -> Tensor:
    """The array, `(time, batch, ...)`, with its values at step t replaced: of these rows, or, if
    there are none, of all of them."""
    values = ops.cast(values, keras.backend.standardize_dtype(array.dtype))
    if isinstance(rows, tuple):
        index = ops.reshape(ops.cast(t, "int32"), (1, 1))
        return ops.scatter_update(array, index, ops.expand_dims(values, 0))
    index = ops.stack([ops.broadcast_to(t, ops.shape(rows)), rows], axis=1)
    return ops.scatter_update(array, index, values)


def selected(kept: Tensor, structure: Any) -> Any:
    """Only these rows of the tensors of a structure."""
    return tree.map_structure(lambda x: ops.take(x, kept, axis=0), structure)


def taken(array: Tensor, indices: Tensor) -> Tensor:
    """The elements of each row at its indices: `(batch, n, ...)` and `(batch, k)` to `(batch, k,
    ...)`.

    `ops.take_along_axis` copies and transposes the entire array in TensorFlow.
    """
    batch, n, *rest = ops.shape(array)
    first = ops.expand_dims(ops.arange(batch, dtype="int32") * n, 1)
    flat = ops.reshape(array, (-1, *rest))
    return ops.take(flat, first + ops.cast(indices, "int32"), axis=0)
