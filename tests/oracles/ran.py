"""The recurrent additive network (Lee, Levy and Zettlemoyer, 2017).

Column order: i, f, c; the content c has neither a recurrent kernel nor a bias.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles.activations import sigmoid
from tests.oracles.blocks import Weights

VARIANTS = ({}, {"use_bias": False}, {"activation": None})


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
    w_i, w_f, w_c = np.split(weights["kernel"], 3, axis=1)
    u_i, u_f = np.split(weights["recurrent_kernel"], 2, axis=1)
    b_i, b_f = np.split(weights["bias"], 2) if "bias" in weights else (0.0, 0.0)

    content = x @ w_c
    i = recurrent_activation(h_prev @ u_i + x @ w_i + b_i)
    f = recurrent_activation(h_prev @ u_f + x @ w_f + b_f)
    c = i * content + f * c_prev
    h = activation(c)
    return h, [h, c]
