"""JANET, just another network: van der Westhuizen & Lasenby (2018)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn.cells.cell import Cell
from kerasrnn.cells.layer import Recurrent
from kerasrnn.recurrence.loop import Weights

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class JANETCell(Cell):
    """One step of JANET, an LSTM with the forget gate alone.

    van der Westhuizen & Lasenby (2018), "The unreasonable effectiveness of the forget gate".

        a_t = x_t W + b,   r_t = h_{t-1} U,   (s_t, p_h) = a_t + r_t
        f_t = sigmoid(s_t),   candidate_t = tanh(p_h)
        h_t = f_t * h_{t-1} + (1 - sigmoid(s_t - beta)) * candidate_t

    With beta = 0 the input gate is 1 - f_t, and a unit forgets as much as it reads. With the
    paper's beta = 1 it reads more, and accumulates information. The authors use it on long
    sequences, with chrono-initialized biases, which are essential to their results:
    `bias_initializer=kerasrnn.ChronoInitializer(T, kerasrnn.JANETCell.memory_signs)` for sequences
    of T steps. By default all biases start at 0, as in the library's other cells.

    The paper calls the state c, the candidate c with a tilde, and h_t = c_t the output. `sigmoid`
    is `recurrent_activation`, `tanh` is `activation`. Weights: `kernel` W `(features, 2 * units)`,
    `recurrent_kernel` U `(units, 2 * units)`, `bias` b `(2 * units,)`, with the columns in the
    order f, h. State: h.

    Args:
        beta: number subtracted from s before the sigmoid of the input gate.
    """

    own_arguments: ClassVar = {"recurrent_activation": "sigmoid", "beta": 1.0}
    gates = ("f", "h")
    memory_signs = (1, 0)

    @property
    def gate_names(self) -> tuple[str, ...]:
        return ("f", "1 - i") if self.beta else ("f",)

    def update(
        self, a: Tensor, r: Tensor, states: Sequence[Tensor], weights: Weights
    ) -> tuple[Tensor, list[Tensor]]:
        (h,) = states
        s, p_h = ops.split(a + r, 2, axis=-1)
        f = self.recurrent_activation(s)
        i = 1 - (self.recurrent_activation(s - self.beta) if self.beta else f)
        h = f * h + i * self.activation(p_h)
        return h, [h]


@keras.saving.register_keras_serializable(package="kerasrnn")
class JANET(Recurrent, cell_class=JANETCell, after_loop=("beta",)):
    """A JANET layer, an LSTM with the forget gate alone."""
