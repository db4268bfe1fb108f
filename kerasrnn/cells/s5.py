"""The simplified state space layer: Smith et al. (2023)."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.cells.layer import Recurrent
from kerasrnn.cells.linear_cell import LinearCell
from kerasrnn.cells.lru import real_part
from kerasrnn.recurrence.loop import Weights

Tensor = Any


def hippo_normal(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Diagonalize the normal part of the HiPPO-LegS matrix.

    Args:
        size: an even number of rows and columns.

    Returns:
        The eigenvalues with a positive imaginary part, `(size / 2,)`, in increasing order, and
        their eigenvectors, `(size, size / 2)`. The others are their conjugates.
    """
    root = np.sqrt(np.arange(size) + 0.5)
    skew = np.outer(root, root)
    skew = np.triu(skew, 1) - np.tril(skew, -1)
    values, vectors = np.linalg.eigh(-1j * skew)  # the matrix is skew - 1/2
    return -0.5 + 1j * values[size // 2 :], vectors[:, size // 2 :]


@keras.saving.register_keras_serializable(package="kerasrnn")
class S5Cell(LinearCell):
    """One step of a simplified state space layer.

    Smith, Warrington & Linderman (2023), "Simplified state space layers for sequence modeling",
    equations 5 and 6, section 3.2 and appendix B.

        lambda = -exp(nu) + i omega                               continuous time
        lambda_bar = exp(lambda Delta)                            zero-order hold, Delta = exp(tau)
        B_bar = (lambda_bar - 1) / lambda * B
        h_t = lambda_bar * h_{t-1} + x_t B_bar                    complex
        y_t = 2 Re(h_t C) + x_t D

    A linear system of differential equations, sampled at learned steps Delta: each complex unit is
    an oscillator, damped by nu, with the frequency omega. Each stands for itself and for its
    conjugate, which need not be computed: the state size of the paper is P = 2 * `units`. The
    frequencies and the dampings start at the eigenvalues of HiPPO-N, which make the state an
    encoding of the whole past. There is no nonlinearity: the authors place one between stacked
    layers. nu, omega, tau, lambda_bar and the states stay in float32 under a policy of half
    precision.

    The authors learn Re(lambda) itself; its logarithm, as in S4D (Gu et al. 2022), keeps it below
    0, so that no state can grow. D is a matrix, as in equation 1 of the paper, since features and
    units may differ; the authors' layers have a diagonal one. In a new layer, B and C are random
    matrices in the eigenbasis of HiPPO-N, as in the paper.

    Weights: `kernel` `(features, 3 * units)`, whose columns are the real part of B, its imaginary
    part, and D; `nu`, `omega` and `tau`, `(units,)`; `output_kernel` `(2 * units, units)`: the real
    part of C above its imaginary part. With `use_bias`, which the paper lacks, `bias`
    `(3 * units,)` is added to the three products. States: the real and the imaginary part of h,
    which the paper calls x.

    Args:
        blocks: positive integer that divides `units`: the number of HiPPO-N matrices with whose
            eigenvalues the layer starts, J in the paper.
        min_step: positive number: the smallest initial Delta. A layer starts with memories of about
            1 / Delta steps.
        max_step: positive number: the largest initial Delta.
    """

    own_arguments: ClassVar = {
        "use_bias": False,
        "kernel_initializer": None,
        "blocks": 1,
        "min_step": 0.001,
        "max_step": 0.1,
    }
    gates = ("real", "imaginary", "skip")
    state_names = ("h_real", "h_imaginary")
    rates = ("nu", "omega", "tau")
    step_weights = (*rates, "output_kernel")
    complex_states = True
    gate_names = ()

    def __post_init__(self) -> None:
        if not isinstance(self.blocks, int) or self.blocks < 1 or self.units % self.blocks:
            expected = f"a positive divisor of units={self.units}"
            raise validation.ArgumentError("blocks", self.blocks, expected)
        if not self.min_step > 0:
            raise validation.ArgumentError("min_step", self.min_step, "a positive number")
        if not self.max_step > self.min_step:
            raise validation.ArgumentError("max_step", self.max_step, "a number above min_step")

    def build(self, input_shape: Sequence[int | None]) -> None:
        eigenvalues, eigenvectors = hippo_normal(2 * self.units // self.blocks)
        default = self.kernel_initializer is None
        if default:
            self.kernel_initializer = self._in_eigenbasis(eigenvectors)
        super().build(input_shape)
        if default:
            self.kernel_initializer = None
        eigenvalues = np.tile(eigenvalues, self.blocks)
        self.nu = self.add_rate(
            "nu", lambda shape, dtype=None: ops.cast(np.log(-eigenvalues.real), dtype)
        )
        self.omega = self.add_rate(
            "omega", lambda shape, dtype=None: ops.cast(eigenvalues.imag, dtype)
        )
        low, high = math.log(self.min_step), math.log(self.max_step)

        def tau(shape: Any, dtype: Any = None) -> Tensor:
            return keras.random.uniform(shape, low, high, dtype=dtype, seed=self.seed_generator)

        self.tau = self.add_rate("tau", tau)
        self.output_kernel = self.add_weight(
            shape=(2 * self.units, self.units),
            name="output_kernel",
            initializer=self._from_eigenbasis(eigenvectors),
        )

    def _random(self, shape: tuple[int, ...], fan_in: int, dtype: Any) -> Tensor:
        random = keras.random.normal(shape, dtype=dtype, seed=self.seed_generator)
        return random / math.sqrt(fan_in)

    def _in_eigenbasis(self, eigenvectors: np.ndarray) -> Any:
        """The initializer of the kernel: a real matrix of each block, in its eigenbasis; and D."""

        def initializer(shape: Any, dtype: Any = None) -> Tensor:
            features, size = shape[0], eigenvectors.shape[0]
            b = self._random((features, self.blocks, size), features, dtype)
            parts = [eigenvectors.real, -eigenvectors.imag]  # the adjoint of the eigenvectors
            columns = [
                ops.reshape(ops.matmul(b, ops.cast(v, dtype)), (features, self.units))
                for v in parts
            ]
            return ops.concatenate(
                [*columns, self._random((features, self.units), features, dtype)], axis=-1
            )

        return initializer

    def _from_eigenbasis(self, eigenvectors: np.ndarray) -> Any:
        """The initializer of the output kernel: a real matrix of each block, in its eigenbasis."""

        def initializer(shape: Any, dtype: Any = None) -> Tensor:
            size = eigenvectors.shape[0]
            c = self._random((self.blocks, size, self.units), 2 * self.units, dtype)
            parts = [eigenvectors.real, eigenvectors.imag]
            rows = [
                ops.reshape(ops.matmul(ops.cast(v.T, dtype), c), (self.units, self.units))
                for v in parts
            ]
            return ops.concatenate(rows)

        return initializer

    def input_part(self, x: Tensor, weights: Weights) -> Tensor:
        # The product is that with B_bar; gains of the products of all steps would take longer.
        gain_real, gain_imaginary = self._gain(weights)

        def discrete(b: Tensor) -> Tensor:
            real, imaginary, skip = ops.split(ops.cast(b, gain_real.dtype), 3, axis=-1)
            parts = (
                gain_real * real - gain_imaginary * imaginary,
                gain_real * imaginary + gain_imaginary * real,
                skip,
            )
            return ops.cast(ops.concatenate(parts, axis=-1), b.dtype)

        named = {name: discrete(weights[name]) for name in ("kernel", "bias") if name in weights}
        return super().input_part(x, weights.replaced(named))

    def _gain(self, weights: Weights) -> tuple[Tensor, Tensor]:
        """`(lambda_bar - 1) / lambda`."""
        damping, omega, delta = ops.exp(weights["nu"]), weights["omega"], ops.exp(weights["tau"])
        radius, phase = ops.exp(-damping * delta), omega * delta
        # lambda_bar - 1, without cancellation where the step is short
        less_real = ops.expm1(-damping * delta) * ops.cos(phase) - 2 * ops.sin(phase / 2) ** 2
        imaginary = radius * ops.sin(phase)
        # divided by lambda: times its conjugate, through the square of its absolute value
        square = damping**2 + omega**2
        return (
            (imaginary * omega - less_real * damping) / square,
            (-imaginary * damping - less_real * omega) / square,
        )

    def transition(self, a: Tensor, weights: Weights) -> tuple[list[Tensor], list[Tensor]]:
        update = ops.split(a, 3, axis=-1)[:2]
        damping, omega, delta = ops.exp(weights["nu"]), weights["omega"], ops.exp(weights["tau"])
        radius, phase = ops.exp(-damping * delta), omega * delta
        return [radius * ops.cos(phase), radius * ops.sin(phase)], list(update)

    def read(self, states: list[Tensor], a: Tensor, weights: Weights) -> Tensor:
        skip = a[..., 2 * self.units :]
        return 2 * real_part(*states, weights["output_kernel"]) + skip


@keras.saving.register_keras_serializable(package="kerasrnn")
class S5(Recurrent, cell_class=S5Cell, after_loop=("blocks", "min_step", "max_step")):
    """A simplified state space layer."""
