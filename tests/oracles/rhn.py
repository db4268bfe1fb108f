"""The recurrent highway network (Zilly, Srivastava, Koutnik and Schmidhuber, 2017).

Equations 6 to 9 of the paper, with c = 1 - t. Column order: h and t of the first layer, then of the
second, ...; the kernel has those of the first.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles.activations import sigmoid
from tests.oracles.blocks import Weights

VARIANTS = ({}, {"use_bias": False}, {"depth": 1}, {"depth": 2, "transform_bias": 1.0})


def step(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: Weights,
    *,
    activation: Callable[[np.ndarray], np.ndarray] = np.tanh,
    recurrent_activation: Callable[[np.ndarray], np.ndarray] = sigmoid,
    depth: int = 3,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step: x (batch, features), states `[h]`."""
    (s,) = states
    w_h, w_t = np.split(weights["kernel"], 2, axis=1)
    recurrent = np.split(weights["recurrent_kernel"], 2 * depth, axis=1)
    biases = np.split(weights["bias"], 2 * depth) if "bias" in weights else [0.0] * (2 * depth)
    for layer in range(depth):
        r_h, r_t = recurrent[2 * layer : 2 * layer + 2]
        b_h, b_t = biases[2 * layer : 2 * layer + 2]
        first = 1 if layer == 0 else 0  # only the first layer reads x
        h = activation(first * (x @ w_h) + s @ r_h + b_h)  # (7)
        t = recurrent_activation(first * (x @ w_t) + s @ r_t + b_t)  # (8)
        c = 1 - t  # instead of (9)
        s = h * t + s * c  # (6)
    return s, [s]
