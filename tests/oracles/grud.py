"""GRU-D (Che, Purushotham, Cho, Sontag and Liu, 2018), equations 2 and 10 to 16.

Column order: z, r (called rho), h. The state x is the last observation minus the mean.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles.activations import relu, sigmoid
from tests.oracles.blocks import Weights, blocks

VARIANTS = ({}, {"use_bias": False})


def step(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: Weights,
    *,
    activation: Callable[[np.ndarray], np.ndarray] = np.tanh,
    recurrent_activation: Callable[[np.ndarray], np.ndarray] = sigmoid,
    time_column: bool = False,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step: x (batch, features), NaN where a value is missing, states `[h, x, delta]`."""
    h_prev, from_mean, delta_prev = states
    dt = 1.0
    if time_column:
        x, dt = x[:, :-1], x[:, -1:]
    (w_z, w_r, w_h), (u_z, u_r, u_h), (b_z, b_r, b_h) = blocks(weights, 3)
    v_z, v_r, v_h = np.split(weights["mask_kernel"], 3, axis=1)
    mean, missing = weights["mean"], np.isnan(x)
    m = 1.0 - missing

    delta = dt + delta_prev  # (2)
    gamma_x = np.exp(-relu(weights["input_decay_kernel"] * delta + weights["input_decay_bias"]))
    gamma_h = np.exp(-relu(delta @ weights["decay_kernel"] + weights["decay_bias"]))  # (10)
    last = from_mean + mean
    x = np.where(missing, gamma_x * last + (1 - gamma_x) * mean, x)  # (11)
    h_prev = gamma_h * h_prev  # (12)
    z = recurrent_activation(x @ w_z + h_prev @ u_z + m @ v_z + b_z)  # (14)
    r = recurrent_activation(x @ w_r + h_prev @ u_r + m @ v_r + b_r)  # (13)
    candidate = activation(x @ w_h + (r * h_prev) @ u_h + m @ v_h + b_h)  # (15)
    h = (1 - z) * h_prev + z * candidate  # (16)
    return h, [h, np.where(missing, last, x) - mean, np.where(missing, delta, 0.0)]
