"""The fast gated recurrent network: Kusupati et al. (2018)."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn.cells.arguments import REMOVED
from kerasrnn.cells.cell import Cell
from kerasrnn.cells.layer import Recurrent
from kerasrnn.recurrence.loop import Weights
from kerasrnn.recurrence.products import Product, RecurrentProduct, input_part

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class FastGRNNCell(Cell):
    """One step of a fast gated recurrent network.

    Kusupati et al. (2018), "FastGRNN: a fast, accurate, stable and tiny kilobyte sized gated
    recurrent neural network", section 3.2.

        p_t = x_t W + h_{t-1} U
        z_t = sigmoid(p_t + b_z),   candidate_t = tanh(p_t + b_h)
        h_t = (sigmoid(zeta) * (1 - z_t) + sigmoid(nu)) * candidate_t + z_t * h_{t-1}
        W = W_1 W_2   with kernel_rank,   U = U_1 U_2   with recurrent_rank

    The gate and the candidate share W and U, and differ in their biases: a third of a GRU's
    weights, and fewer with low ranks. The models of the paper fit in a few kilobytes, for
    microcontrollers. The paper's zeta and nu are sigmoid(zeta) and sigmoid(nu) here, which keeps
    them in (0, 1), as in the authors' code. The paper's sparse and quantized weights belong to the
    training and to the export, not to the cell.

    `sigmoid` is `recurrent_activation`, `tanh` is `activation`. Weights: `kernel` W
    `(features, units)`, `recurrent_kernel` U `(units, units)`, `bias` `(2 * units,)`, b_z before
    b_h; then the scalars `zeta` and `nu`, `()`, which start at 1 and -4, before the sigmoid, as in
    the authors' code. With `kernel_rank`, `kernel` is W_1 `(features, kernel_rank)`, and
    `kernel_factor` W_2 `(kernel_rank, units)`; with `recurrent_rank`, `recurrent_kernel` is U_1
    `(units, recurrent_rank)`, and `recurrent_factor` U_2 `(recurrent_rank, units)`. State: h.

    Args:
        kernel_rank: positive integer: the rank of W, as the product of two matrices. None: W is a
            single matrix.
        recurrent_rank: positive integer: the rank of U, as the product of two matrices. None: U is
            a single matrix.
        zeta_initializer: initializer of zeta, before the sigmoid; None: the constant 1.
        nu_initializer: initializer of nu, before the sigmoid; None: the constant -4.
    """

    own_arguments: ClassVar = {
        "recurrent_activation": "sigmoid",
        "kernel_rank": None,
        "recurrent_rank": None,
        "zeta_initializer": None,
        "nu_initializer": None,
        "recurrent_parametrization": REMOVED,
    }
    gates = ("z", "h")
    memory_signs = (1, 0)

    def __post_init__(self) -> None:
        if self.zeta_initializer is None:
            self.zeta_initializer = keras.initializers.Constant(1.0)
        if self.nu_initializer is None:
            self.nu_initializer = keras.initializers.Constant(-4.0)

    @property
    def step_weights(self) -> tuple[str, ...]:
        return ("zeta", "nu", "bias") if self.use_bias else ("zeta", "nu")

    @property
    def input_part_size(self) -> int:
        return self.units

    @property
    def dropout_blocks(self) -> int:
        return 1

    def kernel_shape(self, features: int) -> tuple[int, int]:
        return (features, self.kernel_rank or self.units)

    @property
    def recurrent_kernel_shape(self) -> tuple[int, ...]:
        return (self.units, self.recurrent_rank or self.units)

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)
        if self.kernel_rank is not None:
            self.kernel_factor = self.add_weight(
                shape=(self.kernel_rank, self.units),
                name="kernel_factor",
                initializer=self.kernel_initializer,
                regularizer=self.kernel_regularizer,
                constraint=self.kernel_constraint,
            )
        if self.recurrent_rank is not None:
            self.recurrent_factor = self.add_weight(
                shape=(self.recurrent_rank, self.units),
                name="recurrent_factor",
                initializer=self.recurrent_initializer,
                regularizer=self.recurrent_regularizer,
                constraint=self.recurrent_constraint,
            )
        self.zeta = self.add_weight(shape=(), initializer=self.zeta_initializer, name="zeta")
        self.nu = self.add_weight(shape=(), initializer=self.nu_initializer, name="nu")

    def input_part(self, x: Tensor, weights: Weights) -> Tensor:
        a = input_part(x, weights["kernel"], None, weights.noise.get("inputs"))
        return a if self.kernel_rank is None else input_part(a, weights["kernel_factor"], None)

    def recurrent_products(self, weights: Weights) -> tuple[Product, ...]:
        masks = weights.noise.get("states")
        first = RecurrentProduct(weights["recurrent_kernel"], None, masks)
        if self.recurrent_rank is None:
            return (first,)
        return first, RecurrentProduct(weights["recurrent_factor"], None)

    def step(
        self,
        a: Tensor,
        states: Sequence[Tensor],
        weights: Weights,
        products: tuple[Callable[[Tensor], Tensor], ...],
    ) -> tuple[Tensor, list[Tensor]]:
        (h,) = states
        zeta, nu = (ops.sigmoid(weights[name]) for name in ("zeta", "nu"))
        r = h
        for product in products:
            r = product(r)
        p = a + r
        b_z, b_h = ops.split(weights["bias"], 2) if self.use_bias else (0, 0)
        z = self.recurrent_activation(p + b_z)
        candidate = self.activation(p + b_h)
        h = (zeta * (1 - z) + nu) * candidate + z * h
        return h, [h]

    def recurrent_matrices(self) -> dict[str, Tensor]:
        u = ops.convert_to_tensor(self.recurrent_kernel)
        if self.recurrent_rank is not None:
            u = ops.matmul(u, self.recurrent_factor)
        return dict.fromkeys(self.gates, u)


@keras.saving.register_keras_serializable(package="kerasrnn")
class FastGRNN(Recurrent, cell_class=FastGRNNCell):
    """A fast gated recurrent network layer."""
