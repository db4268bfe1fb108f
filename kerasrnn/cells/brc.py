"""The bistable recurrent cell: Vecoven, Ernst & Drion (2021)."""

from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn.cells.arguments import REMOVED
from kerasrnn.cells.layer import Recurrent
from kerasrnn.cells.nbrc import NBRCCell
from kerasrnn.recurrence.loop import Weights
from kerasrnn.recurrence.products import ElementwiseProduct

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class BRCCell(NBRCCell):
    """One step of a bistable recurrent cell.

    Vecoven, Ernst & Drion (2021), "A bio-inspired bistable recurrent cell allows for long-lasting
    memory".

        (p_a, p_c, p_h) = x_t U + (b, 0)
        a_t = 1 + tanh(p_a + w_a * h_{t-1})
        c_t = sigmoid(p_c + w_c * h_{t-1})
        h_t = c_t * h_{t-1} + (1 - c_t) * tanh(p_h + a_t * h_{t-1})

    A unit feeds its own state back with the gain a_t, between 0 and 2. Above 1, the unit has two
    stable states and holds one of them for any length of time without inputs, where a gate would
    forget: a memory in the unit itself, for very long sequences. Each unit is connected only to
    itself over time; stacked layers mix the units (`NBRC` mixes them in the layer).

    The tanh of a_t is computed by `recurrent_activation`, as is c_t: 1 + tanh(p) = 2 sigmoid(2 p).
    `tanh` is `activation`. Weights: `kernel` U
    `(features, 3 * units)` with the columns in the order a, c, h; `recurrent_kernel` w
    `(2 * units,)` and `bias` b `(2 * units,)` of a, c. State: h. The paper writes no biases; the
    authors' code adds those of a and c, and starts w at 1, as here.
    """

    own_arguments: ClassVar = {
        "recurrent_initializer": "ones",
        "recurrent_parametrization": REMOVED,
    }

    @property
    def product_groups(self) -> tuple[tuple[str, ...], ...]:
        return (("a",), ("c",))

    @property
    def recurrent_kernel_shape(self) -> tuple[int, ...]:
        return (2 * self.units,)

    def recurrent_products(self, weights: Weights) -> tuple[ElementwiseProduct, ...]:
        masks = weights.noise.get("states")
        return tuple(
            ElementwiseProduct(w, None, None if masks is None else masks[n % len(masks) :][:1])
            for n, w in enumerate(ops.split(weights["recurrent_kernel"], 2))
        )

    def recurrent_matrices(self) -> dict[str, Tensor]:
        blocks = ops.split(ops.convert_to_tensor(self.recurrent_kernel), 2)
        return {gate: ops.diag(w) for gate, w in zip(self.recurrent_gates, blocks, strict=True)}


@keras.saving.register_keras_serializable(package="kerasrnn")
class BRC(Recurrent, cell_class=BRCCell):
    """A bistable recurrent layer."""
