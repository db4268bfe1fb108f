"""The fast recurrent network (Kusupati et al., 2018), section 3.1 of the paper.

The paper's alpha and beta, between 0 and 1, are sigmoids of the weights.
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
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step: x (batch, features), states `[h]`."""
    (h_prev,) = states
    bias = weights.get("bias", 0.0)
    candidate = activation(x @ weights["kernel"] + h_prev @ weights["recurrent_kernel"] + bias)
    h = sigmoid(weights["alpha"]) * candidate + sigmoid(weights["beta"]) * h_prev
    return h, [h]
