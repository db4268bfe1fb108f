"""The echo state network (Jaeger, 2001), with leaky units, of given weights."""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles.blocks import Weights

VARIANTS = (
    {},
    {"use_bias": False, "spectral_radius": 1.1},
    {"leak": 0.3, "sparsity": 0.5, "activation": "relu"},
)


def step(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: Weights,
    *,
    activation: Callable[[np.ndarray], np.ndarray] = np.tanh,
    leak: float = 1.0,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step: x (batch, features), states `[h]`."""
    (h_prev,) = states
    a = x @ weights["kernel"] + weights.get("bias", 0.0)
    candidate = activation(a + h_prev @ weights["recurrent_kernel"])
    h = (1 - leak) * h_prev + leak * candidate
    return h, [h]
