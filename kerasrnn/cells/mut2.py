"""The second mutated unit, MUT2: Jozefowicz, Zaremba & Sutskever (2015)."""

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
class MUT2Cell(Cell):
    """One step of MUT2, the second of three mutated units.

    Jozefowicz, Zaremba & Sutskever (2015), "An empirical exploration of recurrent network
    architectures".

        z_t = sigmoid(x_t W_z + h_{t-1} U_z + b_z)
        r_t = sigmoid(x_t + h_{t-1} U_r + b_r)
        candidate_t = tanh((r_t * h_{t-1}) U_h + x_t W_h + b_h)
        h_t = z_t * candidate_t + (1 - z_t) * h_{t-1}

    It is a GRU (with `reset_after=False`, and with 1 - z for z) whose reset gate adds the inputs
    without weights, one of the architectures that the paper found by mutation.

    The paper adds x_t itself, so that it presupposes as many features as units. With another number
    of features, x_t W_r takes its place, and the cell is a GRU. `sigmoid` is
    `recurrent_activation`, `tanh` is `activation`. Weights: `kernel` W `(features, 3 * units)` with
    the columns in the order z, r, h, or `(units, 2 * units)` without r if there are `units`
    features; `recurrent_kernel` U `(units, 3 * units)`, `bias` b `(3 * units,)`. State: h.
    """

    own_arguments: ClassVar = {"recurrent_activation": "sigmoid"}
    gates = ("z", "r", "h")
    memory_signs = (-1, 0, 0)

    @property
    def product_groups(self) -> tuple[tuple[str, ...], ...]:
        return (("z", "r"), ("h",))

    def kernel_shape(self, features: int) -> tuple[int, ...]:
        return (features, (2 if features == self.units else 3) * self.units)

    def input_part(self, x: Tensor, weights: Weights) -> Tensor:
        kernel = with_identity(weights["kernel"], self.units, self.gates.index("r"))
        return input_part(x, kernel, weights.get("bias"), weights.noise.get("inputs"))

    def step(
        self,
        a: Tensor,
        states: Sequence[Tensor],
        weights: Weights,
        products: tuple[Callable[[Tensor], Tensor], ...],
    ) -> tuple[Tensor, list[Tensor]]:
        gate_product, candidate_product = products
        (h,) = states
        a_gates, a_h = ops.split(a, [2 * self.units], axis=-1)
        z, r = ops.split(self.recurrent_activation(a_gates + gate_product(h)), 2, axis=-1)
        candidate = self.activation(candidate_product(r * h) + a_h)
        h = z * candidate + (1 - z) * h
        return h, [h]


@keras.saving.register_keras_serializable(package="kerasrnn")
class MUT2(Recurrent, cell_class=MUT2Cell):
    """A layer of the second mutated unit."""
