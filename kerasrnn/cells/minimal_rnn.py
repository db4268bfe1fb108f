"""MinimalRNN: Chen (2017)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn.cells.cell import Cell
from kerasrnn.cells.layer import Recurrent
from kerasrnn.recurrence.loop import Weights
from kerasrnn.recurrence.products import input_part

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class MinimalRNNCell(Cell):
    """One step of a MinimalRNN.

    Chen (2017), "MinimalRNN: toward more interpretable and trainable recurrent neural networks".

        z_t = tanh(x_t W + b_z)
        u_t = sigmoid(h_{t-1} U_h + z_t U_z + b_u)
        h_t = u_t * h_{t-1} + (1 - u_t) * z_t

    The state is a weighted mean of the encoded inputs z, in their space, so that what it holds can
    be read from them; the gate decides how long. The paper uses it to recommend videos, with
    results like those of LSTM and GRU.

    The paper leaves the encoder z = Phi(x) open, and uses one layer, as here. z U_z is part of the
    input part, computed for all steps at once: what a `FeedbackCell` or an `AttentionCell` adds to
    the input part of z does not change it.

    `sigmoid` is `recurrent_activation`, `tanh` is `activation`. Weights: `kernel` W
    `(features, units)`, `recurrent_kernel` U_h `(units, units)`, `bias` (b_u, b_z) `(2 * units,)`,
    `gate_kernel` U_z `(units, units)`. State: h. The candidate z is the block h of `gates`.

    Args:
        gate_initializer: initializer of U_z, `gate_kernel`.
        gate_regularizer: penalty on U_z.
        gate_constraint: projection of U_z after each update.
    """

    own_arguments: ClassVar = {
        "recurrent_activation": "sigmoid",
        "gate_initializer": "glorot_uniform",
        "gate_regularizer": None,
        "gate_constraint": None,
    }
    gates = ("u", "h")
    memory_signs = (1, 0)

    @property
    def product_groups(self) -> tuple[tuple[str, ...], ...]:
        return (("u",),)

    def kernel_shape(self, features: int) -> tuple[int, ...]:
        return (features, self.units)

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)
        self.gate_kernel = self.add_weight(
            shape=(self.units, self.units),
            name="gate_kernel",
            initializer=self.gate_initializer,
            regularizer=self.gate_regularizer,
            constraint=self.gate_constraint,
        )

    def input_part(self, x: Tensor, weights: Weights) -> Tensor:
        b_u, b_z = ops.split(weights["bias"], 2) if self.use_bias else (None, None)
        masks = weights.noise.get("inputs")
        # With a mask for each gate, that of z: the gate reads the inputs through it.
        p_z = input_part(x, weights["kernel"], b_z, None if masks is None else masks[-1:])
        a_u = input_part(self.activation(p_z), weights["gate_kernel"], b_u)
        return ops.concatenate([a_u, p_z], axis=-1)

    def update(
        self, a: Tensor, r: Tensor, states: Sequence[Tensor], weights: Weights
    ) -> tuple[Tensor, list[Tensor]]:
        (h,) = states
        a_u, p_z = ops.split(a, 2, axis=-1)
        u = self.recurrent_activation(r + a_u)
        h = u * h + (1 - u) * self.activation(p_z)
        return h, [h]


@keras.saving.register_keras_serializable(package="kerasrnn")
class MinimalRNN(
    Recurrent,
    cell_class=MinimalRNNCell,
    after_loop=("gate_initializer", "gate_regularizer", "gate_constraint"),
):
    """A MinimalRNN layer."""
