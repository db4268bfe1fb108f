"""The neuromodulated bistable recurrent cell: Vecoven, Ernst & Drion (2021)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn.cells.cell import Cell
from kerasrnn.cells.layer import Recurrent
from kerasrnn.recurrence.loop import Weights

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class NBRCCell(Cell):
    """One step of a recurrently neuromodulated bistable recurrent cell.

    Vecoven, Ernst & Drion (2021), "A bio-inspired bistable recurrent cell allows for long-lasting
    memory".

        (p_a, p_c, p_h) = x_t U + (b, 0),   (r_a, r_c) = h_{t-1} W
        a_t = 1 + tanh(p_a + r_a)
        c_t = sigmoid(p_c + r_c)
        h_t = c_t * h_{t-1} + (1 - c_t) * tanh(p_h + a_t * h_{t-1})

    It is a `BRC` whose gates read the states of all units: others decide when a unit is bistable,
    that is, when its feedback a_t exceeds 1 and it holds its state without inputs, and how fast it
    changes. The candidate feeds back only the unit's own state. It is a GRU (with
    `reset_after=True`) whose candidate has the identity as its recurrent kernel, and whose reset
    gate ranges from 0 to 2.

    The tanh of a_t is computed by `recurrent_activation`, as is c_t: 1 + tanh(p) = 2 sigmoid(2 p).
    `tanh` is `activation`. Weights: `kernel` U `(features, 3 * units)` with the columns in the
    order a, c, h; `recurrent_kernel` W `(units, 2 * units)` and `bias` b `(2 * units,)` of a, c.
    State: h. The paper writes no biases; the authors' code adds those of a and c, as here.
    """

    own_arguments: ClassVar = {"recurrent_activation": "sigmoid"}
    gates = ("a", "c", "h")
    memory_signs = (0, 1)

    @property
    def product_groups(self) -> tuple[tuple[str, ...], ...]:
        return (("a", "c"),)

    @property
    def bias_shape(self) -> tuple[int, ...]:
        return (2 * self.units,)

    def update(
        self, a: Tensor, r: Tensor, states: Sequence[Tensor], weights: Weights
    ) -> tuple[Tensor, list[Tensor]]:
        (h,) = states
        p_gates, p_h = ops.split(a, [2 * self.units], axis=-1)
        p_a, p_c = ops.split(p_gates + r, 2, axis=-1)
        a = 2 * self.recurrent_activation(2 * p_a)  # 1 + tanh(p_a)
        c = self.recurrent_activation(p_c)
        h = c * h + (1 - c) * self.activation(p_h + a * h)
        return h, [h]


@keras.saving.register_keras_serializable(package="kerasrnn")
class NBRC(Recurrent, cell_class=NBRCCell):
    """A recurrently neuromodulated bistable recurrent layer."""
