"""The template network: Author & Author (2026)."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.cells.cell import Cell
from kerasrnn.cells.layer import Recurrent

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class TemplateCell(Cell):
    """One step of a template network.

    Author & Author (2026), "Title of the paper", equations 1 to 3.

        a_t = x_t W + b,   r_t = h_{t-1} U,   (p_g, p_h) = a_t + r_t
        g_t = sigmoid(p_g),   candidate_t = tanh(p_h)
        h_t = leak * h_{t-1} + (1 - leak) * g_t * candidate_t

    What the cell is good for, and where it deviates from the paper. `sigmoid` is
    `recurrent_activation`, `tanh` is `activation`. Weights: `kernel` W `(features, 2 * units)`,
    `recurrent_kernel` U `(units, 2 * units)`, `bias` b `(2 * units,)`, with the columns in the
    order g, h. State: h.

    Args:
        leak: fraction of the state that is retained, in [0, 1].
    """

    own_arguments: ClassVar = {"recurrent_activation": "sigmoid", "leak": 0.1}
    gates = ("g", "h")
    state_names = ("h",)

    def __post_init__(self) -> None:
        if not 0 <= self.leak <= 1:
            raise validation.ArgumentError("leak", self.leak, "a number in [0, 1]")

    def update(
        self, a: Tensor, r: Tensor, states: Sequence[Tensor], weights: Mapping[str, Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        (h,) = states
        p_g, p_h = ops.split(a + r, 2, axis=-1)
        candidate = self.recurrent_activation(p_g) * self.activation(p_h)
        h = self.leak * h + (1 - self.leak) * candidate
        return h, [h]


@keras.saving.register_keras_serializable(package="kerasrnn")
class Template(Recurrent, cell_class=TemplateCell):
    """A template network layer."""
