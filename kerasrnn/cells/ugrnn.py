"""The update gate recurrent network: Collins, Sohl-Dickstein & Sussillo (2017)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn.cells.cell import Cell
from kerasrnn.cells.layer import Recurrent
from kerasrnn.recurrence.loop import Weights

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class UGRNNCell(Cell):
    """One step of an update gate recurrent network.

    Collins, Sohl-Dickstein & Sussillo (2017), "Capacity and trainability in recurrent neural
    networks".

        a_t = x_t W + b,   r_t = h_{t-1} U,   (p_g, p_h) = a_t + r_t
        g_t = sigmoid(p_g),   candidate_t = tanh(p_h)
        h_t = g_t * h_{t-1} + (1 - g_t) * candidate_t

    The gate decides whether a unit integrates over time or responds only to the current step: it is
    a GRU without the reset gate. The paper calls the candidate c. `sigmoid` is
    `recurrent_activation`, `tanh` is `activation`. Weights: `kernel` W `(features, 2 * units)`,
    `recurrent_kernel` U `(units, 2 * units)`, `bias` b `(2 * units,)`, with the columns in the
    order g, h. State: h.
    """

    own_arguments: ClassVar = {"recurrent_activation": "sigmoid"}
    gates = ("g", "h")
    memory_signs = (1, 0)

    def update(
        self, a: Tensor, r: Tensor, states: Sequence[Tensor], weights: Weights
    ) -> tuple[Tensor, list[Tensor]]:
        (h,) = states
        p_g, p_h = ops.split(a + r, 2, axis=-1)
        g = self.recurrent_activation(p_g)
        h = g * h + (1 - g) * self.activation(p_h)
        return h, [h]


@keras.saving.register_keras_serializable(package="kerasrnn")
class UGRNN(Recurrent, cell_class=UGRNNCell):
    """An update gate recurrent network layer."""
