"""The closed-form continuous-time network: Hasani et al. (2022)."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn.cells.cell import Cell
from kerasrnn.cells.elapsed_time import feature_masks, features, split_time, with_time
from kerasrnn.cells.layer import Recurrent
from kerasrnn.recurrence.loop import Weights
from kerasrnn.recurrence.products import Product, RecurrentProduct, input_part

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class CfCCell(Cell):
    """One step of a closed-form continuous-time network.

    Hasani et al. (2022), "Closed-form continuous-time neural networks", the approximate solution of
    a liquid time-constant network (see `LTCCell`) and the network with gates that replaces its
    exponential.

        s_t = tanh(x_t W + b + h_{t-1} U)                         the backbone
        (g_t, k_t, f_t, e_t) = s_t H + c                          its heads
        gate_t = sigmoid(f_t * dt_t + e_t)
        h_t = (1 - gate_t) * tanh(g_t) + gate_t * tanh(k_t)       with mode="default"
        h_t = tanh(g_t) + gate_t * tanh(k_t)                      with mode="no_gate"
        h_t = A - A * exp(-dt_t * (|w_tau| + |g_t|)) * g_t        with mode="pure", g_t = s_t H + c

    The state is a function of the time dt_t since the previous step, so that the steps need not be
    equally spaced, and no differential equation has to be solved. With `time_column`, dt_t is the
    last column of the inputs; otherwise it is 1.

    The paper writes h for k; its gate is sigmoid(-f t) and belongs to g; the time-independent term
    e is the authors' code's, as is the form of the pure mode. Their code has 128 backbone units and
    `1.7159 tanh(0.666 x)` as the backbone's activation, which is a tanh with other scales of the
    weights around it.

    `backbone_layers` layers compute s; with 0, the heads read x_t and h_{t-1} directly: (g_t, ...)
    = x_t W + b + h_{t-1} U. `tanh` is `backbone_activation` in the backbone and `activation` in the
    heads, `sigmoid` is `recurrent_activation`. Weights: `kernel` W `(features, backbone units)`,
    `recurrent_kernel` U `(units, backbone units)`, `bias` b; `backbone_kernel_2`,
    `backbone_bias_2`, ... of further layers; `head_kernel` H `(backbone units, 4 * units)` and
    `head_bias` c, with the columns in the order g, k, f, e. With "pure", H has only the columns of
    g, and `w_tau` and `a`, A, are `(units,)`, at first 0 and 1. Initializers, regularizers and
    constraints of W and b are also those of the weights of further layers and heads. State: h.

    Args:
        recurrent_activation: activation of the gate of the time; None is linear.
        mode: "default", "no_gate" or "pure": see above.
        backbone_units: positive integer: the width of the backbone's layers. None: `units`.
        backbone_layers: non-negative integer: the number of the backbone's layers.
        backbone_activation: activation of the backbone's layers; None is linear.
    """

    own_arguments: ClassVar = {
        "recurrent_activation": "sigmoid",
        "mode": "default",
        "backbone_units": None,
        "backbone_layers": 1,
        "backbone_activation": "tanh",
        "time_column": False,
    }

    @property
    def gate_names(self) -> tuple[str, ...]:
        return () if self.mode == "pure" else ("gate",)

    @property
    def dropout_blocks(self) -> int:
        return 1

    @property
    def input_part_size(self) -> int:
        return self.width if self.backbone_layers else self.heads_size

    @property
    def width(self) -> int:
        """The width of the backbone's layers."""
        return self.backbone_units or self.units

    @property
    def heads_size(self) -> int:
        """The width of the heads, all together."""
        return self.units if self.mode == "pure" else 4 * self.units

    def kernel_shape(self, features: int) -> tuple[int, int]:
        return (features - self.time_column, self.input_part_size)

    @property
    def recurrent_kernel_shape(self) -> tuple[int, ...]:
        return (self.units, self.input_part_size)

    @property
    def bias_shape(self) -> tuple[int, ...]:
        return (self.input_part_size,)

    @property
    def dense_names(self) -> list[str]:
        """The names of the kernels that follow the first layer, with `{}` for "kernel"."""
        if not self.backbone_layers:
            return []
        return [*(f"backbone_{{}}_{n}" for n in range(2, self.backbone_layers + 1)), "head_{}"]

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)
        for name in self.dense_names:
            columns = self.heads_size if name == "head_{}" else self.width
            self.add_weight(
                shape=(self.width, columns),
                name=name.format("kernel"),
                initializer=self.kernel_initializer,
                regularizer=self.kernel_regularizer,
                constraint=self.kernel_constraint,
            )
            if self.use_bias:
                self.add_weight(
                    shape=(columns,),
                    name=name.format("bias"),
                    initializer=self.bias_initializer,
                    regularizer=self.bias_regularizer,
                    constraint=self.bias_constraint,
                )
        if self.mode == "pure":
            for name, initializer in (("w_tau", "zeros"), ("a", "ones")):
                self.add_weight(shape=(self.units,), name=name, initializer=initializer)

    def used_in_step(
        self, weights: dict[str, Any], memory: dict[str, Tensor]
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        names = ("w_tau", "a") if self.mode == "pure" else ()
        return {name: weights[name] for name in names}, {}

    def input_part(self, x: Tensor, weights: Weights) -> Tensor:
        a = input_part(
            features(x, self.time_column),
            weights["kernel"],
            weights.get("bias"),
            feature_masks(weights.noise.get("inputs"), self.time_column),
        )
        return with_time(a, x, self.time_column)

    def recurrent_products(self, weights: Weights) -> tuple[Product, ...]:
        masks = weights.noise.get("states")
        return (
            RecurrentProduct(weights["recurrent_kernel"], None, masks),
            *(
                RecurrentProduct(weights[name.format("kernel")], weights.get(name.format("bias")))
                for name in self.dense_names
            ),
        )

    def step(
        self,
        a: Tensor,
        states: Sequence[Tensor],
        weights: Weights,
        products: tuple[Callable[[Tensor], Tensor], ...],
    ) -> tuple[Tensor, list[Tensor]]:
        (h,) = states
        recurrent, *layers = products
        a, dt = split_time(a, self.time_column)
        heads = a + recurrent(h)
        for layer in layers:
            heads = layer(self.backbone_activation(heads))
        if self.mode == "pure":
            w_tau, asymptote = weights["w_tau"], weights["a"]
            rate = ops.abs(w_tau) + ops.abs(heads)
            h = asymptote - asymptote * ops.exp(-dt * rate) * heads
            return h, [h]
        g, k, f, e = ops.split(heads, 4, axis=-1)
        gate = self.recurrent_activation(f * dt + e)
        g, k = self.activation(g), self.activation(k)
        h = g + gate * k if self.mode == "no_gate" else (1 - gate) * g + gate * k
        return h, [h]


@keras.saving.register_keras_serializable(package="kerasrnn")
class CfC(Recurrent, cell_class=CfCCell):
    """A closed-form continuous-time network layer."""
