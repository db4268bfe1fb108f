"""Multiplicative LSTM: Krause, Lu, Murray & Renals (2016)."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn.cells.cell import Cell
from kerasrnn.cells.layer import Recurrent
from kerasrnn.recurrence.loop import Weights

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class MultiplicativeLSTMCell(Cell):
    """One step of a multiplicative long short-term memory.

    Krause, Lu, Murray & Renals (2016), "Multiplicative LSTM for sequence modelling", section 3.

        (a_m, a_i, a_f, a_c, a_o) = x_t W + b
        m_t = a_m * (h_{t-1} U_m)
        i_t = sigmoid(a_i + m_t U_i),   f_t = sigmoid(a_f + m_t U_f),   o_t = sigmoid(a_o + m_t U_o)
        c_t = f_t * c_{t-1} + i_t * tanh(a_c + m_t U_c)
        h_t = o_t * tanh(c_t)

    The gates of an LSTM read the intermediate state m instead of h: the factor a_m rescales it for
    each input, so that every input has a recurrent matrix of its own, of which the others share the
    factors. The cell is made for characters and bytes, where one surprising symbol should change
    the state: Radford et al. (2017) trained the "sentiment neuron" with it. An early version of the
    authors' code applies the output gate before tanh; this cell follows the later one, where it is
    applied after tanh, as in LSTM.

    `sigmoid` is `recurrent_activation`, `tanh` is `activation`. Weights: `kernel` W
    `(features, 5 * units)`, `recurrent_kernel` U `(units, 5 * units)`, `bias` b `(5 * units,)`,
    with the columns in the order m, i, f, c, o. The paper's factor has no bias; here it starts at
    the value of `bias_initializer`, 0. With U_m the identity and a_m = 1, the cell equals
    `LSTMCell`. States: h, c.
    """

    own_arguments: ClassVar = {"recurrent_activation": "sigmoid", "unit_forget_bias": True}
    gates = ("m", "i", "f", "c", "o")
    state_names = ("h", "c")
    memory_signs = (0, -1, 1, 0, 0)

    @property
    def gate_names(self) -> tuple[str, ...]:
        return ("i", "f", "o")

    @property
    def product_groups(self) -> tuple[tuple[str, ...], ...]:
        return (("m",), ("i", "f", "c", "o"))

    def make_bias_initializer(self) -> Callable[..., Tensor]:
        if not self.unit_forget_bias:
            return self.bias_initializer

        def initialize(_: Any, **kwargs: Any) -> Tensor:
            return ops.concatenate(
                [
                    self.bias_initializer((2 * self.units,), **kwargs),
                    ops.ones((self.units,), **kwargs),
                    self.bias_initializer((2 * self.units,), **kwargs),
                ]
            )

        return initialize

    def step(
        self,
        a: Tensor,
        states: Sequence[Tensor],
        weights: Weights,
        products: tuple[Callable[[Tensor], Tensor], ...],
    ) -> tuple[Tensor, list[Tensor]]:
        of_h, of_m = products
        h, c = states
        a_m, a_gates = ops.split(a, [self.units], axis=-1)
        m = a_m * of_h(h)
        p_i, p_f, p_c, p_o = ops.split(a_gates + of_m(m), 4, axis=-1)
        i, f, o = (self.recurrent_activation(p) for p in (p_i, p_f, p_o))
        c = f * c + i * self.activation(p_c)
        h = o * self.activation(c)
        return h, [h, c]


@keras.saving.register_keras_serializable(package="kerasrnn")
class MultiplicativeLSTM(Recurrent, cell_class=MultiplicativeLSTMCell):
    """A multiplicative long short-term memory layer."""
