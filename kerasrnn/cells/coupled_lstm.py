"""LSTM with coupled input and forget gates: Greff et al. (2017)."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kerasrnn.cells.activations import activate
from kerasrnn.cells.layer import Recurrent
from kerasrnn.cells.lstm import LSTMCell
from kerasrnn.cells.onnx_operator import SYMMETRIC, OnnxOperator
from kerasrnn.recurrence.loop import Weights

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class CoupledLSTMCell(LSTMCell):
    """One step of a long short-term memory whose input gate is 1 minus its forget gate.

    Greff et al. (2017), "LSTM: a search space odyssey", where it is called CIFG.

        a_t = x_t W + b,   r_t = h_{t-1} U,   (p_f, p_c, p_o) = a_t + r_t
        f_t = sigmoid(p_f),   o_t = sigmoid(p_o)
        c_t = f_t * c_{t-1} + (1 - f_t) * tanh(p_c)
        h_t = o_t * tanh(c_t)

    As in GRU, a unit reads as much as it forgets, and its cell state stays between -1 and 1. The
    paper finds that it performs as well as LSTM on speech, handwriting and music, with three
    quarters of the weights.

    The paper writes i for the gate, and f = 1 - i: the same cell, with the gate's weights negated.
    The paper's networks have peepholes, this one has none. `sigmoid` is `recurrent_activation`,
    `tanh` is `activation`. Weights: `kernel` W `(features, 3 * units)`, `recurrent_kernel` U
    `(units, 3 * units)`, `bias` b `(3 * units,)`, with the gates' columns in the order f, c, o.
    States: h, c.
    """

    gates = ("f", "c", "o")
    memory_signs = (1, 0, 0)
    single_read = True

    @property
    def onnx_operator(self) -> OnnxOperator | None:
        if self.recurrent_activation not in SYMMETRIC:
            return None
        # ONNX has i, and f = 1 - i: sigmoid(-p) = 1 - sigmoid(p).
        activations = (self.recurrent_activation, self.activation, self.activation)
        return OnnxOperator("LSTM", ("-f", "o", "f", "c"), activations, input_forget=True)

    def update(
        self, a: Tensor, r: Tensor, states: Sequence[Tensor], weights: Weights
    ) -> tuple[Tensor, list[Tensor]]:
        _, c = states
        f, candidate, o = ops.split(activate(a + r, self._activations), 3, axis=-1)
        c = f * c + (1 - f) * candidate
        h = o * self.activation(c)
        return h, [h, c]


@keras.saving.register_keras_serializable(package="kerasrnn")
class CoupledLSTM(Recurrent, cell_class=CoupledLSTMCell, after_loop=("use_cudnn",)):
    """A long short-term memory layer whose input gate is 1 minus its forget gate."""
