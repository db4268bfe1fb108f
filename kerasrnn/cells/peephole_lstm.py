"""LSTM with peephole connections: Gers & Schmidhuber (2000)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn.cells.layer import Recurrent
from kerasrnn.cells.lstm import LSTMCell
from kerasrnn.cells.onnx_operator import OnnxOperator
from kerasrnn.recurrence.loop import Weights

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class PeepholeLSTMCell(LSTMCell):
    """One step of a long short-term memory whose gates read the cell state.

    Gers & Schmidhuber (2000), "Recurrent nets that time and count"; Gers, Schraudolph & Schmidhuber
    (2002), "Learning precise timing with LSTM recurrent networks". The papers truncate the
    gradient; this cell uses the full gradient.

        a_t = x_t W + b,   r_t = h_{t-1} U,   (p_i, p_f, p_c, p_o) = a_t + r_t
        i_t = sigmoid(p_i + V_i * c_{t-1}),   f_t = sigmoid(p_f + V_f * c_{t-1})
        c_t = f_t * c_{t-1} + i_t * tanh(p_c)
        o_t = sigmoid(p_o + V_o * c_t)
        h_t = o_t * tanh(c_t)

    The gates of an LSTM read h, the cell state behind the output gate: while that gate is closed,
    they have no information on the state that they control. With peepholes the networks of the
    papers measure intervals and count.

    `sigmoid` is `recurrent_activation`, `tanh` is `activation`. Weights: those of `LSTMCell`
    (`kernel` W, `recurrent_kernel` U, `bias` b; the gates' columns in the order i, f, c, o), then
    `peephole_kernel` V `(3, units)`, its rows in the order i, f, o. With V = 0, its default initial
    value, the cell equals `LSTMCell`. States: h, c.
    """

    own_arguments: ClassVar = {
        "peephole_initializer": "zeros",
        "peephole_regularizer": None,
        "peephole_constraint": None,
    }
    step_weights = ("peephole_kernel",)

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)
        self.peephole_kernel = self.add_weight(
            shape=(3, self.units),
            name="peephole_kernel",
            initializer=self.peephole_initializer,
            regularizer=self.peephole_regularizer,
            constraint=self.peephole_constraint,
        )

    @property
    def onnx_operator(self) -> OnnxOperator | None:
        activations = (self.recurrent_activation, self.activation, self.activation)
        return OnnxOperator("LSTM", ("i", "o", "f", "c"), activations, peepholes=(0, 2, 1))

    def update(
        self, a: Tensor, r: Tensor, states: Sequence[Tensor], weights: Weights
    ) -> tuple[Tensor, list[Tensor]]:
        _, c = states
        p_i, p_f, p_c, p_o = ops.split(a + r, 4, axis=-1)
        v_i, v_f, v_o = ops.split(weights["peephole_kernel"], 3)  # (1, units) each
        i = self.recurrent_activation(p_i + v_i * c)
        f = self.recurrent_activation(p_f + v_f * c)
        c = f * c + i * self.activation(p_c)
        o = self.recurrent_activation(p_o + v_o * c)
        h = o * self.activation(c)
        return h, [h, c]


@keras.saving.register_keras_serializable(package="kerasrnn")
class PeepholeLSTM(
    Recurrent,
    cell_class=PeepholeLSTMCell,
    after_loop=("peephole_initializer", "peephole_regularizer", "peephole_constraint"),
):
    """A long short-term memory layer whose gates read the cell state."""
