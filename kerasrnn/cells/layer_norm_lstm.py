"""LSTM with layer normalization: Ba, Kiros & Hinton (2016)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn.cells.layer import Recurrent
from kerasrnn.cells.lstm import LSTMCell
from kerasrnn.cells.normalization import normalize
from kerasrnn.recurrence.loop import Weights
from kerasrnn.recurrence.products import input_part

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class LayerNormLSTMCell(LSTMCell):
    """One step of a long short-term memory with layer normalization.

    Ba, Kiros & Hinton (2016), "Layer normalization", equations 20 to 22 of the supplement.

        N(v) = (v - mean(v)) / sqrt(variance(v) + epsilon)       over the features of a step
        a_t = gamma_x * N(x_t W) + b,   r_t = gamma_h * N(h_{t-1} U)
        (p_i, p_f, p_c, p_o) = a_t + r_t
        i_t = sigmoid(p_i),   f_t = sigmoid(p_f),   o_t = sigmoid(p_o)
        c_t = f_t * c_{t-1} + i_t * tanh(p_c)
        h_t = o_t * tanh(gamma_c * N(c_t) + beta_c)

    The input part and the recurrent part are each normalized over all 4 * units columns, not over
    the batch: the result is the same in training and in inference, and for any number of steps. b
    is one bias: the paper adds a shift to each part and a bias to both, three vectors of which only
    the sum matters. The cell state passed to the next step is c_t, not normalized. `epsilon`
    follows Keras's `LayerNormalization`; the paper has none. If h_0 = 0, the first recurrent part
    is constant, and its gradient is multiplied by 1 / sqrt(epsilon). Normalization amplifies
    rounding errors of small values: in half precision a narrow layer needs a larger `epsilon`, such
    as 0.1.

    `sigmoid` is `recurrent_activation`, `tanh` is `activation`. Weights: those of `LSTMCell`
    (`kernel` W, `recurrent_kernel` U, `bias` b; the gates' columns in the order i, f, c, o), then
    `kernel_gamma` `(4 * units,)`, `recurrent_gamma` `(4 * units,)`, `state_gamma` and `state_beta`
    `(units,)`: the gains start at 1, the shift at 0. States: h, c.
    """

    own_arguments: ClassVar = {"epsilon": 1e-3}
    step_weights = ("recurrent_gamma", "state_gamma", "state_beta")

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)
        width = len(self.gates) * self.units
        units = (self.units,)
        self.kernel_gamma = self.add_weight(shape=(width,), initializer="ones", name="kernel_gamma")
        self.recurrent_gamma = self.add_weight(
            shape=(width,), initializer="ones", name="recurrent_gamma"
        )
        self.state_gamma = self.add_weight(shape=units, initializer="ones", name="state_gamma")
        self.state_beta = self.add_weight(shape=units, initializer="zeros", name="state_beta")

    def input_part(self, x: Tensor, weights: Weights) -> Tensor:
        product = input_part(x, weights["kernel"], None, weights.noise.get("inputs"))
        a = weights["kernel_gamma"] * normalize(product, self.epsilon)
        return a + weights["bias"] if self.use_bias else a

    def update(
        self, a: Tensor, r: Tensor, states: Sequence[Tensor], weights: Weights
    ) -> tuple[Tensor, list[Tensor]]:
        _, c = states
        r = weights["recurrent_gamma"] * normalize(r, self.epsilon)
        p_i, p_f, p_c, p_o = ops.split(a + r, 4, axis=-1)
        i = self.recurrent_activation(p_i)
        f = self.recurrent_activation(p_f)
        o = self.recurrent_activation(p_o)
        c = f * c + i * self.activation(p_c)
        n = weights["state_gamma"] * normalize(c, self.epsilon) + weights["state_beta"]
        h = o * self.activation(n)
        return h, [h, c]


@keras.saving.register_keras_serializable(package="kerasrnn")
class LayerNormLSTM(Recurrent, cell_class=LayerNormLSTMCell, after_loop=("epsilon",)):
    """A long short-term memory layer with layer normalization."""
