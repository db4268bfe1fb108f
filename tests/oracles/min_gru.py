"""The minimal gated recurrent unit (Feng et al., 2024). Column order: z, h."""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles.activations import sigmoid
from tests.oracles.blocks import Weights

VARIANTS = ({}, {"use_bias": False}, {"activation": "tanh"}, {"log_space": True})


def step(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: Weights,
    *,
    activation: Callable[[np.ndarray], np.ndarray] = lambda a: a,
    recurrent_activation: Callable[[np.ndarray], np.ndarray] = sigmoid,
    log_space: bool = False,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step: x (batch, features), states `[h]`."""
    (h_prev,) = states
    w_z, w_h = np.split(weights["kernel"], 2, axis=1)
    b_z, b_h = np.split(weights["bias"], 2) if "bias" in weights else (0.0, 0.0)
    z = recurrent_activation(x @ w_z + b_z)
    candidate = activation(x @ w_h + b_h)
    if log_space:  # section B.2.1 of the paper: g
        candidate = np.where(candidate.real >= 0, candidate + 0.5, sigmoid(candidate))
    h = (1 - z) * h_prev + z * candidate
    return h, [h]
