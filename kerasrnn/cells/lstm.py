"""Long short-term memory: Hochreiter & Schmidhuber (1997), Gers et al. (2000)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.cells.activations import DERIVATIVES, activate
from kerasrnn.cells.cell import GatedCell
from kerasrnn.cells.layer import Recurrent
from kerasrnn.cells.onnx_operator import OnnxOperator
from kerasrnn.validation import PositiveInteger, Rate, Seed

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class LSTMCell(GatedCell):
    """One step of a long short-term memory.

    Hochreiter & Schmidhuber (1997), "Long short-term memory"; the forget gate is Gers,
    Schmidhuber & Cummins's (2000), "Learning to forget: continual prediction with LSTM".

        a_t = x_t W + b,   r_t = h_{t-1} U,   (p_i, p_f, p_c, p_o) = a_t + r_t
        i_t = sigmoid(p_i),   f_t = sigmoid(p_f),   o_t = sigmoid(p_o)
        c_t = f_t * c_{t-1} + i_t * tanh(p_c)
        h_t = o_t * tanh(c_t)

    `sigmoid` is `recurrent_activation`, `tanh` is `activation`. Weights: `kernel` W
    `(features, 4 * units)`, `recurrent_kernel` U `(units, 4 * units)`, `bias` b `(4 * units,)`,
    with the gates' columns in the order i, f, c, o. States: h, c. Drop-in for
    `keras.layers.LSTMCell`.

    Call arguments:
        inputs: `(batch, features)`.
        states: `[h, c]`, each `(batch, units)`.
        training: whether dropout is applied.

    Raises:
        ValueError: an argument is out of its range, a state is missing.

    Example:

        >>> import numpy as np, kerasrnn
        >>> cell = kerasrnn.LSTMCell(4)
        >>> output, (h, c) = cell(np.ones((2, 3), "float32"), cell.get_initial_state(2))
        >>> tuple(output.shape), tuple(c.shape)
        ((2, 4), (2, 4))
    """

    gates = ("i", "f", "c", "o")
    state_names = ("h", "c")
    reads_once = True

    @validation.checked
    def __init__(
        self,
        units: PositiveInteger,
        activation: str | Callable | None = "tanh",
        recurrent_activation: str | Callable | None = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: Rate = 0.0,
        recurrent_dropout: Rate = 0.0,
        seed: Seed | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            units,
            activation=activation,
            recurrent_activation=recurrent_activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            recurrent_regularizer=recurrent_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            recurrent_constraint=recurrent_constraint,
            bias_constraint=bias_constraint,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            seed=seed,
            **kwargs,
        )
        self.unit_forget_bias = unit_forget_bias

    def make_bias_initializer(self) -> Callable[..., Tensor]:
        if not self.unit_forget_bias:
            return self.bias_initializer

        def initialize(_: Any, **kwargs: Any) -> Tensor:
            return ops.concatenate(
                [
                    self.bias_initializer((self.units,), **kwargs),
                    ops.ones((self.units,), **kwargs),
                    self.bias_initializer((2 * self.units,), **kwargs),
                ]
            )

        return initialize

    def update(
        self, a: Tensor, r: Tensor, states: Sequence[Tensor], weights: Mapping[str, Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        h, states, _ = self.update_keeping(a, r, states, weights)
        return h, states

    @property
    def onnx_operator(self) -> OnnxOperator | None:
        activations = (self.recurrent_activation, self.activation, self.activation)
        return OnnxOperator("LSTM", ("i", "o", "f", "c"), activations)

    @property
    def has_adjoint(self) -> bool:
        return self.activation in DERIVATIVES and self.recurrent_activation in DERIVATIVES

    def update_keeping(
        self, a: Tensor, r: Tensor, states: Sequence[Tensor], weights: Mapping[str, Tensor]
    ) -> tuple[Tensor, list[Tensor], Any]:
        _, c = states
        gates = activate(a + r, self._activations)  # (L1) to (L4)
        i, f, candidate, o = ops.split(gates, 4, axis=-1)
        c = f * c + i * candidate  # (L5)
        h = o * self.activation(c)  # (L6)
        return h, [h, c], gates

    def update_adjoint(
        self, kept: Tensor, states: Sequence[Tensor], d_output: Tensor, d_states: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        i, f, candidate, o = ops.split(kept, 4, axis=-1)
        of_activation = DERIVATIVES[self.activation]
        of_gate = DERIVATIVES[self.recurrent_activation]
        # Computed again rather than kept: as fast, and a sixth of what is kept.
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
        """Of the gates, in their order."""
        return [self.activation if g == "c" else self.recurrent_activation for g in self.gates]


@keras.saving.register_keras_serializable(package="kerasrnn")
class LSTM(Recurrent, cell_class=LSTMCell, after_loop=("use_cudnn",)):
    """A long short-term memory layer, drop-in for `keras.layers.LSTM`.

    Hochreiter & Schmidhuber (1997), "Long short-term memory"; the forget gate is Gers,
    Schmidhuber & Cummins's (2000), "Learning to forget: continual prediction with LSTM".

        a_t = x_t W + b,   r_t = h_{t-1} U,   (p_i, p_f, p_c, p_o) = a_t + r_t
        i_t = sigmoid(p_i),   f_t = sigmoid(p_f),   o_t = sigmoid(p_o)
        c_t = f_t * c_{t-1} + i_t * tanh(p_c)
        h_t = o_t * tanh(c_t)

    `sigmoid` is `recurrent_activation`, `tanh` is `activation`. Weights: `kernel` W
    `(features, 4 * units)`, `recurrent_kernel` U `(units, 4 * units)`, `bias` b `(4 * units,)`,
    with the gates' columns in the order i, f, c, o. States: h, c.

    Example:

        >>> import numpy as np, kerasrnn
        >>> y, h, c = kerasrnn.LSTM(4, return_state=True)(np.ones((2, 5, 3), "float32"))
        >>> tuple(y.shape), bool(np.all(y == h))
        ((2, 4), True)
    """
