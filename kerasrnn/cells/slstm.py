"""The scalar LSTM of xLSTM: Beck et al. (2024)."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.cells.arguments import REMOVED
from kerasrnn.cells.cell import Cell
from kerasrnn.cells.layer import Recurrent
from kerasrnn.cells.lstm import unit_forget_bias
from kerasrnn.recurrence.loop import Weights
from kerasrnn.recurrence.products import HeadsProduct, Product

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class SLSTMCell(Cell):
    """One step of the scalar LSTM of xLSTM, with exponential gates.

    Beck et al. (2024), "xLSTM: extended long short-term memory", equations 8 to 17.

        a_t = x_t W + b,   r_t = h_{t-1} U,   (p_i, p_f, p_z, p_o) = a_t + r_t
        log i_t = p_i,   log f_t = log sigmoid(p_f),   z_t = tanh(p_z),   o_t = sigmoid(p_o)
        m_t = max(log f_t + m_{t-1}, log i_t)
        i'_t = exp(log i_t - m_t),   f'_t = exp(log f_t + m_{t-1} - m_t)
        c_t = f'_t * c_{t-1} + i'_t * z_t
        n_t = f'_t * n_{t-1} + i'_t
        h_t = o_t * c_t / n_t

    The cell state c divided by the normalizer n is the mean of all candidates z, weighted with
    their input gates and with the forget gates of the steps that follow. Since an exponential input
    gate is not bounded, a later step can outweigh everything stored before. The stabilizer m
    changes no output: with it no exponential exceeds 1.

    `heads` divides the units into heads of equal size: the recurrent kernel connects only units of
    the same head, and is block-diagonal in each gate. The paper uses four heads; with the default
    of 1 all units are connected. Diagnoses show the stabilized gates, i' and f'.

    The paper does not give the initial states. n_{t-1} = 0, the initial state of zeros, means that
    nothing is stored: then m_t = log i_t and f'_t = 0, as with m_0 = -infinity, so that n_t is at
    least 1. A negative n_{t-1}, which only a caller can pass, is taken for 0. The paper adds layer
    normalization, convolutions and projections around the cell, which are layers of their own here.

    `tanh` is `activation`; the functions of the gates are fixed. Weights: `kernel` W `(features,
    4 * units)`, `recurrent_kernel` U `(units / heads, 4 * units)`, the columns of head k in each
    gate being applied to the units of head k, `bias` b `(4 * units,)`, with the gates' columns in
    the order i, f, z, o. In `gates`, z has the name c, of the state whose candidate it is. States:
    h, c, n, m.

    Args:
        unit_forget_bias: whether to add 1 to the initial bias of the forget gate. The authors
            initialize it between 3 and 6, or by a power law of the depth.
        heads: positive integer that divides `units`.
        forget_gate: "sigmoid" or "exponential", the two forget gates of the paper.
    """

    own_arguments: ClassVar = {
        "unit_forget_bias": True,
        "heads": 1,
        "forget_gate": "sigmoid",
        "recurrent_parametrization": REMOVED,
    }
    gates = ("i", "f", "c", "o")
    state_names = ("h", "c", "n", "m")
    without_zoneout = ("c", "n", "m")  # c and n are scaled by exp(-m)
    single_read = True

    def __post_init__(self) -> None:
        if self.units % self.heads:
            raise validation.ArgumentError("heads", self.heads, f"a divisor of units={self.units}")

    @property
    def recurrent_kernel_shape(self) -> tuple[int, ...]:
        return (self.units // self.heads, 4 * self.units)

    def make_bias_initializer(self) -> Callable[..., Tensor]:
        if not self.unit_forget_bias:
            return self.bias_initializer
        return unit_forget_bias(self.bias_initializer, self.gates, self.units)

    def recurrent_products(self, weights: Weights) -> tuple[Product, ...]:
        if self.heads == 1:
            return super().recurrent_products(weights)
        masks = weights.noise.get("states")
        return (HeadsProduct(weights["recurrent_kernel"], self.heads, len(self.gates), masks),)

    def recurrent_matrices(self) -> dict[str, Tensor]:
        kernel = ops.convert_to_tensor(self.recurrent_kernel)
        head = np.arange(self.units) // kernel.shape[0]
        within = ops.cast(head[:, None] == head, kernel.dtype)
        blocks = ops.split(ops.tile(kernel, (self.heads, 1)), len(self.gates), axis=-1)
        return {gate: block * within for gate, block in zip(self.gates, blocks, strict=True)}

    def update(
        self, a: Tensor, r: Tensor, states: Sequence[Tensor], weights: Weights
    ) -> tuple[Tensor, list[Tensor]]:
        _, c, n, m = states
        log_i, p_f, p_z, p_o = ops.split(a + r, 4, axis=-1)
        log_f = ops.log_sigmoid(p_f) if self.forget_gate == "sigmoid" else p_f
        # Both branches of each `where` are finite, since the gradient passes through both.
        stored = n > 0
        log_kept = ops.where(stored, log_f + m, log_i)
        m = ops.maximum(log_kept, log_i)
        i = ops.exp(log_i - m)
        f = ops.where(stored, ops.exp(log_kept - m), ops.zeros_like(m))
        i, f, o = self.observed(i, f, ops.sigmoid(p_o))
        c = f * c + i * self.activation(p_z)
        n = f * n + i
        h = o * c / n
        return h, [h, c, n, m]


@keras.saving.register_keras_serializable(package="kerasrnn")
class SLSTM(
    Recurrent, cell_class=SLSTMCell, after_loop=("unit_forget_bias", "heads", "forget_gate")
):
    """A layer of the scalar LSTM of xLSTM."""
