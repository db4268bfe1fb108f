"""The simplified state space layer (Smith et al., 2023), in complex numbers written out in pairs.

Complex steps differentiate this oracle, so that its own numbers may not be complex.
"""

from collections.abc import Sequence

import numpy as np

from tests.oracles.blocks import Weights

VARIANTS = (
    {},
    {"use_bias": True, "bias_initializer": "random_normal"},
    {"min_step": 0.5, "max_step": 1.0},
)


def product(v: tuple, w: tuple) -> tuple[np.ndarray, np.ndarray]:
    """The product of two complex numbers."""
    return v[0] * w[0] - v[1] * w[1], v[0] * w[1] + v[1] * w[0]


def step(
    x: np.ndarray, states: Sequence[np.ndarray], weights: Weights
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step: x (batch, features), states: the real and the imaginary part of h."""
    b_real, b_imaginary, d = np.split(weights["kernel"], 3, axis=1)
    biases = np.split(weights["bias"], 3) if "bias" in weights else (0, 0, 0)
    c_real, c_imaginary = np.split(weights["output_kernel"], 2)
    delta = np.exp(weights["tau"])
    eigenvalue = -np.exp(weights["nu"]), weights["omega"]
    size = np.exp(eigenvalue[0] * delta)
    discrete = size * np.cos(eigenvalue[1] * delta), size * np.sin(eigenvalue[1] * delta)
    squared = eigenvalue[0] ** 2 + eigenvalue[1] ** 2
    inverse = eigenvalue[0] / squared, -eigenvalue[1] / squared
    gain = product(inverse, (discrete[0] - 1, discrete[1]))  # (6)
    projected = x @ b_real + biases[0], x @ b_imaginary + biases[1]
    decayed, added = product(discrete, states), product(gain, projected)
    new = [decayed[0] + added[0], decayed[1] + added[1]]
    y = 2 * (new[0] @ c_real - new[1] @ c_imaginary) + x @ d + biases[2]
    return y, new
