"""The undamped independent controlled oscillatory network (Rusch and Mishra, 2021)."""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles.activations import sigmoid
from tests.oracles.blocks import Weights

VARIANTS = ({}, {"use_bias": False, "dt": 0.4, "alpha": 0.0})


def step(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: Weights,
    *,
    activation: Callable[[np.ndarray], np.ndarray] = np.tanh,
    dt: float = 0.19,
    alpha: float = 30.65,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step: x (batch, features), states `[y, z]`."""
    y_prev, z_prev = states
    scale = dt * sigmoid(weights["c"])
    p = weights["recurrent_kernel"] * y_prev + x @ weights["kernel"] + weights.get("bias", 0.0)
    z = z_prev - scale * activation(p) - scale * alpha * y_prev
    y = y_prev + scale * z
    return y, [y, z]
