"""LSTM with a projection: Sak, Senior & Beaufays (2014)."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn.cells.arguments import REMOVED, REQUIRED
from kerasrnn.cells.declaration import Wording
from kerasrnn.cells.layer import Recurrent
from kerasrnn.cells.lstm import LSTMCell
from kerasrnn.recurrence.loop import Weights
from kerasrnn.recurrence.products import Product, RecurrentProduct

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class LSTMPCell(LSTMCell):
    """One step of a long short-term memory with a projection layer.

    Sak, Senior & Beaufays (2014), "Long short-term memory recurrent neural network architectures
    for large scale acoustic modeling", section 2.2, without peepholes.

        a_t = x_t W + b,   r_t = h_{t-1} U,   (p_i, p_f, p_c, p_o) = a_t + r_t
        i_t = sigmoid(p_i),   f_t = sigmoid(p_f),   o_t = sigmoid(p_o)
        c_t = f_t * c_{t-1} + i_t * tanh(p_c)
        m_t = o_t * tanh(c_t)
        h_t = m_t P

    The state h that the gates and the next layer read is a narrow, linear projection of the wide
    cell: a large memory with few weights, as in speech recognition. The paper calls h r. The
    equations are those of PyTorch's `LSTM` with `proj_size`, which is `projection_units`; see
    `export.from_torch`.

    `sigmoid` is `recurrent_activation`, `tanh` is `activation`. Weights: `kernel` W
    `(features, 4 * units)`, `recurrent_kernel` U `(projection_units, 4 * units)`, `bias` b
    `(4 * units,)`, with the gates' columns in the order i, f, c, o, then `projection_kernel` P
    `(units, projection_units)`. States: h `(batch, projection_units)`, c `(batch, units)`; the
    output is h.

    Args:
        units: positive integer: the width of the cell state c.
        projection_units: positive integer: the width of h and of the output. None: half of
            `units`, rounded up.
        projection_initializer: initializer of P, `projection_kernel`.
        projection_regularizer: penalty on P.
        projection_constraint: projection of P after each update.
    """

    own_arguments: ClassVar = {
        "units": REQUIRED,
        "projection_units": None,
        "projection_initializer": "glorot_uniform",
        "projection_regularizer": None,
        "projection_constraint": None,
        "recurrent_parametrization": REMOVED,
    }

    wording = Wording(
        outputs="projection_units",
        output_shape=(2,),
        states=("projection_units", "units"),
        state_shapes=((2,), (4,)),
    )

    def __post_init__(self) -> None:
        if self.projection_units is None:
            self.projection_units = (self.units + 1) // 2

    @property
    def state_shapes(self) -> list[Any]:
        return [self.output_shape, (self.units,)]

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (self.projection_units,)

    @property
    def recurrent_kernel_shape(self) -> tuple[int, ...]:
        return (self.projection_units, 4 * self.units)

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)
        self.projection_kernel = self.add_weight(
            shape=(self.units, self.projection_units),
            name="projection_kernel",
            initializer=self.projection_initializer,
            regularizer=self.projection_regularizer,
            constraint=self.projection_constraint,
        )

    def recurrent_products(self, weights: Weights) -> tuple[Product, ...]:
        return (
            *super().recurrent_products(weights),
            RecurrentProduct(weights["projection_kernel"], None),
        )

    def step(
        self,
        a: Tensor,
        states: Sequence[Tensor],
        weights: Weights,
        products: tuple[Callable[[Tensor], Tensor], ...],
    ) -> tuple[Tensor, list[Tensor]]:
        product, projection = products
        h, c = states
        m, (_, c) = self.update(a, product(h), [h, c], weights)  # h_t of an LSTM
        h = projection(m)
        return h, [h, c]

    def recurrent_matrices(self) -> dict[str, Tensor]:
        # From one m to the gates of the next step.
        blocks = ops.split(ops.convert_to_tensor(self.recurrent_kernel), 4, axis=-1)
        p = ops.convert_to_tensor(self.projection_kernel)
        return {gate: ops.matmul(p, block) for gate, block in zip(self.gates, blocks, strict=True)}


@keras.saving.register_keras_serializable(package="kerasrnn")
class LSTMP(Recurrent, cell_class=LSTMPCell):
    """A long short-term memory layer with a projection layer."""
