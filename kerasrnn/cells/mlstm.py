"""The matrix LSTM of xLSTM: Beck et al. (2024)."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.cells.arguments import REMOVED
from kerasrnn.cells.chunked_cell import ChunkedCell
from kerasrnn.cells.declaration import Wording
from kerasrnn.cells.layer import Recurrent
from kerasrnn.cells.matrix_memory import NEVER, MatrixMemory, segment_sums
from kerasrnn.recurrence.loop import Weights

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class MLSTMCell(ChunkedCell):
    """One step of the matrix LSTM of xLSTM, a memory of keys and values.

    Beck et al. (2024), "xLSTM: extended long short-term memory", equations 19 to 27, and the
    stabilized form of its appendix. In each of `heads`, of width d = units / heads:

        (q_t, k_t, v_t, p_o, p_i, p_f) = x_t W + b,   k_t divided by sqrt(d)
        log i_t = p_i,   log f_t = log sigmoid(p_f),   o_t = sigmoid(p_o)
        m_t = max(log f_t + m_{t-1}, log i_t)
        i'_t = exp(log i_t - m_t),   f'_t = exp(log f_t + m_{t-1} - m_t)
        C_t = f'_t C_{t-1} + i'_t k_t v_t^T
        n_t = f'_t n_{t-1} + i'_t k_t
        h_t = o_t * (q_t C_t) / max(|q_t n_t|, exp(-m_t))

    A step stores the value v under the key k, in a matrix, and reads what is stored under the query
    q. The gates i and f are one number per head. Nothing depends on the previous output, so that a
    chunk of steps is computed at once, as attention within the chunk plus what was stored before
    it. The stabilizer m changes no output: with it no exponential exceeds 1.

    The paper adds convolutions, projections and normalization around the cell, which are layers of
    their own here. Weights: `kernel` W `(features, 4 * units + 2 * heads)`, with the columns in the
    order q, k, v, o, i, f, `bias` b `(4 * units + 2 * heads,)`. States: C `(heads, d, d)`, a row
    for each element of the key, n `(heads, d)` and m `(heads,)`.

    Args:
        heads: positive integer that divides `units`.
        forget_gate: "sigmoid" or "exponential", the two forget gates of the paper.
        unit_forget_bias: whether the initial biases of the forget gates are spread from 3 to 6 over
            the heads, as the authors do.
    """

    own_arguments: ClassVar = {
        "heads": 1,
        "forget_gate": "sigmoid",
        "unit_forget_bias": True,
        "zoneout": REMOVED,  # C and n are scaled by exp(-m)
    }
    gates = ("q", "k", "v", "o")
    gate_names = ()
    state_names = ("C", "n", "m")
    wording = Wording(
        states=("heads, d, d", "heads, d", "heads"), state_shapes=((1, 4, 4), (1, 4), (1,))
    )
    is_chunked = True

    def __post_init__(self) -> None:
        if self.units % self.heads:
            raise validation.ArgumentError("heads", self.heads, f"a divisor of units={self.units}")
        validation.one_of("forget_gate", self.forget_gate, ("sigmoid", "exponential"))

    @property
    def width(self) -> int:
        """The width of a head."""
        return self.units // self.heads

    @property
    def state_shapes(self) -> list[Any]:
        return [(self.heads, self.width, self.width), (self.heads, self.width), (self.heads,)]

    @property
    def input_part_size(self) -> int:
        return 4 * self.units + 2 * self.heads

    @property
    def bias_shape(self) -> tuple[int, ...]:
        return (self.input_part_size,)

    @property
    def dropout_blocks(self) -> int:
        return 1

    def make_bias_initializer(self) -> Callable[..., Tensor]:
        if not self.unit_forget_bias:
            return self.bias_initializer

        def initializer(shape: Sequence[int], dtype: Any = None) -> Tensor:
            bias = self.bias_initializer((shape[0] - self.heads,), dtype=dtype)
            forget = ops.convert_to_tensor(np.linspace(3.0, 6.0, self.heads), dtype=dtype)
            return ops.concatenate([bias, forget])

        return initializer

    def _biases(self, weights: Mapping[str, Any]) -> tuple[Tensor | None, Tensor | None]:
        return weights.get("bias"), None

    def _parts(self, a: Tensor) -> tuple[Tensor, ...]:
        """q, k, v `(..., heads, d)`, p_o `(..., units)`, log i and log f `(..., heads)`."""
        units, heads = self.units, self.heads
        ends = [units, 2 * units, 3 * units, 4 * units, 4 * units + heads]
        *vectors, p_o, log_i, p_f = ops.split(a, ends, axis=-1)
        shape = (*ops.shape(a)[:-1], heads, self.width)
        q, k, v = (ops.reshape(x, shape) for x in vectors)
        log_f = ops.log_sigmoid(p_f) if self.forget_gate == "sigmoid" else p_f
        return q, k / math.sqrt(self.width), v, p_o, log_i, log_f

    def step(
        self,
        a: Tensor,
        states: Sequence[Tensor],
        weights: Weights,
        products: tuple[Callable[[Tensor], Tensor], ...],
    ) -> tuple[Tensor, list[Tensor]]:
        c, n, m = states
        q, k, v, p_o, log_i, log_f = self._parts(a)
        kept, m = log_f + m, ops.maximum(log_f + m, log_i)
        i, f = ops.exp(log_i - m)[..., None], ops.exp(kept - m)[..., None]
        c = f[..., None] * c + (i * k)[..., None] * v[..., None, :]
        n = f * n + i * k
        read = ops.sum(q[..., None] * c, axis=-2)
        scale = ops.maximum(ops.abs(ops.sum(q * n, axis=-1)), ops.exp(-m))
        h = ops.sigmoid(p_o) * ops.reshape(read / scale[..., None], ops.shape(p_o))
        return h, [c, n, m]

    def chunk(
        self, a: Tensor, states: list[Any], keep: Tensor | None, weights: Weights
    ) -> tuple[Tensor, list[Any]]:
        c, n, m = states
        q, k, v, p_o, log_i, log_f = self._parts(a)
        if keep is not None:
            log_i = ops.where(keep, log_i, NEVER)
            log_f = ops.where(keep, log_f, 0.0)
            k, v = (ops.where(keep[..., None], x, 0.0) for x in (k, v))
        # Axes: batch, head, and the steps.
        q, k, v = (ops.transpose(x, (1, 2, 0, 3)) for x in (q, k, v))
        log_i, log_f = (ops.transpose(x, (1, 2, 0)) for x in (log_i, log_f))
        log_weights = segment_sums(log_f) + log_i[..., None, :]
        log_kept = ops.cumsum(log_f, axis=-1) + m[..., None]
        m = ops.maximum(ops.max(log_weights, axis=-1), log_kept)
        memory = MatrixMemory(q, k, ops.exp(log_weights - m[..., None]), ops.exp(log_kept - m))
        n, ones = n[..., None], ops.ones_like(v[..., :1])  # n stores 1 under every key
        scale = ops.maximum(ops.abs(memory.read(n, ones)), ops.exp(-m)[..., None])
        h = ops.transpose(memory.read(c, v) / scale, (2, 0, 1, 3))
        h = ops.sigmoid(p_o) * ops.reshape(h, ops.shape(p_o))
        return h, [memory.write(c, v), memory.write(n, ones)[..., 0], m[..., -1]]


@keras.saving.register_keras_serializable(package="kerasrnn")
class MLSTM(
    Recurrent,
    cell_class=MLSTMCell,
    after_loop=("chunk_size", "heads", "forget_gate", "unit_forget_bias"),
):
    """A layer of the matrix LSTM of xLSTM."""
