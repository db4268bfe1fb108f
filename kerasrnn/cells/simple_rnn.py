"""The simple recurrent network: Elman (1990), "Finding structure in time"."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from kerasrnn.cells.activations import DERIVATIVES
from kerasrnn.cells.cell import Cell
from kerasrnn.cells.layer import Recurrent
from kerasrnn.cells.onnx_operator import OnnxOperator

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class SimpleRNNCell(Cell):
    """One step of a simple recurrent network (Elman 1990, "Finding structure in time").

        a_t = x_t W + b,   r_t = h_{t-1} U
        h_t = tanh(a_t + r_t)

    `tanh` is `activation`. Weights: `kernel` W `(features, units)`, `recurrent_kernel` U
    `(units, units)`, `bias` b `(units,)`. State: h. Drop-in for `keras.layers.SimpleRNNCell`.

    Call arguments:
        inputs: `(batch, features)`.
        states: h, `(batch, units)`, alone or in a list.
        training: whether dropout is applied.

    Raises:
        ValueError: an argument is out of its range.

    Example:

        >>> import numpy as np, kerasrnn
        >>> cell = kerasrnn.SimpleRNNCell(4)
        >>> h, states = cell(np.ones((2, 3), "float32"), cell.get_initial_state(2))
        >>> tuple(h.shape), len(states)
        ((2, 4), 1)
    """

    reads_once = True

    def update(
        self, a: Tensor, r: Tensor, states: Sequence[Tensor], weights: Mapping[str, Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        h = self.activation(a + r)
        return h, [h]

    @property
    def onnx_operator(self) -> OnnxOperator | None:
        return OnnxOperator("RNN", self.gates, (self.activation,))

    @property
    def has_adjoint(self) -> bool:
        return self.activation in DERIVATIVES

    def update_keeping(
        self, a: Tensor, r: Tensor, states: Sequence[Tensor], weights: Mapping[str, Tensor]
    ) -> tuple[Tensor, list[Tensor], Any]:
        h, states = self.update(a, r, states, weights)
        return h, states, h

    def update_adjoint(
        self, kept: Tensor, states: Sequence[Tensor], d_output: Tensor, d_states: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        dp = (d_output + d_states[0]) * DERIVATIVES[self.activation](kept)  # (S3)
        return dp, dp, [0]  # (S4); (S5) is the product's


@keras.saving.register_keras_serializable(package="kerasrnn")
class SimpleRNN(Recurrent, cell_class=SimpleRNNCell, after_loop=("seed",)):
    """A simple recurrent network (Elman 1990), drop-in for `keras.layers.SimpleRNN`.

        a_t = x_t W + b,   r_t = h_{t-1} U
        h_t = tanh(a_t + r_t)

    `tanh` is `activation`. Weights: `kernel` W `(features, units)`, `recurrent_kernel` U
    `(units, units)`, `bias` b `(units,)`.

    Example:

        >>> import numpy as np, kerasrnn
        >>> y, h = kerasrnn.SimpleRNN(4, return_sequences=True, return_state=True)(
        ...     np.ones((2, 5, 3), "float32"))
        >>> tuple(y.shape), tuple(h.shape)
        ((2, 5, 4), (2, 4))
    """
