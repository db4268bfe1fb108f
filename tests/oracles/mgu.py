"""The minimal gated unit (Zhou, Wu, Zhang and Zhou, 2016).

Column order: f, h.
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
    (w_f, w_h), (u_f, u_h), (b_f, b_h) = blocks(weights, 2)

    f = recurrent_activation(x @ w_f + b_f + h_prev @ u_f)  # the gate
    candidate = activation(x @ w_h + b_h + (f * h_prev) @ u_h)
    h = (1 - f) * h_prev + f * candidate
    return h, [h]
