"""The template network (Author and Author, 2026).

Column order: g, h.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles.activations import sigmoid
from tests.oracles.blocks import Weights, blocks

VARIANTS = ({}, {"use_bias": False}, {"activation": "relu"}, {"leak": 0.5})


def step(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: Weights,
    *,
    activation: Callable[[np.ndarray], np.ndarray] = np.tanh,
    recurrent_activation: Callable[[np.ndarray], np.ndarray] = sigmoid,
    leak: float = 0.1,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step: x (batch, features), states `[h]`."""
    (h_prev,) = states
    (w_g, w_h), (u_g, u_h), (b_g, b_h) = blocks(weights, 2)

    g = recurrent_activation(x @ w_g + b_g + h_prev @ u_g)  # (1)
    candidate = activation(x @ w_h + b_h + h_prev @ u_h)  # (2)
    h = leak * h_prev + (1 - leak) * g * candidate  # (3)
    return h, [h]
