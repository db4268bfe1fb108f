"""The real-gated linear recurrent unit: De et al. (2024)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.cells.layer import Recurrent
from kerasrnn.cells.linear_cell import LinearCell
from kerasrnn.recurrence.loop import Weights
from kerasrnn.recurrence.products import HeadsProduct, input_part

Tensor = Any

C = 8.0
"""The exponent of the decay where the recurrence gate is open."""


@keras.saving.register_keras_serializable(package="kerasrnn")
class RGLRUCell(LinearCell):
    """One step of a real-gated linear recurrent unit.

    De et al. (2024), "Griffin: mixing gated linear recurrences with local attention for efficient
    language models", equations 1 to 4 and appendix A.

        u_t = x_t P                                      u_t = x_t if `features` = `units`
        (p_r, p_i) = u_t W + b
        r_t = sigmoid(p_r),   i_t = sigmoid(p_i)
        a_t = sigmoid(Lambda)^(8 r_t)
        h_t = a_t * h_{t-1} + sqrt(1 - a_t^2) * (i_t * u_t)

    The recurrence gate r, at 0, holds the state and ignores the input; at 1 the state decays at its
    own rate. The factor `sqrt(1 - a_t^2)` keeps the variance of the states at that of the inputs.
    It is computed from the logarithm of a_t, without cancellation: near a_t = 1, where memories are
    long, the difference of two rounded numbers would be mostly rounding error. The unit of the
    language models Griffin and RecurrentGemma, for very long sequences.

    `heads` divides the units into heads of equal size, whose gates read only units of the same
    head: W is block-diagonal in each gate. Sigmoid(Lambda)^8 starts uniformly in [`min_radius`,
    `max_radius`]. The unit has as many features as units in the paper, where a linear layer and a
    convolution precede it; P, which it lacks, allows any number of features. In the authors' code
    the parameter is -Lambda, and the first step of a sequence has the factor 1.

    `sigmoid` is `recurrent_activation`, except in that of Lambda. Weights: `kernel` W
    `(units / heads, 2 * units)`, the columns of head k in each gate being applied to the units of
    head k, `bias` b `(2 * units,)`, with the gates' columns in the order r, i; `decay_logit`
    Lambda `(units,)`; and, if `features` and `units` differ, `input_kernel` P `(features, units)`.
    State: h.

    Args:
        heads: positive integer that divides `units`. The authors use 10 and more.
        min_radius: number in (0, 1): the smallest initial decay where r is 1.
        max_radius: number in (0, 1): the largest initial decay where r is 1.
    """

    own_arguments: ClassVar = {
        "recurrent_activation": "sigmoid",
        "kernel_initializer": "lecun_normal",
        "heads": 1,
        "min_radius": 0.9,
        "max_radius": 0.999,
    }
    gates = ("r", "i", "h")
    rates = step_weights = ("decay_logit",)

    def __post_init__(self) -> None:
        if self.units % self.heads:
            raise validation.ArgumentError("heads", self.heads, f"a divisor of units={self.units}")
        if not 0 < self.min_radius < 1:
            raise validation.ArgumentError("min_radius", self.min_radius, "a number in (0, 1)")
        if not self.min_radius < self.max_radius < 1:
            raise validation.ArgumentError(
                "max_radius", self.max_radius, "a number above min_radius, below 1"
            )

    @property
    def dropout_blocks(self) -> int:
        return 1  # the gates share the inputs

    def kernel_shape(self, features: int) -> tuple[int, int]:
        return (self.units // self.heads, 2 * self.units)

    @property
    def bias_shape(self) -> tuple[int, ...]:
        return (2 * self.units,)

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)

        def decay_logit(shape: Any, dtype: Any = None) -> Tensor:
            decay = keras.random.uniform(
                shape, self.min_radius, self.max_radius, dtype=dtype, seed=self.seed_generator
            )
            log_decay = ops.log(decay) / C
            return log_decay - ops.log(-ops.expm1(log_decay))

        self.decay_logit = self.add_rate("decay_logit", decay_logit)
        self.input_kernel = None
        if input_shape[-1] != self.units:
            self.input_kernel = self.add_weight(
                shape=(input_shape[-1], self.units),
                name="input_kernel",
                initializer=self.kernel_initializer,
                regularizer=self.kernel_regularizer,
                constraint=self.kernel_constraint,
            )

    def input_part(self, x: Tensor, weights: Weights) -> Tensor:
        masks = weights.noise.get("inputs")
        if self.input_kernel is not None:
            u = input_part(x, weights["input_kernel"], None, masks)
        else:
            u = x if masks is None else x * masks[0]
        if self.heads == 1:
            a = input_part(u, weights["kernel"], weights.get("bias"))
        else:
            rows = ops.reshape(u, (-1, self.units))
            a = HeadsProduct(weights["kernel"], self.heads, 2)(rows)
            a = ops.reshape(a, (*ops.shape(u)[:-1], 2 * self.units))
            a = a if weights.get("bias") is None else a + weights["bias"]
        return ops.concatenate([a, u], axis=-1)

    def transition(self, a: Tensor, weights: Weights) -> tuple[Tensor, Tensor]:
        p_r, p_i, u = ops.split(a, 3, axis=-1)
        r, i = self.recurrent_activation(p_r), self.recurrent_activation(p_i)
        log_a = C * r * ops.log_sigmoid(weights["decay_logit"])
        t = ops.tanh(-log_a)
        square = 2 * t / (1 + t)  # 1 - a^2: -expm1(2 log a), which ONNX lacks
        # Where r is rounded to 0, the derivative of the square root is not finite.
        positive = square > 0
        gain = ops.where(positive, ops.sqrt(ops.where(positive, square, 1)), 0)
        return ops.exp(log_a), gain * (i * u)


@keras.saving.register_keras_serializable(package="kerasrnn")
class RGLRU(Recurrent, cell_class=RGLRUCell, after_loop=("heads", "min_radius", "max_radius")):
    """A real-gated linear recurrent unit layer."""
