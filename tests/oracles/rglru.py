"""The real-gated linear recurrent unit (De et al., 2024). Column order: r, i.

The units of head k are consecutive, and in each gate so are its columns.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles.activations import sigmoid
from tests.oracles.blocks import Weights

VARIANTS = (
    {},
    {"use_bias": False, "min_radius": 0.5, "max_radius": 0.6},
)


def step(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: Weights,
    *,
    recurrent_activation: Callable[[np.ndarray], np.ndarray] = sigmoid,
    heads: int = 1,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step: x (batch, features), states `[h]`."""
    (h_prev,) = states
    u = x @ weights["input_kernel"] if "input_kernel" in weights else x
    gates = []
    for n, w in enumerate(np.split(weights["kernel"], 2, axis=1)):
        of_heads = zip(np.split(u, heads, axis=1), np.split(w, heads, axis=1), strict=True)
        p = np.concatenate([v @ block for v, block in of_heads], axis=1)
        b = np.split(weights["bias"], 2)[n] if "bias" in weights else 0.0
        gates.append(recurrent_activation(p + b))  # (1), (2)
    r, i = gates
    a = sigmoid(weights["decay_logit"]) ** (8 * r)  # (3)
    h = a * h_prev + np.sqrt(1 - a**2) * (i * u)  # (4)
    return h, [h]
