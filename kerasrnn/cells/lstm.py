"""Long short-term memory: Hochreiter & Schmidhuber (1997), Gers et al. (2000)."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn.cells.activations import DERIVATIVES, activate
from kerasrnn.cells.cell import Cell
from kerasrnn.cells.layer import Recurrent
from kerasrnn.cells.onnx_operator import OnnxOperator
from kerasrnn.recurrence.loop import Weights

Tensor = Any


def unit_forget_bias(
    initializer: Callable[..., Tensor], gates: Sequence[str], units: int
) -> Callable[..., Tensor]:
    """An initializer of the bias of gates: 1 for f, and the given initializer for the others.

    For the gates i, f, c, o the initial values are those of Keras's LSTM with the same seed.
    """
    before = gates.index("f") * units
    after = (len(gates) - 1) * units - before

    def initialize(_: Any, **kwargs: Any) -> Tensor:
        return ops.concatenate(
            [
                initializer((before,), **kwargs),
                ops.ones((units,), **kwargs),
                initializer((after,), **kwargs),
            ]
        )

    return initialize


class LSTMGates:
    """The gates of LSTM and their adjoint, for cells with any recurrent part.

    Units are the last axis; there may be axes between it and the batch.
    """

    own_arguments: ClassVar = {"recurrent_activation": "sigmoid", "unit_forget_bias": True}
    gates = ("i", "f", "c", "o")
    memory_signs = (-1, 1, 0, 0)
    state_names = ("h", "c")
    single_read = True

    def make_bias_initializer(self) -> Callable[..., Tensor]:
        if not self.unit_forget_bias:
            return self.bias_initializer
        return unit_forget_bias(self.bias_initializer, self.gates, self.units)

    def update(
        self, a: Tensor, r: Tensor, states: Sequence[Tensor], weights: Weights
    ) -> tuple[Tensor, list[Tensor]]:
        h, states, _ = self.update_with_residuals(a, r, states, weights)
        return h, states

    @property
    def has_adjoint(self) -> bool:
        return self.activation in DERIVATIVES and self.recurrent_activation in DERIVATIVES

    def update_with_residuals(
        self, a: Tensor, r: Tensor, states: Sequence[Tensor], weights: Weights
    ) -> tuple[Tensor, list[Tensor], Any]:
        _, c = states
        gates = activate(a + r, self._activations)  # (L1) to (L4)
        i, f, candidate, o = ops.split(gates, 4, axis=-1)
        c = f * c + i * candidate  # (L5)
        h = o * self.activation(c)  # (L6)
        return h, [h, c], gates

    def update_adjoint(
        self,
        residuals: Tensor,
        states: Sequence[Tensor],
        d_output: Tensor,
        d_states: Sequence[Tensor],
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        i, f, candidate, o = ops.split(residuals, 4, axis=-1)
        of_activation = DERIVATIVES[self.activation]
        of_gate = DERIVATIVES[self.recurrent_activation]
        # Recomputed rather than stored: equally fast, and it would be a sixth of what is stored.
        shown = self.activation(f * states[1] + i * candidate)
        dh = d_output + d_states[0]  # (B2)
        dc = d_states[1] + dh * o * of_activation(shown)  # (L8)
        dp = ops.concatenate(
            [
                dc * candidate * of_gate(i),  # (L9), (L12)
                dc * states[1] * of_gate(f),  # (L10), (L13)
                dc * i * of_activation(candidate),  # (L11), (L14)
                dh * shown * of_gate(o),  # (L7), (L15)
            ],
            axis=-1,
        )
        return dp, dp, [0, dc * f]  # (L16), (L18); (L17) is the product's

    @property
    def _activations(self) -> list[Callable[[Tensor], Tensor]]:
        """The activations of the gates, in order."""
        return [self.activation if g == "c" else self.recurrent_activation for g in self.gates]


@keras.saving.register_keras_serializable(package="kerasrnn")
class LSTMCell(LSTMGates, Cell):
    """One step of a long short-term memory, drop-in for `keras.layers.LSTMCell`.

    Hochreiter & Schmidhuber (1997), "Long short-term memory"; the forget gate is from Gers,
    Schmidhuber & Cummins (2000), "Learning to forget: continual prediction with LSTM".

        a_t = x_t W + b,   r_t = h_{t-1} U,   (p_i, p_f, p_c, p_o) = a_t + r_t
        i_t = sigmoid(p_i),   f_t = sigmoid(p_f),   o_t = sigmoid(p_o)
        c_t = f_t * c_{t-1} + i_t * tanh(p_c)
        h_t = o_t * tanh(c_t)

    `sigmoid` is `recurrent_activation`, `tanh` is `activation`. Weights: `kernel` W
    `(features, 4 * units)`, `recurrent_kernel` U `(units, 4 * units)`, `bias` b `(4 * units,)`,
    with the gates' columns in the order i, f, c, o. States: h, c.
    """

    @property
    def onnx_operator(self) -> OnnxOperator | None:
        activations = (self.recurrent_activation, self.activation, self.activation)
        return OnnxOperator("LSTM", ("i", "o", "f", "c"), activations)


@keras.saving.register_keras_serializable(package="kerasrnn")
class LSTM(Recurrent, cell_class=LSTMCell, after_loop=("use_cudnn",)):
    """A long short-term memory layer, drop-in for `keras.layers.LSTM`."""
