"""The simple recurrent unit: Lei et al. (2018)."""

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn.cells.layer import Recurrent
from kerasrnn.cells.linear_cell import LinearCell
from kerasrnn.recurrence.loop import Weights
from kerasrnn.recurrence.products import input_part

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class SRUCell(LinearCell):
    """One step of a simple recurrent unit.

    Lei, Zhang, Wang, Dai & Artzi (2018), "Simple recurrent units for highly parallelizable
    recurrence", equations 1 to 4 and section 3.2.

        (p_f, p_r, p_c) = x_t W + b,   u_t = alpha * x_t       u_t = x_t P if `features` != `units`
        f_t = sigmoid(p_f + v_f * c_{t-1})
        r_t = sigmoid(p_r + v_r * c_{t-1})
        c_t = f_t * c_{t-1} + (1 - f_t) * p_c
        h_t = r_t * g(c_t) + (1 - r_t) * u_t

    The matrix products read only the inputs, and the units are connected only by them: a layer
    costs little more than a feedforward one. The highway connection `(1 - r_t) * u_t` lets deep
    stacks train, which are how the unit is meant to be used.

    Without the peepholes v_f and v_r, as in the first version of the paper (2017) and by default,
    the recurrence is linear, and everything else is computed for all steps at once. With
    `use_peepholes`, as in the paper, the gates read the cell state, and the steps run in the
    ordinary loop.

    Alpha is `sqrt(1 + 2 * exp(highway_bias))`, which keeps the variance of the outputs at that of
    the inputs in a new layer. The projection P of inputs of another width is in the authors' code,
    where it has no scale. The paper initializes v like the other weights; here it starts at 0, so
    that a new layer equals the linear one.

    `sigmoid` is `recurrent_activation`; g is `activation`: the identity, as in equation 4, or
    `tanh`, as in the first version. Weights: `kernel` W `(features, 3 * units)`, with 4 * units
    columns if `features` and `units` differ, `bias` b `(2 * units,)`, of the gates; the columns are
    in the order f, r, c and P. With `use_peepholes`, `peephole_kernel` v `(2, units)`, its rows in
    the order f, r. State: c.

    Args:
        use_peepholes: whether the gates read the cell state.
        highway_bias: number: the initial bias of r, which also determines alpha. Below 0, a new
            layer passes more of its inputs on.
        rescale: whether to scale the inputs by alpha; otherwise alpha is 1.
    """

    own_arguments: ClassVar = {
        "activation": None,
        "recurrent_activation": "sigmoid",
        "peephole_initializer": "zeros",
        "peephole_regularizer": None,
        "peephole_constraint": None,
        "use_peepholes": False,
        "highway_bias": 0.0,
        "rescale": True,
    }
    gates = ("f", "r", "c", "skip")
    gate_names = ("f", "r")
    state_names = ("c",)
    memory_signs = (1, 0)
    is_linear = True
    single_read = True

    def __post_init__(self) -> None:
        if self.use_peepholes:
            self.is_linear = False
            self.step_weights = ("peephole_kernel",)

    @property
    def dropout_blocks(self) -> int:
        return 1  # the highway connection reads the same inputs as the gates

    def kernel_shape(self, features: int) -> tuple[int, int]:
        return (features, (3 if features == self.units else 4) * self.units)

    @property
    def bias_shape(self) -> tuple[int, ...]:
        return (2 * self.units,)

    def make_bias_initializer(self) -> Callable[..., Tensor]:
        def initializer(shape: Any, dtype: Any = None) -> Tensor:
            bias = self.bias_initializer(shape, dtype=dtype)
            shift = ops.full((self.units,), self.highway_bias, dtype=dtype)
            return bias + ops.concatenate([ops.zeros_like(shift), shift])

        return initializer if self.highway_bias else self.bias_initializer

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)
        if self.use_peepholes:
            self.peephole_kernel = self.add_weight(
                shape=(2, self.units),
                name="peephole_kernel",
                initializer=self.peephole_initializer,
                regularizer=self.peephole_regularizer,
                constraint=self.peephole_constraint,
            )

    def input_part(self, x: Tensor, weights: Weights) -> Tensor:
        kernel, bias = weights["kernel"], weights.get("bias")
        masks = weights.noise.get("inputs")
        if bias is not None:
            bias = ops.pad(bias, [[0, kernel.shape[-1] - 2 * self.units]])
        a = input_part(x, kernel, bias, masks)
        if kernel.shape[-1] == 4 * self.units:
            return a
        x = x if masks is None else x * masks[0]
        alpha = math.sqrt(1 + 2 * math.exp(self.highway_bias)) if self.rescale else 1.0
        return ops.concatenate([a, alpha * x], axis=-1)

    def transition(self, a: Tensor, weights: Weights) -> tuple[Tensor, Tensor]:
        p_f, _, p_c, _ = ops.split(a, 4, axis=-1)
        f = self.recurrent_activation(p_f)
        return f, (1 - f) * p_c

    def read(self, states: list[Tensor], a: Tensor, weights: Weights) -> Tensor:
        (c,) = states
        _, p_r, _, u = ops.split(a, 4, axis=-1)
        r = self.recurrent_activation(p_r)
        return r * self.activation(c) + (1 - r) * u

    def step(
        self,
        a: Tensor,
        states: Sequence[Tensor],
        weights: Weights,
        products: tuple[Callable[[Tensor], Tensor], ...],
    ) -> tuple[Tensor, list[Tensor]]:
        if not self.use_peepholes:
            return super().step(a, states, weights, products)
        (c,) = states
        p_f, p_r, p_c, u = ops.split(a, 4, axis=-1)
        v_f, v_r = ops.split(weights["peephole_kernel"], 2)  # (1, units) each
        f = self.recurrent_activation(p_f + v_f * c)
        r = self.recurrent_activation(p_r + v_r * c)
        c = f * c + (1 - f) * p_c
        h = r * self.activation(c) + (1 - r) * u
        return h, [c]


@keras.saving.register_keras_serializable(package="kerasrnn")
class SRU(
    Recurrent,
    cell_class=SRUCell,
    after_loop=(
        "peephole_initializer",
        "peephole_regularizer",
        "peephole_constraint",
        "use_peepholes",
        "highway_bias",
        "rescale",
    ),
):
    """A simple recurrent unit layer."""
