"""The fast recurrent network: Kusupati et al. (2018)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn.cells.cell import Cell
from kerasrnn.cells.layer import Recurrent
from kerasrnn.recurrence.loop import Weights

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class FastRNNCell(Cell):
    """One step of a fast recurrent network.

    Kusupati et al. (2018), "FastGRNN: a fast, accurate, stable and tiny kilobyte sized gated
    recurrent neural network", section 3.1.

        a_t = x_t W + b,   r_t = h_{t-1} U
        candidate_t = tanh(a_t + r_t)
        h_t = sigmoid(alpha) * candidate_t + sigmoid(beta) * h_{t-1}

    It is a SimpleRNN with a weighted residual connection: two more scalars. With sigmoid(beta)
    close to 1 and sigmoid(alpha) close to 0, the gradient neither explodes nor vanishes over long
    sequences, with nothing else to tune. The paper's alpha and beta are sigmoid(alpha) and
    sigmoid(beta) here, which keeps them in (0, 1), as in the authors' code.

    `tanh` is `activation`. Weights: `kernel` W `(features, units)`, `recurrent_kernel` U
    `(units, units)`, `bias` b `(units,)`, then the scalars `alpha` and `beta`, `()`: before the
    sigmoid, they start at -3 and 3 as in the authors' code. State: h.

    Args:
        alpha_initializer: initializer of alpha, before the sigmoid; None: the constant -3.
        beta_initializer: initializer of beta, before the sigmoid; None: the constant 3.
    """

    own_arguments: ClassVar = {"alpha_initializer": None, "beta_initializer": None}
    step_weights = ("alpha", "beta")

    def __post_init__(self) -> None:
        if self.alpha_initializer is None:
            self.alpha_initializer = keras.initializers.Constant(-3.0)
        if self.beta_initializer is None:
            self.beta_initializer = keras.initializers.Constant(3.0)

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)
        self.alpha = self.add_weight(shape=(), initializer=self.alpha_initializer, name="alpha")
        self.beta = self.add_weight(shape=(), initializer=self.beta_initializer, name="beta")

    def update(
        self, a: Tensor, r: Tensor, states: Sequence[Tensor], weights: Weights
    ) -> tuple[Tensor, list[Tensor]]:
        (h,) = states
        alpha, beta = (ops.sigmoid(weights[name]) for name in ("alpha", "beta"))
        h = alpha * self.activation(a + r) + beta * h
        return h, [h]


@keras.saving.register_keras_serializable(package="kerasrnn")
class FastRNN(Recurrent, cell_class=FastRNNCell):
    """A fast recurrent network layer."""
