"""The recurrently neuromodulated bistable recurrent cell (Vecoven, Ernst and Drion, 2021).

Column order: a, c, h; only a and c have recurrent kernels and biases. The paper's 1 + tanh(p) is
written 2 sigmoid(2 p), since the cell has one argument for the activation of both gates.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles.activations import sigmoid
from tests.oracles.blocks import Weights

VARIANTS = ({}, {"use_bias": False}, {"activation": "relu"})


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
    u_a, u_c, u_h = np.split(weights["kernel"], 3, axis=1)
    w_a, w_c = np.split(weights["recurrent_kernel"], 2, axis=1)
    b_a, b_c = np.split(weights["bias"], 2) if "bias" in weights else (0.0, 0.0)

    a = 2 * recurrent_activation(2 * (x @ u_a + h_prev @ w_a + b_a))  # feedback, in (0, 2)
    c = recurrent_activation(x @ u_c + h_prev @ w_c + b_c)
    h = c * h_prev + (1 - c) * activation(x @ u_h + a * h_prev)
    return h, [h]
