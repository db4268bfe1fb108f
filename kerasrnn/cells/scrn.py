"""The structurally constrained recurrent network: Mikolov et al. (2015)."""

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
class SCRNCell(Cell):
    """One step of a structurally constrained recurrent network.

    Mikolov et al. (2015), "Learning longer memory in recurrent neural networks", section 3.

        (a_h, a_s) = x_t W + b,   h_{t-1} = [f_{t-1}; s_{t-1}]
        s_t = (1 - alpha) * a_s + alpha * s_{t-1}
        f_t = sigmoid(a_h + [f_{t-1}; s_t] U)
        h_t = [f_t; s_t]

    Some units of a simple recurrent network are context units, s: they change slowly and linearly,
    by themselves, as averages of past inputs over about 1 / (1 - alpha) steps. The other, fast
    units, f, also read them. The network remembers longer for a few more weights; the paper uses it
    for language models. The paper's output layer, y_t = softmax(U f_t + V s_t), is a `Dense` layer
    on h_t.

    The paper calls f h, its kernels A and B are W, and its R and P are U. `units` is the width of
    h_t: for m hidden and p context units in the paper's sense, it is m + p, and `context_units` is
    p. `sigmoid` is `activation`. Weights: `kernel` W `(features, units)`, `recurrent_kernel` U
    `(units, units - context_units)`, `bias` b `(units,)`, which the paper does not have; fast units
    come before context units. State: h.

    Args:
        context_units: number of context units, less than `units`. None: half of the units, rounded
            down.
        alpha: fraction of a context unit that is retained in a step, in [0, 1].
    """

    own_arguments: ClassVar = {
        "activation": "sigmoid",
        "context_units": None,
        "alpha": 0.95,
        "recurrent_parametrization": REMOVED,
    }

    def __post_init__(self) -> None:
        if self.context_units is None:
            self.context_units = self.units // 2
        self.context_units = validation.integer(
            "context_units", self.context_units, minimum=0, maximum=self.units - 1
        )
        self.alpha = validation.number("alpha", self.alpha, minimum=0, maximum=1)

    @property
    def fast_units(self) -> int:
        """The number of units that are not context units."""
        return self.units - self.context_units

    @property
    def recurrent_kernel_shape(self) -> tuple[int, ...]:
        return (self.units, self.fast_units)

    def recurrent_products(self, weights: Weights) -> tuple[Product, ...]:
        masks = weights.noise.get("states")
        return (RecurrentProduct(weights["recurrent_kernel"], None, masks),)

    def step(
        self,
        a: Tensor,
        states: Sequence[Tensor],
        weights: Weights,
        products: tuple[Callable[[Tensor], Tensor], ...],
    ) -> tuple[Tensor, list[Tensor]]:
        (h,), (product,) = states, products
        (f, s), (a_h, a_s) = (ops.split(x, [self.fast_units], axis=-1) for x in (h, a))
        s = (1 - self.alpha) * a_s + self.alpha * s
        f = self.activation(a_h + product(ops.concatenate([f, s], axis=-1)))
        h = ops.concatenate([f, s], axis=-1)
        return h, [h]

    def recurrent_matrices(self) -> dict[str, Tensor]:
        # Section 3 of the paper: a simple network's, with zeros and alpha in the columns of s.
        u = ops.convert_to_tensor(self.recurrent_kernel)
        return {"h": ops.concatenate([u, self._columns_of_s(u.dtype)], axis=-1)}

    def _columns_of_s(self, dtype: str) -> Tensor:
        return self.alpha * ops.eye(self.units, dtype=dtype)[:, self.fast_units :]


@keras.saving.register_keras_serializable(package="kerasrnn")
class SCRN(Recurrent, cell_class=SCRNCell):
    """A structurally constrained recurrent network layer."""
