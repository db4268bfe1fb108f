"""The echo state network: Jaeger (2001)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.cells.arguments import REMOVED
from kerasrnn.cells.cell import Cell
from kerasrnn.cells.layer import Recurrent
from kerasrnn.recurrence.loop import Weights

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class EchoStateCell(Cell):
    """One step of an echo state network: a fixed random reservoir.

    Jaeger (2001), "The 'echo state' approach to analysing and training recurrent neural networks".

        a_t = x_t W + b,   r_t = h_{t-1} U
        h_t = (1 - leak) * h_{t-1} + leak * tanh(a_t + r_t)

    None of its weights is trained: the states are echoes of the inputs, from which a linear layer
    is trained, with a `Dense` layer or with ridge regression of the outputs. This takes little data
    and time, for signals and chaotic series. U is sparse and scaled to a spectral radius, usually
    below 1, so that the influence of the initial state fades; a larger one remembers longer. A
    small `leak` makes slow units (Jaeger, Lukosevicius, Popovici & Siewert 2007).

    `tanh` is `activation`. Weights, which are not trainable: `kernel` W `(features, units)`,
    `recurrent_kernel` U `(units, units)`, `bias` b `(units,)`. With None, W and U are drawn
    uniformly from [-1, 1); the paper leaves the distributions open. U is then made sparse, with the
    same number of connections, at least one, into each unit, and scaled. All of it is reproducible
    by `seed`. The paper's feedback from outputs is a `FeedbackCell`. State: h.

    Args:
        kernel_initializer: initializer of W, `kernel`; None: uniform in [-1, 1).
        recurrent_initializer: initializer of U, `recurrent_kernel`, before it is made sparse and
            scaled; None: uniform in [-1, 1).
        spectral_radius: the largest absolute value of the eigenvalues of U, at least 0.
        leak: fraction of the state that is replaced in a step, in (0, 1].
        sparsity: fraction of U that is zero, in [0, 1).
        seed: integer that makes the reservoir and the dropout masks reproducible.
    """

    own_arguments: ClassVar = {
        "kernel_initializer": None,
        "recurrent_initializer": None,
        **dict.fromkeys(
            (
                f"{name}_{kind}"
                for kind in ("regularizer", "constraint")
                for name in ("kernel", "recurrent", "bias")
            ),
            REMOVED,
        ),
        "recurrent_parametrization": REMOVED,  # the recurrent kernel is fixed
        "spectral_radius": 0.9,
        "leak": 1.0,
        "sparsity": 0.9,
        "seed": None,
    }

    def __post_init__(self) -> None:
        self.spectral_radius = validation.number("spectral_radius", self.spectral_radius, minimum=0)
        self.leak = validation.number("leak", self.leak, above=0, maximum=1)
        self.sparsity = validation.rate("sparsity", self.sparsity)
        self._order = self._uniform(2)  # of the connections into a unit: the first ones are kept
        for n, name in enumerate(("kernel_initializer", "recurrent_initializer")):
            if getattr(self, name) is None:
                setattr(self, name, self._uniform(n))

    def _uniform(self, n: int) -> keras.initializers.Initializer:
        # Equal seeds would draw equal numbers.
        seed = (self.seed + n) % 2**32 if isinstance(self.seed, int) else self.seed
        return keras.initializers.RandomUniform(-1.0, 1.0, seed)

    def build(self, input_shape: Sequence[int | None]) -> None:
        features = self._features(input_shape)
        self.kernel = self.add_weight(
            shape=self.kernel_shape(features),
            name="kernel",
            initializer=self.kernel_initializer,
            trainable=False,
        )
        self.recurrent_kernel = self.add_weight(
            shape=self.recurrent_kernel_shape,
            name="recurrent_kernel",
            initializer=self._draw_reservoir,
            trainable=False,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                shape=self.bias_shape,
                name="bias",
                initializer=self.bias_initializer,
                trainable=False,
            )
        self.built = True

    def _draw_reservoir(self, shape: Sequence[int], dtype: Any = None) -> Tensor:
        u, order = (
            np.array(ops.convert_to_numpy(draw(shape, "float32")), "float64")
            for draw in (self.recurrent_initializer, self._order)
        )
        connections = max(1, round((1 - self.sparsity) * self.units))
        ranks = order.argsort(axis=0).argsort(axis=0)
        u[ranks >= connections] = 0
        radius = np.abs(np.linalg.eigvals(u)).max()
        if radius > 0:
            u *= self.spectral_radius / radius
        return ops.convert_to_tensor(u, dtype)

    def update(
        self, a: Tensor, r: Tensor, states: Sequence[Tensor], weights: Weights
    ) -> tuple[Tensor, list[Tensor]]:
        (h,) = states
        h = (1 - self.leak) * h + self.leak * self.activation(a + r)
        return h, [h]


@keras.saving.register_keras_serializable(package="kerasrnn")
class EchoState(Recurrent, cell_class=EchoStateCell):
    """An echo state network layer: a fixed random reservoir."""
