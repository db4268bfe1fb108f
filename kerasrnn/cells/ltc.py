"""The liquid time-constant network: Hasani, Lechner, Amini, Rus & Grosu (2021)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn.cells.arguments import REMOVED
from kerasrnn.cells.cell import Cell
from kerasrnn.cells.elapsed_time import feature_masks, features, split_time, with_time
from kerasrnn.cells.layer import Recurrent
from kerasrnn.recurrence.loop import Weights
from kerasrnn.recurrence.products import Product

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class LTCCell(Cell):
    """One step of a liquid time-constant network.

    Hasani, Lechner, Amini, Rus & Grosu (2021), "Liquid time-constant networks", equations 1 and 3:
    dh/dt = -(1/tau + f) * h + f * A, solved by a fused, semi-implicit Euler method of n
    `unfoldings` per step, with the conductances f of single synapses as in the authors' code. From
    unit or input i, with the value v_i, to unit j:

        f_ij = softplus(W_ij) * sigmoid(gamma_ij * (v_i - mu_ij))
        S_j = sum over i of f_ij,   I_j = b_j + sum over i of f_ij * A_ij
        h_j <- (h_j + dt_t / n * I_j) / (1 + dt_t / n * (1/tau_j + S_j))      n times, from h_{t-1}
        h_t = h

    The sums are over the inputs x_t, which do not change within a step, and the units, whose values
    do. Since S_j depends on inputs and states, so does the time constant of a unit, 1 / (1/tau_j +
    S_j): hence "liquid". States stay between the least and the greatest A and 0 if b = 0. The cell
    is meant for small networks on irregularly sampled data: a step takes `unfoldings * units^2`
    activations per row, and no matrix product. With `time_column`, the time dt_t since the previous
    step is the last column of the inputs; otherwise it is 1.

    The paper's algorithm 1 has one f per unit, of a matrix product; the authors' code has one per
    synapse, as in Lechner et al. (2020), "Neural circuit policies enabling auditable autonomy",
    with the current b that their leak has. Their capacities, which only scale the other weights of
    a unit, and their affine maps of inputs and outputs are left out. softplus keeps conductances
    and 1/tau positive, as in the implicit constraints of their code.

    `sigmoid` is `activation`. Weights: `kernel` W `(features, units)` of the inputs and
    `recurrent_kernel` W `(units, units)` of the units; `bias` b `(units,)`; `kernel_gamma`,
    `kernel_mu`, `kernel_a` and `recurrent_gamma`, `recurrent_mu`, `recurrent_a`, of the same shapes
    as the kernels; `leak` `(units,)`, with 1/tau = softplus(leak). The initial values are those of
    the authors: W and the leak uniform in [0, 1), gamma in [3, 8), mu in [0.3, 0.8), A either -1 or
    1. State: h.

    Args:
        activation: activation of the synapses, without negative values; None is linear.
        unfoldings: positive integer: the number of steps of the solver per step of the sequence.
    """

    own_arguments: ClassVar = {
        "activation": "sigmoid",
        "kernel_initializer": None,
        "recurrent_initializer": None,
        "unfoldings": 6,
        "time_column": False,
        "weight_drop": REMOVED,  # softplus(0) is a conductance, too
        "recurrent_parametrization": REMOVED,
    }
    recurrent_weights = ()

    def __post_init__(self) -> None:
        if self.kernel_initializer is None:
            self.kernel_initializer = keras.initializers.RandomUniform(0.0, 1.0)
        if self.recurrent_initializer is None:
            self.recurrent_initializer = keras.initializers.RandomUniform(0.0, 1.0)

    def kernel_shape(self, features: int) -> tuple[int, int]:
        return (features - self.time_column, self.units)

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)
        for name, shape in (
            ("kernel", self.kernel.shape),
            ("recurrent", self.recurrent_kernel.shape),
        ):
            for end, initializer in (
                ("gamma", keras.initializers.RandomUniform(3.0, 8.0)),
                ("mu", keras.initializers.RandomUniform(0.3, 0.8)),
                ("a", _signs),
            ):
                self.add_weight(shape=shape, name=f"{name}_{end}", initializer=initializer)
        self.add_weight(
            shape=(self.units,), name="leak", initializer=keras.initializers.RandomUniform(0.0, 1.0)
        )

    def used_in_step(
        self, weights: dict[str, Any], memory: dict[str, Tensor]
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        used = {name: weights[f"recurrent_{name}"] for name in ("gamma", "mu", "a")}
        conductances = ops.softplus(weights["recurrent_kernel"])
        return {**used, "conductances": conductances, "leak": ops.softplus(weights["leak"])}, {}

    def recurrent_products(self, weights: Weights) -> tuple[Product, ...]:
        return ()

    def recurrent_matrices(self) -> dict[str, Tensor]:
        return {}  # the kernel does not multiply the state

    def input_part(self, x: Tensor, weights: Weights) -> Tensor:
        v, masks = features(x, self.time_column), weights.noise.get("inputs")
        if masks is not None:
            v = v * feature_masks(masks, self.time_column)[0]
        names = ("kernel_gamma", "kernel_mu", "kernel_a")
        of_synapses = (weights[name] for name in names)
        conductance, current = self._synapses(v, ops.softplus(weights["kernel"]), *of_synapses)
        if self.use_bias:
            current = current + weights["bias"]
        return with_time(ops.concatenate([current, conductance], axis=-1), x, self.time_column)

    def step(
        self,
        a: Tensor,
        states: Sequence[Tensor],
        weights: Weights,
        products: tuple[()],
    ) -> tuple[Tensor, list[Tensor]]:
        (h,) = states
        masks = weights.noise.get("states")
        a, dt = split_time(a, self.time_column)
        current_of_inputs, conductance_of_inputs = ops.split(a, 2, axis=-1)
        of_synapses = [weights[name] for name in ("conductances", "gamma", "mu", "a")]
        duration = dt / self.unfoldings
        for _ in range(self.unfoldings):
            v = h if masks is None else h * masks[0]
            conductance, current = self._synapses(v, *of_synapses)
            current = current + current_of_inputs
            conductance = conductance + conductance_of_inputs
            h = (h + duration * current) / (1 + duration * (weights["leak"] + conductance))
        return h, [h]

    def _synapses(
        self, v: Tensor, conductances: Tensor, gamma: Tensor, mu: Tensor, a: Tensor
    ) -> tuple[Tensor, Tensor]:
        """S and the sum of f * A over the values v, `(..., n)`, of synapses `(n, units)`."""
        f = conductances * self.activation(gamma * (ops.expand_dims(v, -1) - mu))
        return ops.sum(f, axis=-2), ops.sum(f * a, axis=-2)


def _signs(shape: Sequence[int], dtype: Any = None) -> Tensor:
    """An initializer that draws -1 and 1."""
    return ops.cast(2 * keras.random.randint(shape, 0, 2) - 1, dtype)


@keras.saving.register_keras_serializable(package="kerasrnn")
class LTC(Recurrent, cell_class=LTCCell):
    """A liquid time-constant network layer."""
