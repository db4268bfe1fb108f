"""The hierarchically gated recurrent network: Qin et al. (2023)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.cells.layer import Recurrent
from kerasrnn.cells.linear_cell import LinearCell
from kerasrnn.cells.normalization import normalize
from kerasrnn.recurrence.loop import Weights

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class HGRNCell(LinearCell):
    """One step of a hierarchically gated recurrent network.

    Qin, Yang & Zhong (2023), "Hierarchically gated recurrent neural network for sequence modeling",
    section 3.

        (p_u, p_v, p_f, p_a, p_b) = x_t W + b
        c_t = silu(p_u) + i silu(p_v)                             complex
        lambda_t = gamma + (1 - gamma) * sigmoid(p_f),   gamma = sigmoid(Gamma)
        h_t = lambda_t * exp(i theta) * h_{t-1} + (1 - lambda_t) * c_t
        g_t = (sigmoid(p_a), sigmoid(p_b))
        y_t = (eta * N(g_t * (Re(h_t), Im(h_t))) + beta) V + d

    with N as in `LayerNormLSTM`. A forget gate never closes below its lower bound gamma, and the
    state rotates by the angles theta, which do not depend on the input. With bounds that rise from
    layer to layer, the lower layers of a stack model what is near, the upper ones what is far.

    The paper learns the bounds of all layers together, as cumulative sums of a softmax over the
    layers. Here each layer learns its own, which starts at `lower_bound`: in a stack of n layers,
    (k - 1) / n for layer k reproduces the authors' initial values. At 0, that of the first layer,
    the forget gate is not bounded, and there is no Gamma. The angles start at 10000^(-2 k / units),
    as in the authors' code, which normalizes before it multiplies by the gate.

    `silu` is `activation`, `sigmoid` is `recurrent_activation`, except in that of Gamma. Weights:
    `kernel` W `(features, 5 * units)`, `bias` b `(5 * units,)`, with the columns in the order u, v,
    f, a, b; `theta` `(units,)`; `normalization_gamma` eta and `normalization_beta` beta,
    `(2 * units,)`; `output_kernel` V `(2 * units, units)`; with `use_bias`, `output_bias` d
    `(units,)`; and, unless `lower_bound` is 0, `bound_logit` Gamma `(units,)`. States: the real and
    the imaginary part of h.

    Args:
        lower_bound: number in [0, 1): the initial lower bound of the forget gate.
    """

    own_arguments: ClassVar = {
        "activation": "silu",
        "recurrent_activation": "sigmoid",
        "lower_bound": 0.0,
        "epsilon": 1e-5,
    }
    gates = ("u", "v", "f", "a", "b")
    gate_names = ("f", "a", "b")
    state_names = ("h_real", "h_imaginary")
    complex_states = True

    def __post_init__(self) -> None:
        if not 0 <= self.lower_bound < 1:
            raise validation.ArgumentError("lower_bound", self.lower_bound, "a number in [0, 1)")
        names = ["theta", "normalization_gamma", "normalization_beta", "output_kernel"]
        names += ["output_bias"] if self.use_bias else []
        names += ["bound_logit"] if self.lower_bound else []
        self.step_weights = tuple(names)

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)
        units, pair = (self.units,), (2 * self.units,)
        angles = 10000.0 ** (-2 * np.arange(self.units) / self.units)
        self.theta = self.add_weight(
            shape=units,
            name="theta",
            initializer=lambda shape, dtype=None: ops.cast(angles, dtype),
        )
        self.normalization_gamma = self.add_weight(
            shape=pair, name="normalization_gamma", initializer="ones"
        )
        self.normalization_beta = self.add_weight(
            shape=pair, name="normalization_beta", initializer="zeros"
        )
        self.output_kernel = self.add_weight(
            shape=(2 * self.units, self.units),
            name="output_kernel",
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        if self.use_bias:
            self.output_bias = self.add_weight(
                shape=units, name="output_bias", initializer=self.bias_initializer
            )
        if self.lower_bound:
            logit = float(np.log(self.lower_bound) - np.log1p(-self.lower_bound))
            self.bound_logit = self.add_weight(
                shape=units, name="bound_logit", initializer=keras.initializers.Constant(logit)
            )

    def transition(self, a: Tensor, weights: Weights) -> tuple[list[Tensor], list[Tensor]]:
        p_u, p_v, p_f, _, _ = ops.split(a, 5, axis=-1)
        forget = self.recurrent_activation(p_f)
        remaining = 1 - forget
        if self.lower_bound:
            remaining = ops.sigmoid(-weights["bound_logit"]) * remaining
            forget = 1 - remaining
        decay = [forget * ops.cos(weights["theta"]), forget * ops.sin(weights["theta"])]
        return decay, [remaining * self.activation(p_u), remaining * self.activation(p_v)]

    def read(self, states: list[Tensor], a: Tensor, weights: Weights) -> Tensor:
        _, _, _, p_a, p_b = ops.split(a, 5, axis=-1)
        h_real, h_imaginary = states
        gated = [self.recurrent_activation(p_a) * h_real]
        gated.append(self.recurrent_activation(p_b) * h_imaginary)
        n = normalize(ops.concatenate(gated, axis=-1), self.epsilon)
        n = weights["normalization_gamma"] * n + weights["normalization_beta"]
        y = ops.matmul(n, weights["output_kernel"])
        return y + weights["output_bias"] if self.use_bias else y


@keras.saving.register_keras_serializable(package="kerasrnn")
class HGRN(Recurrent, cell_class=HGRNCell, after_loop=("lower_bound", "epsilon")):
    """A hierarchically gated recurrent network layer."""
