"""The generation loop: initialize, step, finalize; and the policy with one hypothesis per row."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import keras
from keras import ops, tree

from kerasrnn.decoding.processors import LogitsProcessor, Processing
from kerasrnn.decoding.samplers import Sampler

Tensor = Any


class Policy(Protocol):
    """Chooses the symbols, and stores them.

    It receives the decoder's states at every step and returns them, so that a policy with several
    hypotheses per row can reorder them.
    """

    def initialize(self) -> Any:
        """The initial memory: a structure of tensors of constant shapes."""

    def should_continue(self, memory: Any) -> Tensor:
        """A boolean scalar: whether any row needs another step."""

    def choose(
        self, t: Tensor, logits: Tensor, attention: Tensor | None, states: Any, memory: Any
    ) -> tuple[Any, Any, Any]:
        """`(symbols, states, memory)` after step t; the symbols are the inputs of the next step."""

    def finalize(self, memory: Any) -> Any:
        """The result of the loop."""


def decode(
    step: Callable[[Tensor, Any], tuple[Tensor, Any, Tensor | None]],
    policy: Policy,
    previous: Tensor,
    states: Any,
    max_length: int,
) -> Any:
    """Generate until no row needs another step: one loop in one graph, on every backend.

        logits_t, s_t, p_t = step(y_{t-1}, s_{t-1})
        y_t, s_t, memory_t = policy.choose(t, logits_t, p_t, s_t, memory_{t-1})

    Args:
        step: one step of a decoder, from `(previous, states)` to `(logits, states, attention)`; the
            last are the weights of the source's positions, `(rows, positions)`, or None.
        policy: see `Policy`.
        previous: y_0, the symbols that the first step reads.
        states: s_0, a structure of tensors of constant shapes.
        max_length: the maximum number of steps.

    Returns:
        The result of the policy's `finalize`.
    """
    carry = (previous, states, policy.initialize())

    def should_continue(t: Tensor, *flat: Tensor) -> Tensor:
        _, _, memory = tree.pack_sequence_as(carry, list(flat))
        return ops.logical_and(t < max_length, policy.should_continue(memory))

    def body(t: Tensor, *flat: Tensor) -> tuple[Tensor, ...]:
        previous, states, memory = tree.pack_sequence_as(carry, list(flat))
        logits, states, attention = step(previous, states)
        after = policy.choose(t, logits, attention, states, memory)
        return (t + 1, *tree.flatten(after))

    start = ops.convert_to_tensor(0, dtype="int32")
    _, *flat = ops.while_loop(should_continue, body, (start, *tree.flatten(carry)))
    _, _, memory = tree.pack_sequence_as(carry, list(flat))
    return policy.finalize(memory)


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
    symbols: Tensor  # (max_length, batch, ...): time first, so that a step writes one row
    log_probabilities: Tensor  # (max_length, batch)
    attention: Any  # (max_length, batch, positions); () if not recorded
    lengths: Tensor  # (batch,)
    ended: Tensor  # (batch,)
    processing: Any  # the states of the processors; () without processors


class Sampling:
    """The policy with one hypothesis per row, extended by a sampler's choice.

    Args:
        sampler: see `Sampler`.
        size: number of classes, or width.
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
    """

    def __init__(
        self,
        sampler: Sampler,
        size: int,
        max_lengths: Tensor,
        noise: Tensor | None,
        max_length: int,
        end: int | None = None,
        dtype: str = "float32",
        processors: Sequence[LogitsProcessor] = (),
        positions: Any = None,
        prompt: Tensor | None = None,
        prompt_lengths: Tensor | None = None,
    ) -> None:
        self.sampler, self.size, self.end = sampler, size, end
        self.max_lengths, self.max_length = max_lengths, max_length
        self.noise, self.dtype, self.positions = noise, dtype, positions
        self.processing = Processing(processors, size, end, prompt, prompt_lengths)

    def initialize(self) -> _Memory:
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
            lengths=ops.zeros_like(self.max_lengths),
            ended=self.max_lengths <= 0,
            processing=processing,
        )

    def should_continue(self, memory: _Memory) -> Tensor:
        return ops.logical_not(ops.all(memory.ended))

    def choose(
        self, t: Tensor, logits: Tensor, attention: Tensor | None, states: Any, memory: _Memory
    ) -> tuple[Tensor, Any, _Memory]:
        noise = None if self.noise is None else ops.take(self.noise, t, axis=0)
        active, processing = ops.logical_not(memory.ended), memory.processing
        if self.sampler.kind == "classes":
            log_p, scores, processing = self.processing(
                t, logits, lambda: ops.transpose(memory.symbols), processing
            )
            chosen = self.sampler(scores, noise)
            # Without an end symbol, a row without a possible symbol stops.
            active = ops.logical_and(active, chosen > 0)
            chosen = ops.where(active, chosen, 0)
            log_p = ops.take_along_axis(log_p, ops.expand_dims(chosen, -1), axis=-1)
            log_probability = ops.squeeze(log_p, -1)
        else:
            logits = ops.cast(logits, "float32")
            chosen = ops.cast(self.sampler(logits, noise), self.dtype)
            chosen = ops.where(ops.expand_dims(active, -1), chosen, 0)
            log_probability = self._log_probability(logits, chosen)
        log_probability = ops.where(active, log_probability, 0)
        recorded = memory.attention
        if self.positions is not None:
            weights = ops.where(ops.expand_dims(active, -1), attention, 0)
            recorded = written(recorded, t, weights)
        lengths = memory.lengths + ops.cast(active, memory.lengths.dtype)
        ended = ops.logical_or(ops.logical_not(active), lengths >= self.max_lengths)
        if self.end is not None:
            ended = ops.logical_or(ended, chosen == self.end)
        return (
            chosen,
            states,
            _Memory(
                written(memory.symbols, t, chosen),
                written(memory.log_probabilities, t, log_probability),
                recorded,
                lengths,
                ended,
                processing,
            ),
        )

    def finalize(self, memory: _Memory) -> Sequences:
        return Sequences(
            ops.swapaxes(memory.symbols, 0, 1),
            memory.lengths,
            ops.swapaxes(memory.log_probabilities, 0, 1),
            attention=None if self.positions is None else ops.swapaxes(memory.attention, 0, 1),
        )

    def _log_probability(self, logits: Tensor, chosen: Tensor) -> Tensor:
        """The log-probability of frames."""
        if self.sampler.kind == "flags":
            signed = ops.where(chosen > 0, logits, -logits)
            return ops.sum(ops.log_sigmoid(signed), axis=-1)
        return ops.zeros_like(logits[:, 0])  # values have no distribution


def written(array: Tensor, t: Tensor, row: Tensor) -> Tensor:
    """The array with row t replaced."""
    index = ops.reshape(ops.cast(t, "int32"), (1, 1))
    row = ops.cast(row, keras.backend.standardize_dtype(array.dtype))
    return ops.scatter_update(array, index, ops.expand_dims(row, 0))
