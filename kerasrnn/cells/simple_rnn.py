"""The simple recurrent network: Elman (1990), "Finding structure in time"."""

from collections.abc import Sequence
from typing import Any

import keras

from kerasrnn.cells.activations import DERIVATIVES
from kerasrnn.cells.cell import Cell
from kerasrnn.cells.layer import Recurrent
from kerasrnn.cells.onnx_operator import OnnxOperator
from kerasrnn.recurrence.loop import Weights

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class SimpleRNNCell(Cell):
    """One step of a simple recurrent network, drop-in for `keras.layers.SimpleRNNCell`.

    Elman (1990), "Finding structure in time".

        a_t = x_t W + b,   r_t = h_{t-1} U
        h_t = tanh(a_t + r_t)

    `tanh` is `activation`. Weights: `kernel` W `(features, units)`, `recurrent_kernel` U
    `(units, units)`, `bias` b `(units,)`. State: h.
    """

    single_read = True

    def update(
        self, a: Tensor, r: Tensor, states: Sequence[Tensor], weights: Weights
    ) -> tuple[Tensor, list[Tensor]]:
        h = self.activation(a + r)
        return h, [h]

    @property
    def onnx_operator(self) -> OnnxOperator | None:
        return OnnxOperator("RNN", self.gates, (self.activation,))

    @property
    def has_adjoint(self) -> bool:
        return self.activation in DERIVATIVES

    def update_with_residuals(
        self, a: Tensor, r: Tensor, states: Sequence[Tensor], weights: Weights
    ) -> tuple[Tensor, list[Tensor], Any]:
        h, states = self.update(a, r, states, weights)
        return h, states, h

    def update_adjoint(
        self,
        residuals: Tensor,
        states: Sequence[Tensor],
        d_output: Tensor,
        d_states: Sequence[Tensor],
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        dp = (d_output + d_states[0]) * DERIVATIVES[self.activation](residuals)  # (S3)
        return dp, dp, [0]  # (S4); (S5) is the product's


@keras.saving.register_keras_serializable(package="kerasrnn")
class SimpleRNN(Recurrent, cell_class=SimpleRNNCell, after_loop=("seed",)):
    """A simple recurrent network layer, drop-in for `keras.layers.SimpleRNN`."""
