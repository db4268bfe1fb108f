"""GRU with layer normalization (Ba, Kiros and Hinton, 2016).

Equations 26 to 28 of the paper's supplement, with z for the paper's 1 - z and rho for its r.
Column order: z, rho, h.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles.activations import sigmoid
from tests.oracles.blocks import Weights, blocks

VARIANTS = ({}, {"use_bias": False}, {"epsilon": 0.1})
STEADY = {"epsilon": 0.1}


def step(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: Weights,
    *,
    activation: Callable[[np.ndarray], np.ndarray] = np.tanh,
    recurrent_activation: Callable[[np.ndarray], np.ndarray] = sigmoid,
    epsilon: float = 1e-3,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step: x (batch, features), states `[h]`."""
    (h_prev,) = states
    (w_z, w_rho, w_h), (u_z, u_rho, u_h), (b_z, b_rho, b_h) = blocks(weights, 3)
    gain_x = np.split(weights["kernel_gamma"], 3)
    gain_h = np.split(weights["recurrent_gamma"], 3)

    x_z, x_rho = _normalize([x @ w_z, x @ w_rho], epsilon)  # both gates together
    h_z, h_rho = _normalize([h_prev @ u_z, h_prev @ u_rho], epsilon)
    (x_h,) = _normalize([x @ w_h], epsilon)
    (h_h,) = _normalize([h_prev @ u_h], epsilon)

    z = recurrent_activation(gain_x[0] * x_z + gain_h[0] * h_z + b_z)
    rho = recurrent_activation(gain_x[1] * x_rho + gain_h[1] * h_rho + b_rho)
    recurrent = gain_h[2] * h_h + weights["recurrent_beta"]
    candidate = activation(gain_x[2] * x_h + b_h + rho * recurrent)
    h = z * h_prev + (1 - z) * candidate
    return h, [h]


def _normalize(parts: Sequence[np.ndarray], epsilon: float) -> list[np.ndarray]:
    """The parts, by the mean and the variance of all of their columns together."""
    # Not `np.var`: that of complex numbers is not analytic.
    columns = sum(part.shape[1] for part in parts)
    mean = sum(part.sum(axis=1, keepdims=True) for part in parts) / columns
    variance = sum(((part - mean) ** 2).sum(axis=1, keepdims=True) for part in parts) / columns
    return [(part - mean) / np.sqrt(variance + epsilon) for part in parts]
