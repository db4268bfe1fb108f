"""The recurrent highway network: Zilly, Srivastava, Koutnik & Schmidhuber (2017)."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.cells.cell import Cell
from kerasrnn.cells.layer import Recurrent
from kerasrnn.recurrence.loop import Weights
from kerasrnn.recurrence.products import Product, RecurrentProduct, input_part

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class RHNCell(Cell):
    """One step of a recurrent highway network.

    Zilly, Srivastava, Koutnik & Schmidhuber (2017), "Recurrent highway networks", equations 6 to 8
    with the coupled carry gate c = 1 - t of the paper's experiments.

        s_0 = h_{t-1},   a = x_t W   for l = 1,   a = 0   for l = 2 ... depth
        candidate_l = tanh(a_h + s_{l-1} U_hl + b_hl)
        t_l = sigmoid(a_t + s_{l-1} U_tl + b_tl)
        s_l = candidate_l * t_l + s_{l-1} * (1 - t_l)
        h_t = s_depth

    A step is a highway network of `depth` layers: the state passes through several nonlinear
    transformations from one step to the next, at the cost of one recurrent product per layer. The
    paper uses it for language models. With `depth` 1 it is a `UGRNN` whose gate is 1 - t.

    The index l counts the layers in the depth of a step. As in the authors' code, the layers share
    a recurrent dropout mask, and the gates start almost closed: `transform_bias` is added to the
    initial biases of t; the paper uses -2 and -4. `sigmoid` is `recurrent_activation`, `tanh` is
    `activation`. Weights: `kernel` W `(features, 2 * units)`, `recurrent_kernel` U
    `(units, depth * 2 * units)`, `bias` b `(depth * 2 * units,)`, with the columns in the order h1,
    t1, h2, t2, ... State: h.

    Args:
        depth: positive integer: the number of layers in a step.
        transform_bias: number that is added to the initial biases of the gates t.
    """

    own_arguments: ClassVar = {
        "recurrent_activation": "sigmoid",
        "depth": 3,
        "transform_bias": -2.0,
    }

    def __post_init__(self) -> None:
        self.depth = validation.positive_integer("depth", self.depth)

    @property
    def gates(self) -> tuple[str, ...]:
        return tuple(f"{name}{n + 1}" for n in range(self.depth) for name in ("h", "t"))

    @property
    def gate_names(self) -> tuple[str, ...]:
        return self.gates[1::2]

    @property
    def product_groups(self) -> tuple[tuple[str, ...], ...]:
        return tuple(zip(self.gates[::2], self.gates[1::2], strict=True))

    @property
    def input_part_size(self) -> int:
        return 2 * self.units

    @property
    def dropout_blocks(self) -> int:
        return 2

    def make_bias_initializer(self) -> Callable[..., Tensor]:
        def initialize(shape: Sequence[int], **kwargs: Any) -> Tensor:
            of_gates = [0.0, self.transform_bias] * self.depth
            added = ops.repeat(ops.convert_to_tensor(of_gates, **kwargs), self.units)
            return self.bias_initializer(shape, **kwargs) + added

        return initialize

    def input_part(self, x: Tensor, weights: Weights) -> Tensor:
        bias = weights["bias"][: self.input_part_size] if self.use_bias else None
        return input_part(x, weights["kernel"], bias, weights.noise.get("inputs"))

    def recurrent_products(self, weights: Weights) -> tuple[Product, ...]:
        kernels = ops.split(weights["recurrent_kernel"], self.depth, axis=-1)
        # The first bias is part of the input part.
        biases = [None] * self.depth
        if self.use_bias:
            biases[1:] = ops.split(weights["bias"], self.depth)[1:]
        masks = weights.noise.get("states")
        return tuple(
            RecurrentProduct(kernel, bias, masks)
            for kernel, bias in zip(kernels, biases, strict=True)
        )

    def step(
        self,
        a: Tensor,
        states: Sequence[Tensor],
        weights: Weights,
        products: tuple[Callable[[Tensor], Tensor], ...],
    ) -> tuple[Tensor, list[Tensor]]:
        (s,) = states
        for n, product in enumerate(products):
            p = product(s) if n else a + product(s)
            p_h, p_t = ops.split(p, 2, axis=-1)
            t = self.recurrent_activation(p_t)
            s = self.activation(p_h) * t + s * (1 - t)
        return s, [s]


@keras.saving.register_keras_serializable(package="kerasrnn")
class RHN(Recurrent, cell_class=RHNCell):
    """A recurrent highway network layer."""
