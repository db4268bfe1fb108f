"""Long expressive memory (Rusch, Mishra, Erichson and Mahoney, 2022).

Column order: the two lengths of steps, z, y.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles.activations import sigmoid
from tests.oracles.blocks import Weights, blocks

VARIANTS = ({}, {"use_bias": False}, {"dt": 0.3})


def step(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: Weights,
    *,
    activation: Callable[[np.ndarray], np.ndarray] = np.tanh,
    recurrent_activation: Callable[[np.ndarray], np.ndarray] = sigmoid,
    dt: float = 1.0,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step: x (batch, features), states `[y, z]`."""
    y_prev, z_prev = states
    (v_1, v_2, v_z, v_y), (w_1, w_2, w_z, w_y), (b_1, b_2, b_z, b_y) = blocks(weights, 4)

    dt_n = dt * recurrent_activation(y_prev @ w_1 + x @ v_1 + b_1)
    dt_bar = dt * recurrent_activation(y_prev @ w_2 + x @ v_2 + b_2)
    z = (1 - dt_n) * z_prev + dt_n * activation(y_prev @ w_z + x @ v_z + b_z)
    y = (1 - dt_bar) * y_prev + dt_bar * activation(z @ w_y + x @ v_y + b_y)
    return y, [y, z]
