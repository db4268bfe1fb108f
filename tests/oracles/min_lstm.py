"""The minimal long short-term memory (Feng et al., 2024). Column order: f, i, h."""

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
    log_space: bool = False,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step: x (batch, features), states `[h]`."""
    (h_prev,) = states
    w_f, w_i, w_h = np.split(weights["kernel"], 3, axis=1)
    b_f, b_i, b_h = np.split(weights["bias"], 3) if "bias" in weights else (0.0, 0.0, 0.0)
    f = sigmoid(x @ w_f + b_f)
    i = sigmoid(x @ w_i + b_i)
    candidate = activation(x @ w_h + b_h)
    if log_space:  # section B.2.2 of the paper: g
        candidate = np.where(candidate.real >= 0, candidate + 0.5, sigmoid(candidate))
    h = (f * h_prev + i * candidate) / (f + i)
    return h, [h]
