"""Long expressive memory: Rusch, Mishra, Erichson & Mahoney (2022)."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn.cells.cell import Cell
from kerasrnn.cells.layer import Recurrent
from kerasrnn.recurrence.loop import Weights

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class LEMCell(Cell):
    """One step of a long expressive memory.

    Rusch, Mishra, Erichson & Mahoney (2022), "Long expressive memory for sequence modeling",
    equation 3.

        (a_1, a_2, a_z, a_y) = x_t W + b,   (r_1, r_2, r_z) = y_{t-1} (U_1, U_2, U_z)
        dt_t = dt * sigmoid(a_1 + r_1),   dt_bar_t = dt * sigmoid(a_2 + r_2)
        z_t = (1 - dt_t) * z_{t-1} + dt_t * tanh(a_z + r_z)
        y_t = (1 - dt_bar_t) * y_{t-1} + dt_bar_t * tanh(a_y + z_t U_y)
        h_t = y_t

    Each unit has two coupled states, whose time scales are learned and depend on the inputs: the
    gates are lengths of steps of an ordinary differential equation, between 0 and `dt`. The
    gradient over long sequences stays bounded, and the cell learns dependencies of several time
    scales at once.

    The paper tunes `dt` for some tasks and uses 1, the default, for the others. `sigmoid` is
    `recurrent_activation`, `tanh` is `activation`. Weights: `kernel` W `(features, 4 * units)`,
    `recurrent_kernel` U `(units, 4 * units)`, `bias` b `(4 * units,)`, with the columns in the
    order dt, dt_bar, z, y. The authors draw all weights
    uniformly from [-1/sqrt(units), 1/sqrt(units)]; the initial values here are those of the other
    cells. States: y, z.

    Args:
        dt: positive number: the greatest length of a step.
    """

    own_arguments: ClassVar = {"recurrent_activation": "sigmoid", "dt": 1.0}
    gates = ("dt", "dt_bar", "z", "y")
    state_names = ("y", "z")

    @property
    def product_groups(self) -> tuple[tuple[str, ...], ...]:
        return (("dt", "dt_bar", "z"), ("y",))

    def step(
        self,
        a: Tensor,
        states: Sequence[Tensor],
        weights: Weights,
        products: tuple[Callable[[Tensor], Tensor], ...],
    ) -> tuple[Tensor, list[Tensor]]:
        of_y, of_z = products
        y, z = states
        a_gates, a_z, a_y = ops.split(a, [2 * self.units, 3 * self.units], axis=-1)
        r_gates, r_z = ops.split(of_y(y), [2 * self.units], axis=-1)
        lengths = self.dt * self.recurrent_activation(a_gates + r_gates)
        dt, dt_bar = ops.split(lengths, 2, axis=-1)
        z = (1 - dt) * z + dt * self.activation(a_z + r_z)
        y = (1 - dt_bar) * y + dt_bar * self.activation(a_y + of_z(z))
        return y, [y, z]


@keras.saving.register_keras_serializable(package="kerasrnn")
class LEM(Recurrent, cell_class=LEMCell):
    """A long expressive memory layer."""
