"""The light gated recurrent unit: Ravanelli, Brakel, Omologo & Bengio (2018)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.cells.cell import Cell
from kerasrnn.cells.layer import Recurrent
from kerasrnn.cells.normalization import moments_of_product
from kerasrnn.recurrence.loop import Noise, Weights
from kerasrnn.recurrence.products import input_part

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class LiGRUCell(Cell):
    """One step of a light gated recurrent unit.

    Ravanelli, Brakel, Omologo & Bengio (2018), "Light gated recurrent units for speech
    recognition".

        a_t = x_t W + b                                  with normalization=None
        a_t = gamma * (x_t W - mean) / sqrt(variance + epsilon) + b             with "batch"
        r_t = h_{t-1} U,   (p_z, p_h) = a_t + r_t
        z_t = sigmoid(p_z),   candidate_t = relu(p_h)
        h_t = z_t * h_{t-1} + (1 - z_t) * candidate_t

    It is a GRU without the reset gate, which the authors found redundant for speech, and with an
    activation that does not saturate. It has two thirds of GRU's weights.

    The paper normalizes the input part, which keeps the states of a relu small. The mean and the
    variance are those of x_t W over all valid steps of a batch in training; in inference they are
    moving averages, as in Keras's `BatchNormalization`, and part of the kernel and the bias. The
    library's default is no normalization: then a step is the same in training and in inference, and
    for any batch. The recurrent part is never normalized.

    `sigmoid` is `recurrent_activation`, `relu` is `activation`. Weights: `kernel` W
    `(features, 2 * units)`, `recurrent_kernel` U `(units, 2 * units)`, `bias` b `(2 * units,)`,
    with the columns in the order z, h; with normalization `kernel_gamma` gamma, which starts at 1,
    `moving_mean` and `moving_variance`, `(2 * units,)` each. State: h.

    Args:
        normalization: None or "batch": the normalization of the input part.
        epsilon: positive number added to the variance before its square root is taken.
        momentum: fraction of the moving averages that a batch leaves, in [0, 1).
    """

    own_arguments: ClassVar = {
        "activation": "relu",
        "recurrent_activation": "sigmoid",
        "normalization": None,
        "epsilon": 1e-3,
        "momentum": 0.99,
    }
    gates = ("z", "h")
    memory_signs = (1, 0)

    def __post_init__(self) -> None:
        validation.one_of("normalization", self.normalization, (None, "batch"))
        validation.rate("momentum", self.momentum)

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)
        if self.normalization is None:
            return
        width = (2 * self.units,)
        self.kernel_gamma = self.add_weight(shape=width, initializer="ones", name="kernel_gamma")
        for name, start in (("moving_mean", "zeros"), ("moving_variance", "ones")):
            average = self.add_weight(shape=width, initializer=start, name=name, trainable=False)
            setattr(self, name, average)

    def input_part(self, x: Tensor, weights: Weights) -> Tensor:
        kernel, bias = weights["kernel"], weights.get("bias")
        if self.normalization is not None:
            deviation = ops.sqrt(weights["moving_variance"] + self.epsilon)
            scale = weights["kernel_gamma"] / deviation
            shift = -weights["moving_mean"] * scale
            kernel, bias = kernel * scale, shift if bias is None else bias + shift
        return input_part(x, kernel, bias, weights.noise.get("inputs"))

    def weights_of_call(
        self, weights: dict[str, Any], inputs: Tensor, mask: Tensor | None, noise: Noise
    ) -> dict[str, Any]:
        if self.normalization is None or not self.trainable:
            return weights
        masks = noise.sequences.get("inputs")
        batch = dict(
            zip(
                ("moving_mean", "moving_variance"),
                moments_of_product(inputs, weights["kernel"], mask, masks),
                strict=True,
            )
        )
        for name, value in batch.items():
            average, value = getattr(self, name), ops.stop_gradient(value)
            value = ops.cast(value, average.dtype)
            average.assign(self.momentum * average + (1 - self.momentum) * value)
        dtype = weights["kernel"].dtype
        return {**weights, **{name: ops.cast(value, dtype) for name, value in batch.items()}}

    def update(
        self, a: Tensor, r: Tensor, states: Sequence[Tensor], weights: Weights
    ) -> tuple[Tensor, list[Tensor]]:
        (h,) = states
        p_z, p_h = ops.split(a + r, 2, axis=-1)
        z = self.recurrent_activation(p_z)
        h = z * h + (1 - z) * self.activation(p_h)
        return h, [h]


@keras.saving.register_keras_serializable(package="kerasrnn")
class LiGRU(Recurrent, cell_class=LiGRUCell, after_loop=("normalization", "epsilon", "momentum")):
    """A light gated recurrent unit layer."""
