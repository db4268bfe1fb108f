"""LSTM with coupled input and forget gates (Greff et al., 2017), without peepholes.

Column order: f, c, o.
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
    (w_f, w_c, w_o), (u_f, u_c, u_o), (b_f, b_c, b_o) = blocks(weights, 3)

    f = recurrent_activation(x @ w_f + h_prev @ u_f + b_f)  # forget gate
    i = 1 - f  # input gate
    block_input = activation(x @ w_c + h_prev @ u_c + b_c)
    o = recurrent_activation(x @ w_o + h_prev @ u_o + b_o)  # output gate
    c = i * block_input + f * c_prev
    h = o * activation(c)
    return h, [h, c]
