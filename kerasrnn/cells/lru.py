"""The linear recurrent unit: Orvieto et al. (2023)."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.cells.layer import Recurrent
from kerasrnn.cells.linear_cell import LinearCell
from kerasrnn.recurrence.loop import Weights
from kerasrnn.recurrence.products import matmul

Tensor = Any


def real_part(real: Tensor, imaginary: Tensor, kernel: Tensor) -> Tensor:
    """`Re(h C)`: the rows of the kernel are the real part of C above its imaginary part."""
    # Joining the two parts for a single product takes longer: benchmarks/speed/NOTES.md.
    c_real, c_imaginary = ops.split(kernel, 2)
    return matmul(real, c_real) - matmul(imaginary, c_imaginary)


@keras.saving.register_keras_serializable(package="kerasrnn")
class LRUCell(LinearCell):
    """One step of a linear recurrent unit.

    Orvieto et al. (2023), "Resurrecting recurrent neural networks for long sequences", equations 1,
    6 and 7, and lemma 3.2.

        lambda = exp(-exp(nu) + i exp(theta))                    complex, |lambda| < 1
        h_t = lambda * h_{t-1} + exp(gamma) * (x_t B)            complex
        y_t = Re(h_t C) + x_t D

    The transition is the same at every step: each complex unit decays and rotates at its own rate.
    The rates start uniformly on the ring `min_radius <= |lambda| <= max_radius` and at angles in
    [0, `max_phase`], which makes memories of up to about 1 / (1 - `max_radius`) steps; gamma starts
    at `log(sqrt(1 - |lambda|^2))`, so that the states start with the scale of the inputs. There is
    no nonlinearity: the authors place one between stacked layers. nu, theta, gamma, lambda and the
    states stay in float32 under a policy of half precision.

    Weights: `kernel` `(features, 3 * units)`, whose columns are the real part of B, its imaginary
    part, and D; `nu`, `theta` and `gamma`, `(units,)`; `output_kernel` `(2 * units, units)`: the
    real part of C above its imaginary part. With `use_bias`, which the paper lacks, `bias`
    `(3 * units,)` is added to the three products. States: the real and the imaginary part of h.

    Args:
        min_radius: number in [0, 1): the smallest initial magnitude of lambda.
        max_radius: number in (0, 1]: the largest initial magnitude of lambda.
        max_phase: positive number: the largest initial angle of lambda, in radians.
    """

    own_arguments: ClassVar = {
        "use_bias": False,
        "kernel_initializer": None,
        "min_radius": 0.0,
        "max_radius": 1.0,
        "max_phase": 2 * math.pi,
    }
    gates = ("real", "imaginary", "skip")
    state_names = ("h_real", "h_imaginary")
    rates = ("nu", "theta", "gamma")
    step_weights = ("nu", "theta", "output_kernel")
    complex_states = True
    gate_names = ()

    def __post_init__(self) -> None:
        if not 0 <= self.min_radius < 1:
            raise validation.ArgumentError("min_radius", self.min_radius, "a number in [0, 1)")
        if not self.min_radius < self.max_radius <= 1:
            raise validation.ArgumentError(
                "max_radius", self.max_radius, "a number above min_radius, up to 1"
            )
        if not self.max_phase > 0:
            raise validation.ArgumentError("max_phase", self.max_phase, "a positive number")
        if self.kernel_initializer is None:
            self.kernel_initializer = keras.initializers.VarianceScaling(
                0.5, "fan_in", "untruncated_normal", seed=self.seed
            )

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)
        low, high = self.min_radius**2, self.max_radius**2

        def nu(shape: Any, dtype: Any = None) -> Tensor:
            squared = keras.random.uniform(shape, low, high, dtype=dtype, seed=self.seed_generator)
            squared = ops.clip(squared, 1e-7, 1 - 1e-7)
            return ops.log(-0.5 * ops.log(squared))

        def theta(shape: Any, dtype: Any = None) -> Tensor:
            phase = keras.random.uniform(
                shape, 1e-7, self.max_phase, dtype=dtype, seed=self.seed_generator
            )
            return ops.log(phase)

        self.nu = self.add_rate("nu", nu)
        self.theta = self.add_rate("theta", theta)

        def gamma(shape: Any, dtype: Any = None) -> Tensor:
            return 0.5 * ops.log(1 - ops.exp(-2 * ops.exp(ops.convert_to_tensor(self.nu))))

        self.gamma = self.add_rate("gamma", gamma)
        self.output_kernel = self.add_weight(
            shape=(2 * self.units, self.units),
            name="output_kernel",
            initializer=keras.initializers.VarianceScaling(
                1.0, "fan_in", "untruncated_normal", seed=self.seed
            ),
        )

    def input_part(self, x: Tensor, weights: Weights) -> Tensor:
        # exp(gamma) multiplies the columns of the kernel, not the products of all steps.
        scale = ops.exp(weights["gamma"])
        scale = ops.concatenate([scale, scale, ops.ones_like(scale)])

        def scaled(b: Tensor) -> Tensor:  # the rates may have a higher precision
            return ops.cast(scale * ops.cast(b, scale.dtype), b.dtype)

        named = {name: scaled(weights[name]) for name in ("kernel", "bias") if name in weights}
        return super().input_part(x, weights.replaced(named))

    def transition(self, a: Tensor, weights: Weights) -> tuple[list[Tensor], list[Tensor]]:
        update = ops.split(a, 3, axis=-1)[:2]
        radius, phase = ops.exp(-ops.exp(weights["nu"])), ops.exp(weights["theta"])
        return [radius * ops.cos(phase), radius * ops.sin(phase)], list(update)

    def read(self, states: list[Tensor], a: Tensor, weights: Weights) -> Tensor:
        real, imaginary = states
        skip = a[..., 2 * self.units :]
        return real_part(real, imaginary, weights["output_kernel"]) + skip


@keras.saving.register_keras_serializable(package="kerasrnn")
class LRU(Recurrent, cell_class=LRUCell):
    """A linear recurrent unit layer."""
