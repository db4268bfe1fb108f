"""The independently recurrent network: Li, Li, Cook, Zhu & Gao (2018)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from kerasrnn import validation
from kerasrnn.cells.cell import Cell
from kerasrnn.cells.layer import Recurrent
from kerasrnn.recurrence.products import ElementwiseProduct
from kerasrnn.validation import PositiveInteger, Rate, Seed

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class IndRNNCell(Cell):
    """One step of an independently recurrent network.

    Li, Li, Cook, Zhu & Gao (2018), "Independently recurrent neural network (IndRNN): building a
    longer and deeper RNN".

        a_t = x_t W + b,   r_t = h_{t-1} * u
        h_t = relu(a_t + r_t)

    Each unit sees itself alone from step to step; stacked layers mix them. `relu` is `activation`.
    Weights: `kernel` W `(features, units)`, `recurrent_kernel` u `(units,)`, `bias` b `(units,)`.
    With `recurrent_initializer=None`, u is drawn uniformly from [0, 1), as the authors do for relu,
    so that each unit forgets at a rate of its own. State: h.

    Call arguments:
        inputs: `(batch, features)`.
        states: h, `(batch, units)`, alone or in a list.
        training: whether dropout is applied.

    Raises:
        ValueError: an argument is out of its range.

    Example:

        >>> import numpy as np, kerasrnn
        >>> cell = kerasrnn.IndRNNCell(4)
        >>> h, states = cell(np.ones((2, 3), "float32"), cell.get_initial_state(2))
        >>> tuple(h.shape), tuple(cell.recurrent_kernel.shape)
        ((2, 4), (4,))
    """

    @validation.checked
    def __init__(
        self,
        units: PositiveInteger,
        activation: str | Callable | None = "relu",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = None,
        bias_initializer: Any = "zeros",
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
        if recurrent_initializer is None:
            recurrent_initializer = keras.initializers.RandomUniform(0.0, 1.0)
        super().__init__(
            units,
            activation=activation,
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

    @property
    def recurrent_kernel_shape(self) -> tuple[int, ...]:
        return (self.units,)

    def recurrent_products(
        self, weights: Mapping[str, Tensor], masks: Sequence[Tensor] | None
    ) -> tuple[ElementwiseProduct, ...]:
        return (ElementwiseProduct(weights["recurrent_kernel"], None, masks),)

    def update(
        self, a: Tensor, r: Tensor, states: Sequence[Tensor], weights: Mapping[str, Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        h = self.activation(a + r)
        return h, [h]


@keras.saving.register_keras_serializable(package="kerasrnn")
class IndRNN(Recurrent, cell_class=IndRNNCell):
    """An independently recurrent network.

    Li, Li, Cook, Zhu & Gao (2018), "Independently recurrent neural network (IndRNN): building a
    longer and deeper RNN".

        a_t = x_t W + b,   r_t = h_{t-1} * u
        h_t = relu(a_t + r_t)

    Each unit sees itself alone from step to step; stacked layers mix them. `relu` is `activation`.
    Weights: `kernel` W `(features, units)`, `recurrent_kernel` u `(units,)`, `bias` b `(units,)`.
    With `recurrent_initializer=None`, u is drawn uniformly from [0, 1), as the authors do for relu,
    so that each unit forgets at a rate of its own. Over T steps a unit multiplies by u up to T
    times: the authors keep `|u| <= 2^(1/T)` by a `recurrent_constraint` (docs/cells.md has one).

    Example:

        >>> import numpy as np, kerasrnn
        >>> y, h = kerasrnn.IndRNN(4, return_sequences=True, return_state=True)(
        ...     np.ones((2, 5, 3), "float32"))
        >>> tuple(y.shape), tuple(h.shape)
        ((2, 5, 4), (2, 4))
    """
