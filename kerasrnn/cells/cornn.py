"""The coupled oscillatory recurrent network: Rusch & Mishra (2021)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn.cells.arguments import REMOVED
from kerasrnn.cells.cell import Cell
from kerasrnn.cells.layer import Recurrent
from kerasrnn.recurrence.loop import Weights
from kerasrnn.recurrence.products import RecurrentProduct

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class CoRNNCell(Cell):
    """One step of a coupled oscillatory recurrent network.

    Rusch & Mishra (2021), "Coupled oscillatory recurrent neural network (coRNN): an accurate and
    (gradient) stable architecture for learning long time dependencies", equation 3.

        a_t = x_t W + b,   r_t = [y_{t-1}; z_{t-1}] U
        z_t = z_{t-1} + dt * (tanh(a_t + r_t) - gamma * y_{t-1} - epsilon * z_{t-1})
        y_t = y_{t-1} + dt * z_t
        h_t = y_t

    Each unit is an oscillator with the position y and the velocity z, which is driven by the inputs
    and by the other units: the equations are one step of length dt of y'' = tanh(...) - gamma y -
    epsilon y'. The gradient over many steps neither explodes nor vanishes exponentially if dt is
    small, which makes long sequences possible. Since an output changes by the order of dt^2 at a
    step, the cell needs many steps.

    With `implicit_damping`, the damping is computed at the end of the step, with z_t instead of
    z_{t-1}, so that z_t = (z_{t-1} + dt * (tanh(a_t + r_t) - gamma * y_{t-1})) / (1 + dt *
    epsilon). The paper allows both; the authors' code uses the default. The paper tunes dt, gamma
    and epsilon for each task; the defaults are its values for sequential MNIST.

    `tanh` is `activation`. Weights: `kernel` W `(features, units)`, `recurrent_kernel` U
    `(2 * units, units)`, the rows of y before those of z, `bias` b `(units,)`. A recurrent dropout
    mask drops the position and the velocity of an oscillator together. States: y, z.

    Args:
        dt: positive number: the length of a step.
        gamma: positive number: the square of the frequency of a free oscillator.
        epsilon: positive number: the damping.
        implicit_damping: whether the damping is computed with the new velocity.
    """

    own_arguments: ClassVar = {
        "dt": 0.042,
        "gamma": 2.7,
        "epsilon": 4.7,
        "implicit_damping": False,
        "recurrent_parametrization": REMOVED,
    }
    gates = ("z",)
    state_names = ("y", "z")
    single_read = True

    @property
    def recurrent_kernel_shape(self) -> tuple[int, ...]:
        return (2 * self.units, self.units)

    def recurrent_products(self, weights: Weights) -> tuple[RecurrentProduct, ...]:
        masks = weights.noise.get("states")
        if masks is not None:
            masks = [ops.concatenate([mask, mask], axis=-1) for mask in masks]
        return (RecurrentProduct(weights["recurrent_kernel"], None, masks),)

    def step(
        self,
        a: Tensor,
        states: Sequence[Tensor],
        weights: Weights,
        products: tuple[Any, ...],
    ) -> tuple[Tensor, list[Tensor]]:
        (product,) = products
        y, z = states
        force = self.activation(a + product(ops.concatenate([y, z], axis=-1))) - self.gamma * y
        if self.implicit_damping:
            z = (z + self.dt * force) / (1 + self.dt * self.epsilon)
        else:
            z = z + self.dt * (force - self.epsilon * z)
        y = y + self.dt * z
        return y, [y, z]


@keras.saving.register_keras_serializable(package="kerasrnn")
class CoRNN(Recurrent, cell_class=CoRNNCell):
    """A coupled oscillatory recurrent network layer."""
