"""The minimal gated unit: Zhou, Wu, Zhang & Zhou (2016)."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn.cells.cell import Cell
from kerasrnn.cells.layer import Recurrent
from kerasrnn.cells.onnx_operator import SYMMETRIC, OnnxOperator
from kerasrnn.recurrence.loop import Weights

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class MGUCell(Cell):
    """One step of a minimal gated unit.

    Zhou, Wu, Zhang & Zhou (2016), "Minimal gated unit for recurrent neural networks".

        (a_f, a_h) = x_t W + b
        f_t = sigmoid(a_f + h_{t-1} U_f)
        candidate_t = tanh(a_h + (f_t * h_{t-1}) U_h)
        h_t = (1 - f_t) * h_{t-1} + f_t * candidate_t

    It is a GRU (with `reset_after=False`) with a single gate, and has two thirds of its weights.
    Where the candidate reads nothing of a state, that state is retained in full. `sigmoid` is
    `recurrent_activation`, `tanh` is `activation`. Weights: `kernel` W `(features, 2 * units)`,
    `recurrent_kernel` U `(units, 2 * units)`, `bias` b `(2 * units,)`, with the columns in the
    order f, h. State: h.
    """

    own_arguments: ClassVar = {"recurrent_activation": "sigmoid"}
    gates = ("f", "h")
    memory_signs = (-1, 0)

    @property
    def product_groups(self) -> tuple[tuple[str, ...], ...]:
        return (("f",), ("h",))

    @property
    def onnx_operator(self) -> OnnxOperator | None:
        if self.recurrent_activation not in SYMMETRIC:
            return None
        # A GRU with z = 1 - f: sigmoid(-p) = 1 - sigmoid(p).
        return OnnxOperator("GRU", ("-f", "f", "h"), (self.recurrent_activation, self.activation))

    def step(
        self,
        a: Tensor,
        states: Sequence[Tensor],
        weights: Weights,
        products: tuple[Callable[[Tensor], Tensor], ...],
    ) -> tuple[Tensor, list[Tensor]]:
        gate_product, candidate_product = products
        (h,) = states
        a_f, a_h = ops.split(a, 2, axis=-1)
        f = self.recurrent_activation(a_f + gate_product(h))
        candidate = self.activation(a_h + candidate_product(f * h))
        h = (1 - f) * h + f * candidate
        return h, [h]


@keras.saving.register_keras_serializable(package="kerasrnn")
class MGU(Recurrent, cell_class=MGUCell):
    """A minimal gated unit layer."""
