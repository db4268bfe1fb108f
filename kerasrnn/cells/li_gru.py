"""The light gated recurrent unit: Ravanelli, Brakel, Omologo & Bengio (2018)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn.cells.cell import Cell
from kerasrnn.cells.layer import Recurrent
from kerasrnn.recurrence.loop import Weights

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class LiGRUCell(Cell):
    """One step of a light gated recurrent unit.

    Ravanelli, Brakel, Omologo & Bengio (2018), "Light gated recurrent units for speech
    recognition".

        a_t = x_t W + b,   r_t = h_{t-1} U,   (p_z, p_h) = a_t + r_t
        z_t = sigmoid(p_z),   candidate_t = relu(p_h)
        h_t = z_t * h_{t-1} + (1 - z_t) * candidate_t

    It is a GRU without the reset gate, which the authors found redundant for speech, and with an
    activation that does not saturate. It has two thirds of GRU's weights.

    The paper normalizes x_t W over the batch and the steps, with a shift in place of b, which keeps
    the relu's states small; this cell has no normalization.

    `sigmoid` is `recurrent_activation`, `relu` is `activation`. Weights: `kernel` W
    `(features, 2 * units)`, `recurrent_kernel` U `(units, 2 * units)`, `bias` b `(2 * units,)`,
    with the columns in the order z, h. State: h.
    """

    own_arguments: ClassVar = {"activation": "relu", "recurrent_activation": "sigmoid"}
    gates = ("z", "h")
    memory_signs = (1, 0)

    def update(
        self, a: Tensor, r: Tensor, states: Sequence[Tensor], weights: Weights
    ) -> tuple[Tensor, list[Tensor]]:
        (h,) = states
        p_z, p_h = ops.split(a + r, 2, axis=-1)
        z = self.recurrent_activation(p_z)
        h = z * h + (1 - z) * self.activation(p_h)
        return h, [h]


@keras.saving.register_keras_serializable(package="kerasrnn")
class LiGRU(Recurrent, cell_class=LiGRUCell):
    """A light gated recurrent unit layer."""
