"""Multiplicative LSTM (Krause, Lu, Murray and Renals, 2016).

Column order: m, i, f, c, o.
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
    """One step: x (batch, features), states `[h, c]`."""
    h_prev, c_prev = states
    (w_m, w_i, w_f, w_c, w_o), (u_m, u_i, u_f, u_c, u_o), biases = blocks(weights, 5)
    b_m, b_i, b_f, b_c, b_o = biases

    m = (x @ w_m + b_m) * (h_prev @ u_m)
    i = recurrent_activation(x @ w_i + m @ u_i + b_i)
    f = recurrent_activation(x @ w_f + m @ u_f + b_f)
    candidate = activation(x @ w_c + m @ u_c + b_c)
    o = recurrent_activation(x @ w_o + m @ u_o + b_o)
    c = f * c_prev + i * candidate
    h = o * activation(c)
    return h, [h, c]
