"""The light gated recurrent unit (Ravanelli, Brakel, Omologo and Bengio, 2018).

Without batch normalization. Column order: z, h.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles.activations import relu, sigmoid
from tests.oracles.blocks import Weights, blocks

VARIANTS = ({}, {"use_bias": False}, {"activation": "tanh"})
STEADY = {"activation": "tanh"}  # a rounded relu may be on the other side of its kink


def step(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: Weights,
    *,
    activation: Callable[[np.ndarray], np.ndarray] = relu,
    recurrent_activation: Callable[[np.ndarray], np.ndarray] = sigmoid,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step: x (batch, features), states `[h]`."""
    (h_prev,) = states
    (w_z, w_h), (u_z, u_h), (b_z, b_h) = blocks(weights, 2)

    z = recurrent_activation(x @ w_z + b_z + h_prev @ u_z)  # update gate
    candidate = activation(x @ w_h + b_h + h_prev @ u_h)
    h = z * h_prev + (1 - z) * candidate
    return h, [h]
