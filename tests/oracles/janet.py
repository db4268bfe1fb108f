"""JANET (van der Westhuizen and Lasenby, 2018).

Column order: f, h; the paper calls the state c.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles.activations import sigmoid
from tests.oracles.blocks import Weights, blocks

VARIANTS = ({}, {"use_bias": False}, {"beta": 0.0}, {"recurrent_activation": "hard_sigmoid"})


def step(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: Weights,
    *,
    activation: Callable[[np.ndarray], np.ndarray] = np.tanh,
    recurrent_activation: Callable[[np.ndarray], np.ndarray] = sigmoid,
    beta: float = 1.0,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step: x (batch, features), states `[h]`."""
    (c_prev,) = states
    (w_f, w_c), (u_f, u_c), (b_f, b_c) = blocks(weights, 2)

    s = c_prev @ u_f + x @ w_f + b_f
    forget = recurrent_activation(s)
    read = 1 - recurrent_activation(s - beta)
    candidate = activation(c_prev @ u_c + x @ w_c + b_c)
    c = forget * c_prev + read * candidate
    return c, [c]
