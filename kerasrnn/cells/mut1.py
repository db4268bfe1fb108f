"""The first mutated unit, MUT1: Jozefowicz, Zaremba & Sutskever (2015)."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn.cells.cell import Cell
from kerasrnn.cells.layer import Recurrent
from kerasrnn.cells.mut import with_identity
from kerasrnn.recurrence.loop import Weights
from kerasrnn.recurrence.products import input_part

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class MUT1Cell(Cell):
    """One step of MUT1, the first of three mutated units.

    Jozefowicz, Zaremba & Sutskever (2015), "An empirical exploration of recurrent network
    architectures".

        z_t = sigmoid(x_t W_z + b_z)
        r_t = sigmoid(x_t W_r + h_{t-1} U_r + b_r)
        candidate_t = tanh((r_t * h_{t-1}) U_h + tanh(x_t) + b_h)
        h_t = z_t * candidate_t + (1 - z_t) * h_{t-1}

    It is a GRU whose update gate reads only the inputs, found by mutating known architectures. In
    the paper it matches GRU on language modelling, and outperforms it on all other tasks.

    The paper adds x_t itself, so that it presupposes as many features as units. With another number
    of features, x_t W_h takes its place in tanh(x_t). The inner tanh is fixed; the outer one is
    `activation`, `sigmoid` is `recurrent_activation`. Weights: `kernel` W `(features, 3 * units)`
    with the columns in the order z, r, h, or `(units, 2 * units)` without h if there are `units`
    features; `recurrent_kernel` U `(units, 2 * units)`, r, h; `bias` b `(3 * units,)`. State: h.
    """

    own_arguments: ClassVar = {"recurrent_activation": "sigmoid"}
    gates = ("z", "r", "h")
    memory_signs = (-1, 0, 0)

    @property
    def product_groups(self) -> tuple[tuple[str, ...], ...]:
        return (("r",), ("h",))

    def kernel_shape(self, features: int) -> tuple[int, ...]:
        return (features, (2 if features == self.units else 3) * self.units)

    def input_part(self, x: Tensor, weights: Weights) -> Tensor:
        kernel = with_identity(weights["kernel"], self.units, self.gates.index("h"))
        product = input_part(x, kernel, None, weights.noise.get("inputs"))
        a_gates, a_h = ops.split(product, [2 * self.units], axis=-1)
        a = ops.concatenate([a_gates, ops.tanh(a_h)], axis=-1)
        return a + weights["bias"] if self.use_bias else a

    def step(
        self,
        a: Tensor,
        states: Sequence[Tensor],
        weights: Weights,
        products: tuple[Callable[[Tensor], Tensor], ...],
    ) -> tuple[Tensor, list[Tensor]]:
        reset_product, candidate_product = products
        (h,) = states
        a_z, a_r, a_h = ops.split(a, 3, axis=-1)
        z = self.recurrent_activation(a_z)
        r = self.recurrent_activation(a_r + reset_product(h))
        candidate = self.activation(candidate_product(r * h) + a_h)
        h = z * candidate + (1 - z) * h
        return h, [h]


@keras.saving.register_keras_serializable(package="kerasrnn")
class MUT1(Recurrent, cell_class=MUT1Cell):
    """A layer of the first mutated unit."""
