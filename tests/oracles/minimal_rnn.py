"""MinimalRNN (Chen, 2017).

The bias is that of u, then that of z.
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
    b_u, b_z = np.split(weights["bias"], 2) if "bias" in weights else (0.0, 0.0)

    z = activation(x @ weights["kernel"] + b_z)  # the encoder
    u = recurrent_activation(
        h_prev @ weights["recurrent_kernel"] + z @ weights["gate_kernel"] + b_u
    )
    h = u * h_prev + (1 - u) * z
    return h, [h]
