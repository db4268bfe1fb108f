"""The undamped independent controlled oscillatory network: Rusch & Mishra (2021)."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.cells.arguments import REMOVED
from kerasrnn.cells.cell import Cell
from kerasrnn.cells.layer import Recurrent
from kerasrnn.recurrence.loop import Weights
from kerasrnn.recurrence.products import ElementwiseProduct

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class UnICORNNCell(Cell):
    """One step of an undamped independent controlled oscillatory network.

    Rusch & Mishra (2021), "UnICORNN: a recurrent model for learning very long time dependencies",
    the scheme for one layer.

        a_t = x_t W + b,   r_t = y_{t-1} * u
        z_t = z_{t-1} - dt * sigmoid(c) * (tanh(a_t + r_t) + alpha * y_{t-1})
        y_t = y_{t-1} + dt * sigmoid(c) * z_t
        h_t = y_t

    Each unit is an oscillator with the position y and the velocity z, without damping and without
    connections to other units: stacked layers mix the units, as those of `IndRNN`. The equations
    are a symplectic Euler step of a Hamiltonian system, which keeps its energy, and c gives each
    unit its own time scale. The gradient neither explodes nor vanishes exponentially: for stacks on
    very long sequences.

    The paper tunes dt and alpha for each task; the defaults are the authors' for permuted
    sequential MNIST. `tanh` is `activation`. Weights: `kernel` W `(features, units)`,
    `recurrent_kernel` u `(units,)`, `bias` b `(units,)`, `c` `(units,)`. With
    `recurrent_initializer=None`, u is drawn uniformly from [0, 1) and, always, c from [-0.1, 0.1),
    as the authors do. States: y, z.

    Args:
        dt: positive number: twice the length of a step of a unit with c = 0.
        alpha: non-negative number: the square of the frequency of a free oscillator.
    """

    own_arguments: ClassVar = {
        "recurrent_initializer": None,
        "dt": 0.19,
        "alpha": 30.65,
        "recurrent_parametrization": REMOVED,
    }
    gates = ("z",)
    state_names = ("y", "z")
    step_weights = ("c",)
    single_read = True

    def __post_init__(self) -> None:
        self.alpha = validation.number("alpha", self.alpha, minimum=0)
        if self.recurrent_initializer is None:
            self.recurrent_initializer = keras.initializers.RandomUniform(0.0, 1.0)

    @property
    def recurrent_kernel_shape(self) -> tuple[int, ...]:
        return (self.units,)

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)
        initializer = keras.initializers.RandomUniform(-0.1, 0.1)
        self.c = self.add_weight(shape=(self.units,), name="c", initializer=initializer)

    def recurrent_products(self, weights: Weights) -> tuple[ElementwiseProduct, ...]:
        masks = weights.noise.get("states")
        return (ElementwiseProduct(weights["recurrent_kernel"], None, masks),)

    def recurrent_matrices(self) -> dict[str, Tensor]:
        return {"z": ops.diag(ops.convert_to_tensor(self.recurrent_kernel))}

    def step(
        self,
        a: Tensor,
        states: Sequence[Tensor],
        weights: Weights,
        products: tuple[Callable[[Tensor], Tensor], ...],
    ) -> tuple[Tensor, list[Tensor]]:
        (product,) = products
        y, z = states
        dt = self.dt * ops.sigmoid(weights["c"])
        z = z - dt * (self.activation(a + product(y)) + self.alpha * y)
        y = y + dt * z
        return y, [y, z]


@keras.saving.register_keras_serializable(package="kerasrnn")
class UnICORNN(Recurrent, cell_class=UnICORNNCell):
    """An undamped independent controlled oscillatory network layer."""
