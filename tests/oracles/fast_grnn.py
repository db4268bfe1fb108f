"""The fast gated recurrent network (Kusupati et al., 2018), section 3.2 of the paper.

The biases are those of z, then of the candidate. The paper's zeta and nu, between 0 and 1, are
sigmoids of the weights.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles.activations import sigmoid
from tests.oracles.blocks import Weights

VARIANTS = (
    {},
    {"use_bias": False},
    {"kernel_rank": 2, "recurrent_rank": 1},
    {"recurrent_rank": 2, "activation": "relu"},
)


def step(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: Weights,
    *,
    activation: Callable[[np.ndarray], np.ndarray] = np.tanh,
    recurrent_activation: Callable[[np.ndarray], np.ndarray] = sigmoid,
    kernel_rank: int | None = None,
    recurrent_rank: int | None = None,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step: x (batch, features), states `[h]`."""
    (h_prev,) = states
    w, u = weights["kernel"], weights["recurrent_kernel"]
    if kernel_rank is not None:
        w = w @ weights["kernel_factor"]
    if recurrent_rank is not None:
        u = u @ weights["recurrent_factor"]
    b_z, b_h = np.split(weights["bias"], 2) if "bias" in weights else (0.0, 0.0)

    z = recurrent_activation(x @ w + h_prev @ u + b_z)
    candidate = activation(x @ w + h_prev @ u + b_h)
    zeta, nu = sigmoid(weights["zeta"]), sigmoid(weights["nu"])
    h = (zeta * (1 - z) + nu) * candidate + z * h_prev
    return h, [h]
