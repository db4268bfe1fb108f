"""The first mutated unit, MUT1 (Jozefowicz, Zaremba and Sutskever, 2015).

Column order: z, r, h; z has no recurrent kernel. With as many features as units, h has no block of
the kernel: x itself is added.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles.activations import sigmoid
from tests.oracles.blocks import Weights

VARIANTS = ({}, {"use_bias": False}, {"recurrent_activation": "hard_sigmoid"})


def step(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: Weights,
    *,
    activation: Callable[[np.ndarray], np.ndarray] = np.tanh,
    recurrent_activation: Callable[[np.ndarray], np.ndarray] = sigmoid,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step: x (batch, features), states `[h]`."""
    (h_prev,) = states
    units = h_prev.shape[1]
    w_z, w_r, *w_h = np.split(weights["kernel"], weights["kernel"].shape[1] // units, axis=1)
    u_r, u_h = np.split(weights["recurrent_kernel"], 2, axis=1)
    b_z, b_r, b_h = np.split(weights["bias"], 3) if "bias" in weights else (0.0, 0.0, 0.0)

    z = recurrent_activation(x @ w_z + b_z)
    r = recurrent_activation(x @ w_r + h_prev @ u_r + b_r)
    read = x @ w_h[0] if w_h else x
    candidate = activation((r * h_prev) @ u_h + np.tanh(read) + b_h)
    h = candidate * z + h_prev * (1 - z)
    return h, [h]
