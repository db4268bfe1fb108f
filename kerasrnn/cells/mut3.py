"""The third mutated unit, MUT3: Jozefowicz, Zaremba & Sutskever (2015)."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn.cells.cell import Cell
from kerasrnn.cells.layer import Recurrent
from kerasrnn.recurrence.loop import Weights

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class MUT3Cell(Cell):
    """One step of MUT3, the third of three mutated units.

    Jozefowicz, Zaremba & Sutskever (2015), "An empirical exploration of recurrent network
    architectures".

        z_t = sigmoid(x_t W_z + tanh(h_{t-1}) U_z + b_z)
        r_t = sigmoid(x_t W_r + h_{t-1} U_r + b_r)
        candidate_t = tanh((r_t * h_{t-1}) U_h + x_t W_h + b_h)
        h_t = z_t * candidate_t + (1 - z_t) * h_{t-1}

    It is a GRU (with `reset_after=False`, and with 1 - z for z) whose update gate reads the tanh of
    the state, one of the architectures that the paper found by mutation.

    The tanh in the gate is fixed; that of the candidate is `activation`, `sigmoid` is
    `recurrent_activation`. Weights: `kernel` W `(features, 3 * units)`, `recurrent_kernel` U
    `(units, 3 * units)`, `bias` b `(3 * units,)`, with the columns in the order z, r, h. State: h.
    """

    own_arguments: ClassVar = {"recurrent_activation": "sigmoid"}
    gates = ("z", "r", "h")
    memory_signs = (-1, 0, 0)

    @property
    def product_groups(self) -> tuple[tuple[str, ...], ...]:
        return (("z",), ("r",), ("h",))

    def step(
        self,
        a: Tensor,
        states: Sequence[Tensor],
        weights: Weights,
        products: tuple[Callable[[Tensor], Tensor], ...],
    ) -> tuple[Tensor, list[Tensor]]:
        update_product, reset_product, candidate_product = products
        (h,) = states
        a_z, a_r, a_h = ops.split(a, 3, axis=-1)
        z = self.recurrent_activation(a_z + update_product(ops.tanh(h)))
        r = self.recurrent_activation(a_r + reset_product(h))
        candidate = self.activation(candidate_product(r * h) + a_h)
        h = z * candidate + (1 - z) * h
        return h, [h]


@keras.saving.register_keras_serializable(package="kerasrnn")
class MUT3(Recurrent, cell_class=MUT3Cell):
    """A layer of the third mutated unit."""
