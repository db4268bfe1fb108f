"""The gated recurrent unit: Cho et al. (2014)."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn.cells.activations import DERIVATIVES
from kerasrnn.cells.cell import Cell
from kerasrnn.cells.layer import Recurrent
from kerasrnn.cells.onnx_operator import OnnxOperator
from kerasrnn.recurrence.loop import Weights

Tensor = Any


class GRUGates:
    """The gates of GRU and their adjoint, for cells with any recurrent part.

    Units are the last axis; there may be axes between it and the batch.
    """

    own_arguments: ClassVar = {"recurrent_activation": "sigmoid", "reset_after": True}
    gates = ("z", "rho", "h")
    memory_signs = (1, 0, 0)

    @property
    def bias_shape(self) -> tuple[int, ...]:
        return (2, 3 * self.units) if self.reset_after else (3 * self.units,)

    @property
    def product_groups(self) -> tuple[tuple[str, ...], ...]:
        return (self.gates,) if self.reset_after else (("z", "rho"), ("h",))

    def step(
        self,
        a: Tensor,
        states: Sequence[Tensor],
        weights: Weights,
        products: tuple[Callable[[Tensor], Tensor], ...],
    ) -> tuple[Tensor, list[Tensor]]:
        h, states, _ = self.step_with_residuals(a, states, weights, products)
        return h, states

    @property
    def has_adjoint(self) -> bool:
        return self.activation in DERIVATIVES and self.recurrent_activation in DERIVATIVES

    def step_with_residuals(
        self,
        a: Tensor,
        states: Sequence[Tensor],
        weights: Weights,
        products: tuple[Callable[[Tensor], Tensor], ...],
    ) -> tuple[Tensor, list[Tensor], Any]:
        (h,) = states
        a_gates, a_h = ops.split(a, [2 * self.units], axis=-1)
        r = products[0](h)
        r_gates, r_h = ops.split(r, [2 * self.units], axis=-1) if self.reset_after else (r, None)
        gates = self.recurrent_activation(a_gates + r_gates)  # (G1), (G2)
        z, rho = ops.split(gates, 2, axis=-1)
        r_candidate = rho * r_h if self.reset_after else products[1](rho * h)
        candidate = self.activation(a_h + r_candidate)  # (G3), (G4)
        residuals = (gates, candidate, r_h)
        h = z * h + (1 - z) * candidate  # (G5)
        return h, [h], residuals

    def step_adjoint(
        self,
        residuals: tuple[Tensor, ...],
        states: Sequence[Tensor],
        weights: Weights,
        products: tuple[Any, ...],
        d_output: Tensor,
        d_states: Sequence[Tensor],
    ) -> tuple[Tensor, list[Tensor], dict[str, Tensor], list[Tensor]]:
        gates, candidate, r_h = residuals
        (h,) = states
        z, rho = ops.split(gates, 2, axis=-1)
        of_gate = DERIVATIVES[self.recurrent_activation]
        dh = d_output + d_states[0]  # (B2)
        dp_z = dh * (h - candidate) * of_gate(z)  # (G6), (G8)
        dp_h = dh * (1 - z) * DERIVATIVES[self.activation](candidate)  # (G7), (G9)
        if self.reset_after:
            dp_rho = dp_h * r_h * of_gate(rho)  # (G10), (G12)
            d_a = ops.concatenate([dp_z, dp_rho, dp_h], axis=-1)
            d_r = ops.concatenate([dp_z, dp_rho, dp_h * rho], axis=-1)  # (G11), (G13)
            return d_a, [dh * z + products[0].adjoint(d_r)], {}, [d_r]  # (G14)
        dq = products[1].adjoint(dp_h)  # (G15)
        dp_rho = dq * h * of_gate(rho)  # (G16), (G17)
        d_gates = ops.concatenate([dp_z, dp_rho], axis=-1)
        dh = dh * z + products[0].adjoint(d_gates) + dq * rho  # (G18)
        return ops.concatenate([d_gates, dp_h], axis=-1), [dh], {}, [d_gates, dp_h]

    def product_arguments(
        self, residuals: tuple[Tensor, ...], states: Sequence[Tensor]
    ) -> list[Tensor]:
        (h,) = states
        if self.reset_after:
            return [h]  # (B5)
        _, rho = ops.split(residuals[0], 2, axis=-1)
        return [h, rho * h]  # (B5), (G19)


@keras.saving.register_keras_serializable(package="kerasrnn")
class GRUCell(GRUGates, Cell):
    """One step of a gated recurrent unit, drop-in for `keras.layers.GRUCell`.

    Cho et al. (2014), "Learning phrase representations using RNN encoder-decoder for statistical
    machine translation".

        (a_z, a_rho, a_h) = x_t W + b,   (r_z, r_rho, r_h) = h_{t-1} U + beta
        z_t = sigmoid(a_z + r_z),   rho_t = sigmoid(a_rho + r_rho)
        candidate_t = tanh(a_h + rho_t * r_h)                  with reset_after=True
        candidate_t = tanh(a_h + (rho_t * h_{t-1}) U_h)        with reset_after=False, and beta = 0
        h_t = z_t * h_{t-1} + (1 - z_t) * candidate_t

    The reset gate, usually called r, is rho here, since r is the recurrent part. `sigmoid` is
    `recurrent_activation`, `tanh` is `activation`. Weights: `kernel` W `(features, 3 * units)`,
    `recurrent_kernel` U `(units, 3 * units)`, `bias`: b and beta as `(2, 3 * units)` with
    `reset_after`, otherwise b, `(3 * units,)`; the gates' columns are in the order z, rho, h.
    State: h.
    """

    @property
    def onnx_operator(self) -> OnnxOperator | None:
        activations = (self.recurrent_activation, self.activation)
        return OnnxOperator("GRU", self.gates, activations, linear_before_reset=self.reset_after)


@keras.saving.register_keras_serializable(package="kerasrnn")
class GRU(Recurrent, cell_class=GRUCell, after_loop=("reset_after", "use_cudnn")):
    """A gated recurrent unit layer, drop-in for `keras.layers.GRU`."""
