"""LSTM with a projection (Sak, Senior and Beaufays, 2014), without peepholes.

Column order: i, f, c, o. The paper's r, the recurrent state, is h.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles.activations import sigmoid
from tests.oracles.blocks import Weights, blocks

VARIANTS = ({}, {"use_bias": False}, {"projection_units": 1})


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
    (w_i, w_f, w_c, w_o), (u_i, u_f, u_c, u_o), (b_i, b_f, b_c, b_o) = blocks(weights, 4)

    i = recurrent_activation(x @ w_i + h_prev @ u_i + b_i)
    f = recurrent_activation(x @ w_f + h_prev @ u_f + b_f)
    o = recurrent_activation(x @ w_o + h_prev @ u_o + b_o)
    c = f * c_prev + i * activation(x @ w_c + h_prev @ u_c + b_c)
    m = o * activation(c)
    h = m @ weights["projection_kernel"]
    return h, [h, c]
