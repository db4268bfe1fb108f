"""The independently recurrent network: Li, Li, Cook, Zhu & Gao (2018)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn.cells.arguments import REMOVED
from kerasrnn.cells.cell import Cell
from kerasrnn.cells.layer import Recurrent
from kerasrnn.recurrence.loop import Weights
from kerasrnn.recurrence.products import ElementwiseProduct

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class IndRNNCell(Cell):
    """One step of an independently recurrent network.

    Li, Li, Cook, Zhu & Gao (2018), "Independently recurrent neural network (IndRNN): building a
    longer and deeper RNN".

        a_t = x_t W + b,   r_t = h_{t-1} * u
        h_t = relu(a_t + r_t)

    Each unit is connected only to itself over time; stacked layers mix the units. A single weight u
    determines how long a unit remembers and whether its gradient explodes, which makes very long
    sequences and deep stacks possible, with relu too.

    `relu` is `activation`. Weights: `kernel` W `(features, units)`, `recurrent_kernel` u
    `(units,)`, `bias` b `(units,)`. With `recurrent_initializer=None`, u is drawn uniformly from
    [0, 1), as the authors do for relu, so that each unit forgets at its own rate; for a last layer
    of which only the final state is used, they recommend 1. Over T steps a unit multiplies by u up
    to T times: the authors keep `|u| <= 2^(1/T)` with a `recurrent_constraint` (docs/bptt.md has
    one). State: h.
    """

    own_arguments: ClassVar = {
        "activation": "relu",
        "recurrent_initializer": None,
        "recurrent_parametrization": REMOVED,
    }

    def __post_init__(self) -> None:
        if self.recurrent_initializer is None:
            self.recurrent_initializer = keras.initializers.RandomUniform(0.0, 1.0)

    @property
    def recurrent_kernel_shape(self) -> tuple[int, ...]:
        return (self.units,)

    def recurrent_products(self, weights: Weights) -> tuple[ElementwiseProduct, ...]:
        masks = weights.noise.get("states")
        return (ElementwiseProduct(weights["recurrent_kernel"], None, masks),)

    def recurrent_matrices(self) -> dict[str, Tensor]:
        return {"h": ops.diag(ops.convert_to_tensor(self.recurrent_kernel))}

    def update(
        self, a: Tensor, r: Tensor, states: Sequence[Tensor], weights: Weights
    ) -> tuple[Tensor, list[Tensor]]:
        h = self.activation(a + r)
        return h, [h]


@keras.saving.register_keras_serializable(package="kerasrnn")
class IndRNN(Recurrent, cell_class=IndRNNCell):
    """An independently recurrent network layer."""
