"""The cell found by neural architecture search: Zoph & Le (2017)."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kerasrnn.cells.cell import Cell
from kerasrnn.cells.layer import Recurrent
from kerasrnn.recurrence.loop import Weights

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class NASCell(Cell):
    """One step of the recurrent cell that an architecture search found.

    Zoph & Le (2017), "Neural architecture search with reinforcement learning", the figure of the
    cell found on Penn Treebank.

        a_t = x_t W + b,   r_t = h_{t-1} U,   each of eight blocks;   p_k = a_k + r_k
        u_1 = tanh(sigmoid(p_1) * relu(p_2))
        u_2 = tanh(sigmoid(p_3) + relu(a_4 * r_4))
        u_3 = tanh(tanh(p_5) * sigmoid(p_6))
        u_4 = sigmoid(tanh(p_7) + sigmoid(p_8))
        c_t = tanh(u_1 + c_{t-1}) * u_2
        h_t = tanh(c_t * tanh(u_3 + u_4))

    A network that was trained to propose cells found this tree of operations, which has eight
    products where an LSTM has four, for language models. Its parts have no known meaning: they are
    not gates.

    The equations are those of TensorFlow's former `tf.contrib.rnn.NASCell` and
    `tfa.rnn.NASCell`, whose kernels have the same order of columns, and whose states are in the
    order c, h; they have no bias by default, and add it to r_t, which differs only in the fourth
    block. `tanh` is `activation`; `sigmoid` and `relu` are fixed. Weights: `kernel` W
    `(features, 8 * units)`, `recurrent_kernel` U `(units, 8 * units)`, `bias` b `(8 * units,)`,
    which the paper's figure does not have. States: h, c.
    """

    gates = ("1", "2", "3", "4", "5", "6", "7", "8")
    state_names = ("h", "c")

    @property
    def gate_names(self) -> tuple[str, ...]:
        return ()

    def update(
        self, a: Tensor, r: Tensor, states: Sequence[Tensor], weights: Weights
    ) -> tuple[Tensor, list[Tensor]]:
        _, c = states
        p_1, p_2, p_3, _, p_5, p_6, p_7, p_8 = ops.split(a + r, 8, axis=-1)
        fourth = slice(3 * self.units, 4 * self.units)
        tanh, sigmoid, relu = self.activation, ops.sigmoid, ops.relu
        u_3 = tanh(tanh(p_5) * sigmoid(p_6))
        u_4 = sigmoid(tanh(p_7) + sigmoid(p_8))
        u_1 = tanh(sigmoid(p_1) * relu(p_2))
        u_2 = tanh(sigmoid(p_3) + relu(a[:, fourth] * r[:, fourth]))
        c = tanh(u_1 + c) * u_2
        h = tanh(c * tanh(u_3 + u_4))
        return h, [h, c]


@keras.saving.register_keras_serializable(package="kerasrnn")
class NAS(Recurrent, cell_class=NASCell):
    """A layer of the recurrent cell that an architecture search found."""
