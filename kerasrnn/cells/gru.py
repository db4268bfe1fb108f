"""The gated recurrent unit: Cho et al. (2014)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from kerasrnn.cells.cell import Cell
from kerasrnn.cells.layer import Recurrent

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class GRUCell(Cell):
    """One step of a gated recurrent unit.

    Cho et al. (2014), "Learning phrase representations using RNN encoder-decoder for statistical
    machine translation".

        (a_z, a_rho, a_h) = x_t W + b,   (r_z, r_rho, r_h) = h_{t-1} U + beta
        z_t = sigmoid(a_z + r_z),   rho_t = sigmoid(a_rho + r_rho)
        candidate_t = tanh(a_h + rho_t * r_h)                  with reset_after=True
        candidate_t = tanh(a_h + (rho_t * h_{t-1}) U_h)        with reset_after=False, and beta = 0
        h_t = z_t * h_{t-1} + (1 - z_t) * candidate_t

    The reset gate, r elsewhere, is called rho, as r is the recurrent part. `sigmoid` is
    `recurrent_activation`, `tanh` is `activation`. Weights: `kernel` W `(features, 3 * units)`,
    `recurrent_kernel` U `(units, 3 * units)`, `bias`: b and beta as `(2, 3 * units)` with
    `reset_after`, else b alone, `(3 * units,)`; the gates' columns in the order z, rho, h.
    State: h. Drop-in for `keras.layers.GRUCell`.

    Call arguments:
        inputs: `(batch, features)`.
        states: h, `(batch, units)`, alone or in a list.
        training: whether dropout is applied.

    Raises:
        ValueError: an argument is out of its range.

    Example:

        >>> import numpy as np, kerasrnn
        >>> cell = kerasrnn.GRUCell(4)
        >>> h, states = cell(np.ones((2, 3), "float32"), cell.get_initial_state(2))
        >>> tuple(h.shape), len(states)
        ((2, 4), 1)
    """

    gates = ("z", "rho", "h")

    def __init__(
        self,
        units: int,
        activation: str | Callable | None = "tanh",
        recurrent_activation: str | Callable | None = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        reset_after: bool = True,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            units,
            activation=activation,
            use_bias=use_bias,
            # Made here, before the dropout seed is drawn: Keras's order for this cell, so that one
            # global seed gives the same weights.
            kernel_initializer=keras.initializers.get(kernel_initializer),
            recurrent_initializer=keras.initializers.get(recurrent_initializer),
            bias_initializer=keras.initializers.get(bias_initializer),
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
        self.recurrent_activation = keras.activations.get(recurrent_activation)
        self.reset_after = reset_after

    @property
    def bias_shape(self) -> tuple[int, ...]:
        return (2, 3 * self.units) if self.reset_after else (3 * self.units,)

    @property
    def product_groups(self) -> tuple[tuple[str, ...], ...]:
        return (self.gates,) if self.reset_after else (("z", "rho"), ("h",))

    def update(
        self, a: Tensor, r: Tensor, states: Sequence[Tensor], weights: Mapping[str, Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        (h,) = states
        a_z, a_rho, a_h = ops.split(a, 3, axis=-1)
        r_z, r_rho, r_h = ops.split(r, 3, axis=-1)
        z = self.recurrent_activation(a_z + r_z)
        rho = self.recurrent_activation(a_rho + r_rho)
        candidate = self.activation(a_h + rho * r_h)
        h = z * h + (1 - z) * candidate
        return h, [h]

    def step(
        self,
        a: Tensor,
        states: Sequence[Tensor],
        weights: Mapping[str, Tensor],
        products: tuple[Callable[[Tensor], Tensor], ...],
    ) -> tuple[Tensor, list[Tensor]]:
        if self.reset_after:
            return super().step(a, states, weights, products)
        gates_product, candidate_product = products
        (h,) = states
        a_z, a_rho, a_h = ops.split(a, 3, axis=-1)
        r_z, r_rho = ops.split(gates_product(h), 2, axis=-1)
        z = self.recurrent_activation(a_z + r_z)
        rho = self.recurrent_activation(a_rho + r_rho)
        candidate = self.activation(a_h + candidate_product(rho * h))
        h = z * h + (1 - z) * candidate
        return h, [h]


@keras.saving.register_keras_serializable(package="kerasrnn")
class GRU(Recurrent, cell_class=GRUCell, after_loop=("reset_after", "use_cudnn")):
    """A gated recurrent unit layer, drop-in for `keras.layers.GRU`.

    Cho et al. (2014), "Learning phrase representations using RNN encoder-decoder for statistical
    machine translation".

        (a_z, a_rho, a_h) = x_t W + b,   (r_z, r_rho, r_h) = h_{t-1} U + beta
        z_t = sigmoid(a_z + r_z),   rho_t = sigmoid(a_rho + r_rho)
        candidate_t = tanh(a_h + rho_t * r_h)                  with reset_after=True
        candidate_t = tanh(a_h + (rho_t * h_{t-1}) U_h)        with reset_after=False, and beta = 0
        h_t = z_t * h_{t-1} + (1 - z_t) * candidate_t

    The reset gate, r elsewhere, is called rho, as r is the recurrent part. `sigmoid` is
    `recurrent_activation`, `tanh` is `activation`. Weights: `kernel` W `(features, 3 * units)`,
    `recurrent_kernel` U `(units, 3 * units)`, `bias`: b and beta as `(2, 3 * units)` with
    `reset_after`, else b alone, `(3 * units,)`; the gates' columns in the order z, rho, h.
    State: h.

    Example:

        >>> import numpy as np, kerasrnn
        >>> y, h = kerasrnn.GRU(4, return_sequences=True, return_state=True)(
        ...     np.ones((2, 5, 3), "float32"))
        >>> tuple(y.shape), bool(np.all(y[:, -1] == h))
        ((2, 5, 4), True)
    """
