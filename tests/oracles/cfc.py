"""The closed-form continuous-time network (Hasani et al., 2022).

Columns of the heads: g, k (the paper's h), f, and the term e that does not depend on the time.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles.activations import sigmoid
from tests.oracles.blocks import Weights

VARIANTS = (
    {},
    {"mode": "no_gate", "use_bias": False, "backbone_layers": 2, "backbone_units": 2},
    {"mode": "pure", "backbone_layers": 0},
)
STEADY = {"backbone_units": 2}


def step(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: Weights,
    *,
    activation: Callable[[np.ndarray], np.ndarray] = np.tanh,
    recurrent_activation: Callable[[np.ndarray], np.ndarray] = sigmoid,
    mode: str = "default",
    backbone_layers: int = 1,
    time_column: bool = False,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step: x (batch, features), states `[h]`. The backbone's activation is tanh."""
    (h_prev,) = states
    dt = 1.0
    if time_column:
        x, dt = x[:, :-1], x[:, -1:]
    heads = x @ weights["kernel"] + h_prev @ weights["recurrent_kernel"] + weights.get("bias", 0.0)
    for layer in range(1, backbone_layers + 1):
        suffix = "head_{}" if layer == backbone_layers else f"backbone_{{}}_{layer + 1}"
        kernel, bias = (suffix.format(name) for name in ("kernel", "bias"))
        heads = np.tanh(heads) @ weights[kernel] + weights.get(bias, 0.0)
    if mode == "pure":
        rate = _absolute(weights["w_tau"]) + _absolute(heads)
        h = weights["a"] - weights["a"] * np.exp(-dt * rate) * heads
        return h, [h]
    g, k, f, e = np.split(heads, 4, axis=1)
    g, k = activation(g), activation(k)
    gate = recurrent_activation(f * dt + e)
    h = g + gate * k if mode == "no_gate" else g * (1 - gate) + gate * k
    return h, [h]


def _absolute(v: np.ndarray) -> np.ndarray:
    # Not `np.abs`: that of complex numbers is not analytic.
    return np.where(v.real < 0, -v, v)
