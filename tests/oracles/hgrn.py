"""The hierarchically gated recurrent network (Qin et al., 2023). Column order: u, v, f, a, b.

Complex steps differentiate this oracle: its complex numbers are written out in pairs.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles.activations import sigmoid
from tests.oracles.blocks import Weights

VARIANTS = ({}, {"use_bias": False}, {"lower_bound": 0.5}, {"activation": "tanh"})
STEADY = {"epsilon": 0.1}


def silu(a: np.ndarray) -> np.ndarray:
    """The activation that the paper gives the candidate."""
    return a * sigmoid(a)


def step(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: Weights,
    *,
    activation: Callable[[np.ndarray], np.ndarray] = silu,
    recurrent_activation: Callable[[np.ndarray], np.ndarray] = sigmoid,
    epsilon: float = 1e-5,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step: x (batch, features), states: the real and the imaginary part of h."""
    re, im = states
    p = x @ weights["kernel"] + weights.get("bias", 0.0)
    p_u, p_v, p_f, p_a, p_b = np.split(p, 5, axis=1)
    gamma = sigmoid(weights["bound_logit"]) if "bound_logit" in weights else 0.0
    rate = gamma + (1 - gamma) * recurrent_activation(p_f)
    cos, sin = np.cos(weights["theta"]), np.sin(weights["theta"])
    new_re = rate * (cos * re - sin * im) + (1 - rate) * activation(p_u)
    new_im = rate * (sin * re + cos * im) + (1 - rate) * activation(p_v)
    gates = recurrent_activation(np.concatenate([p_a, p_b], axis=1))
    gated = gates * np.concatenate([new_re, new_im], axis=1)
    centred = gated - gated.mean(axis=1, keepdims=True)
    variance = (centred * centred).mean(axis=1, keepdims=True)
    n = centred / np.sqrt(variance + epsilon)
    n = weights["normalization_gamma"] * n + weights["normalization_beta"]
    return n @ weights["output_kernel"] + weights.get("output_bias", 0.0), [new_re, new_im]
