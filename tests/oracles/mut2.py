"""The second mutated unit, MUT2 (Jozefowicz, Zaremba and Sutskever, 2015).

Column order: z, r, h. With as many features as units, r has no block of the kernel: x itself is
added.
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
    w_z, *w_r, w_h = np.split(weights["kernel"], weights["kernel"].shape[1] // units, axis=1)
    u_z, u_r, u_h = np.split(weights["recurrent_kernel"], 3, axis=1)
    b_z, b_r, b_h = np.split(weights["bias"], 3) if "bias" in weights else (0.0, 0.0, 0.0)

    z = recurrent_activation(x @ w_z + h_prev @ u_z + b_z)
    read = x @ w_r[0] if w_r else x
    r = recurrent_activation(read + h_prev @ u_r + b_r)
    candidate = activation((r * h_prev) @ u_h + x @ w_h + b_h)
    h = candidate * z + h_prev * (1 - z)
    return h, [h]
