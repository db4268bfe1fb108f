"""The linear recurrent unit (Orvieto et al., 2023), in complex numbers written out in pairs.

Complex steps differentiate this oracle, so that its own numbers may not be complex.
"""

from collections.abc import Sequence

import numpy as np

from tests.oracles.blocks import Weights

VARIANTS = (
    {},
    {"use_bias": True, "bias_initializer": "random_normal"},
    {"min_radius": 0.1, "max_radius": 0.9, "max_phase": 1.0},
)


def step(
    x: np.ndarray, states: Sequence[np.ndarray], weights: Weights
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step: x (batch, features), states: the real and the imaginary part of h."""
    u, v = states
    b_u, b_v, d = np.split(weights["kernel"], 3, axis=1)
    bias_u, bias_v, bias_d = np.split(weights["bias"], 3) if "bias" in weights else (0, 0, 0)
    c_u, c_v = np.split(weights["output_kernel"], 2)
    magnitude = np.exp(-np.exp(weights["nu"]))
    lambda_u = magnitude * np.cos(np.exp(weights["theta"]))
    lambda_v = magnitude * np.sin(np.exp(weights["theta"]))
    gain = np.exp(weights["gamma"])
    new_u = lambda_u * u - lambda_v * v + gain * (x @ b_u + bias_u)
    new_v = lambda_u * v + lambda_v * u + gain * (x @ b_v + bias_v)
    y = new_u @ c_u - new_v @ c_v + x @ d + bias_d
    return y, [new_u, new_v]
