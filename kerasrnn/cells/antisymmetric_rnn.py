"""The antisymmetric recurrent network: Chang, Chen, Haber & Chi (2019)."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.cells.arguments import REMOVED
from kerasrnn.cells.cell import Cell
from kerasrnn.cells.layer import Recurrent
from kerasrnn.recurrence.loop import Weights
from kerasrnn.recurrence.products import Product, RecurrentProduct

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class AntisymmetricRNNCell(Cell):
    """One step of an antisymmetric recurrent network.

    Chang, Chen, Haber & Chi (2019), "AntisymmetricRNN: a dynamical system view on recurrent neural
    networks", section 3: the equation with diffusion and, with `gated`, those with a gate.

        A = U - U^T - gamma I
        (a_z, a_h) = x_t W + b
        z_t = sigmoid(a_z + h_{t-1} A)   with `gated`,   z_t = 1   otherwise
        h_t = h_{t-1} + epsilon * z_t * tanh(a_h + h_{t-1} A)

    It is Euler's method, with steps of epsilon, for a differential equation. The eigenvalues of
    U - U^T are imaginary, so that the state neither grows nor decays and its gradient reaches far
    back; the diffusion gamma compensates for the error of Euler's method, by which the state would
    grow. With about a quarter of an LSTM's weights, it is made for long sequences. The gate, which
    shares A with the candidate, decides how far each unit moves.

    epsilon is `step_size`, gamma is `diffusion`, `sigmoid` is `recurrent_activation`, `tanh` is
    `activation`. A step changes the state by at most epsilon. The paper searches for epsilon, among
    0.01, 0.1 and 1, and for gamma on each task; the defaults are neither its smallest nor its
    largest values. Weights: `kernel` W `(features, units)`, `recurrent_kernel` U `(units, units)`,
    of which only U - U^T matters, `bias` b `(units,)`; with `gated`, W and b have twice the
    columns, in the order z, h. U is drawn with the variance 1 / units, as in the paper, which also
    tries others. State: h.

    Args:
        gated: whether a gate z decides how far each unit moves.
        step_size: positive number: epsilon, the length of a step.
        diffusion: number of at least 0: gamma.
    """

    own_arguments: ClassVar = {
        "recurrent_activation": "sigmoid",
        "recurrent_initializer": "glorot_normal",
        "gated": False,
        "step_size": 0.1,
        "diffusion": 0.1,
        "recurrent_parametrization": REMOVED,
    }

    def __post_init__(self) -> None:
        self.step_size = validation.positive_number("step_size", self.step_size)
        self.diffusion = validation.number("diffusion", self.diffusion, minimum=0)

    @property
    def gates(self) -> tuple[str, ...]:
        return ("z", "h") if self.gated else ("h",)

    @property
    def dropout_blocks(self) -> int:
        return 1

    @property
    def recurrent_kernel_shape(self) -> tuple[int, ...]:
        return (self.units, self.units)

    def recurrent_products(self, weights: Weights) -> tuple[Product, ...]:
        a = self._antisymmetric(weights["recurrent_kernel"])
        return (RecurrentProduct(a, None, weights.noise.get("states")),)

    def step(
        self,
        a: Tensor,
        states: Sequence[Tensor],
        weights: Weights,
        products: tuple[Callable[[Tensor], Tensor], ...],
    ) -> tuple[Tensor, list[Tensor]]:
        (h,) = states
        (product,) = products
        r = product(h)
        if not self.gated:
            h = h + self.step_size * self.activation(a + r)
            return h, [h]
        a_z, a_h = ops.split(a, 2, axis=-1)
        z = self.recurrent_activation(a_z + r)
        h = h + self.step_size * z * self.activation(a_h + r)
        return h, [h]

    def recurrent_matrices(self) -> dict[str, Tensor]:
        return dict.fromkeys(self.gates, self._antisymmetric(self.recurrent_kernel))

    def _antisymmetric(self, u: Tensor) -> Tensor:
        u = ops.convert_to_tensor(u)
        return u - ops.transpose(u) - self.diffusion * ops.eye(self.units, dtype=u.dtype)


@keras.saving.register_keras_serializable(package="kerasrnn")
class AntisymmetricRNN(Recurrent, cell_class=AntisymmetricRNNCell):
    """An antisymmetric recurrent network layer."""
