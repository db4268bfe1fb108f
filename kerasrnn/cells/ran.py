"""The recurrent additive network: Lee, Levy & Zettlemoyer (2017)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn.cells.cell import Cell
from kerasrnn.cells.layer import Recurrent
from kerasrnn.recurrence.loop import Weights

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class RANCell(Cell):
    """One step of a recurrent additive network.

    Lee, Levy & Zettlemoyer (2017), "Recurrent additive networks".

        (a_i, a_f, a_c) = x_t W + (b, 0),   (r_i, r_f) = h_{t-1} U
        i_t = sigmoid(a_i + r_i),   f_t = sigmoid(a_f + r_f)
        c_t = i_t * a_c + f_t * c_{t-1}
        h_t = tanh(c_t)

    The candidate a_c is a linear function of the input alone, without a bias, so that the cell
    state is a weighted sum of the inputs, whose weights are products of gates: one can read from
    them which inputs a state remembers. The paper uses it for language models, with results close
    to those of LSTM and fewer weights.

    The paper's g, which is tanh or the identity, is `activation`; `sigmoid` is
    `recurrent_activation`. Weights: `kernel` W `(features, 3 * units)` with the columns in the
    order i, f, c; `recurrent_kernel` U `(units, 2 * units)` and `bias` b `(2 * units,)` of the
    gates i, f. States: h, c.
    """

    own_arguments: ClassVar = {"recurrent_activation": "sigmoid"}
    gates = ("i", "f", "c")
    memory_signs = (-1, 1)
    state_names = ("h", "c")

    @property
    def product_groups(self) -> tuple[tuple[str, ...], ...]:
        return (("i", "f"),)

    @property
    def bias_shape(self) -> tuple[int, ...]:
        return (2 * self.units,)

    def update(
        self, a: Tensor, r: Tensor, states: Sequence[Tensor], weights: Weights
    ) -> tuple[Tensor, list[Tensor]]:
        _, c = states
        a_gates, content = ops.split(a, [2 * self.units], axis=-1)
        i, f = ops.split(self.recurrent_activation(a_gates + r), 2, axis=-1)
        c = i * content + f * c
        h = self.activation(c)
        return h, [h, c]


@keras.saving.register_keras_serializable(package="kerasrnn")
class RAN(Recurrent, cell_class=RANCell):
    """A recurrent additive network layer."""
