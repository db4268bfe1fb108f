"""LSTM with peephole connections (Gers and Schmidhuber, 2000).

Columns in the order i, f, c, o; rows of the peephole kernel in the order i, f, o.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles.activations import sigmoid
from tests.oracles.blocks import Weights, blocks

VARIANTS = (
    {},
    {"use_bias": False},
    {"unit_forget_bias": False, "recurrent_activation": "hard_sigmoid"},
)


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
    v_i, v_f, v_o = weights["peephole_kernel"]

    i = recurrent_activation(x @ w_i + b_i + h_prev @ u_i + v_i * c_prev)  # input gate
    f = recurrent_activation(x @ w_f + b_f + h_prev @ u_f + v_f * c_prev)  # forget gate
    candidate = activation(x @ w_c + b_c + h_prev @ u_c)
    c = f * c_prev + i * candidate
    o = recurrent_activation(x @ w_o + b_o + h_prev @ u_o + v_o * c)  # output gate
    h = o * activation(c)
    return h, [h, c]
