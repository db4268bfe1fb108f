"""The third mutated unit, MUT3 (Jozefowicz, Zaremba and Sutskever, 2015).

Column order: z, r, h.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles.activations import sigmoid
from tests.oracles.blocks import Weights, blocks

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
    (w_z, w_r, w_h), (u_z, u_r, u_h), (b_z, b_r, b_h) = blocks(weights, 3)

    z = recurrent_activation(x @ w_z + np.tanh(h_prev) @ u_z + b_z)
    r = recurrent_activation(x @ w_r + h_prev @ u_r + b_r)
    candidate = activation((r * h_prev) @ u_h + x @ w_h + b_h)
    h = candidate * z + h_prev * (1 - z)
    return h, [h]
