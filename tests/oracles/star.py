"""The stackable recurrent cell (Turkoglu, D'Aronco, Wegner and Schindler, 2021).

Column order: k, z; only k has a recurrent kernel.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles.activations import sigmoid
from tests.oracles.blocks import Weights

VARIANTS = ({}, {"use_bias": False}, {"recurrent_activation": "hard_sigmoid"})


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
    w_k, w_z = np.split(weights["kernel"], 2, axis=1)
    b_k, b_z = np.split(weights["bias"], 2) if "bias" in weights else (0.0, 0.0)

    k = recurrent_activation(x @ w_k + h_prev @ weights["recurrent_kernel"] + b_k)
    z = activation(x @ w_z + b_z)
    h = activation((1 - k) * h_prev + k * z)
    return h, [h]
