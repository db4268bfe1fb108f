"""GRU with layer normalization: Ba, Kiros & Hinton (2016)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn.cells.cell import Cell
from kerasrnn.cells.layer import Recurrent
from kerasrnn.cells.normalization import normalize
from kerasrnn.recurrence.loop import Weights
from kerasrnn.recurrence.products import input_part

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class LayerNormGRUCell(Cell):
    """One step of a gated recurrent unit with layer normalization.

    Ba, Kiros & Hinton (2016), "Layer normalization", equations 26 to 28 of the supplement.

        N(v) = (v - mean(v)) / sqrt(variance(v) + epsilon)       over the features of a step
        (x_g, x_h) = x_t W,   (u_g, u_h) = h_{t-1} U             g: the gates z and rho together
        (a_g, a_h) = (gamma_xg * N(x_g), gamma_xh * N(x_h)) + b
        r_g = gamma_hg * N(u_g),   r_h = gamma_hh * N(u_h) + beta
        (z_t, rho_t) = sigmoid(a_g + r_g)
        candidate_t = tanh(a_h + rho_t * r_h)
        h_t = z_t * h_{t-1} + (1 - z_t) * candidate_t

    The columns of both gates are normalized together, and those of the candidate apart from them,
    in the input part and in the recurrent part: over features, not over the batch, so that the
    result is the same in training and in inference. The paper uses the cell for sentence vectors
    and for embeddings of images and texts, where it converges in fewer steps than GRU.

    The paper's z is the 1 - z of GRU here, and its r is rho. It adds a shift to each of the four
    normalized parts; of those of the gates only the sum matters, which is in b. `epsilon` follows
    Keras's `LayerNormalization`; the paper has none, and the authors' code 1e-5. If h_0 = 0, the
    first recurrent part is constant, and its gradient is multiplied by 1 / sqrt(epsilon).
    Normalization amplifies rounding errors of small values: in half precision a narrow layer needs
    a larger `epsilon`, such as 0.1.

    `sigmoid` is `recurrent_activation`, `tanh` is `activation`. Weights: `kernel` W
    `(features, 3 * units)`, `recurrent_kernel` U `(units, 3 * units)`, `bias` b `(3 * units,)`,
    `kernel_gamma` gamma_x and `recurrent_gamma` gamma_h, `(3 * units,)` each, with the columns in
    the order z, rho, h, and `recurrent_beta` beta `(units,)`: the gains start at 1, the shift at 0.
    State: h.
    """

    own_arguments: ClassVar = {"recurrent_activation": "sigmoid", "epsilon": 1e-3}
    gates = ("z", "rho", "h")
    memory_signs = (1, 0, 0)
    step_weights = ("recurrent_gamma", "recurrent_beta")

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)
        width, units = (3 * self.units,), (self.units,)
        self.kernel_gamma = self.add_weight(shape=width, initializer="ones", name="kernel_gamma")
        self.recurrent_gamma = self.add_weight(
            shape=width, initializer="ones", name="recurrent_gamma"
        )
        self.recurrent_beta = self.add_weight(
            shape=units, initializer="zeros", name="recurrent_beta"
        )

    def input_part(self, x: Tensor, weights: Weights) -> Tensor:
        product = input_part(x, weights["kernel"], None, weights.noise.get("inputs"))
        a = weights["kernel_gamma"] * self._normalize(product)
        return a + weights["bias"] if self.use_bias else a

    def update(
        self, a: Tensor, r: Tensor, states: Sequence[Tensor], weights: Weights
    ) -> tuple[Tensor, list[Tensor]]:
        (h,) = states
        a_g, a_h = ops.split(a, [2 * self.units], axis=-1)
        r_g, r_h = ops.split(
            weights["recurrent_gamma"] * self._normalize(r), [2 * self.units], axis=-1
        )
        z, rho = ops.split(self.recurrent_activation(a_g + r_g), 2, axis=-1)
        candidate = self.activation(a_h + rho * (r_h + weights["recurrent_beta"]))
        h = z * h + (1 - z) * candidate
        return h, [h]

    def _normalize(self, v: Tensor) -> Tensor:
        """Normalize the columns of the gates, and those of the candidate."""
        parts = ops.split(v, [2 * self.units], axis=-1)
        return ops.concatenate([normalize(part, self.epsilon) for part in parts], axis=-1)


@keras.saving.register_keras_serializable(package="kerasrnn")
class LayerNormGRU(Recurrent, cell_class=LayerNormGRUCell, after_loop=("epsilon",)):
    """A gated recurrent unit layer with layer normalization."""
