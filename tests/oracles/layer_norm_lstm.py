"""LSTM with layer normalization (Ba, Kiros and Hinton, 2016).

Equations 20 to 22 of the paper's supplement. Column order: i, f, c, o.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles.activations import sigmoid
from tests.oracles.blocks import Weights

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
    """One step: x (batch, features), states `[h, c]`."""
    h_prev, c_prev = states
    normal_x = _normalize(x @ weights["kernel"], epsilon)
    normal_h = _normalize(h_prev @ weights["recurrent_kernel"], epsilon)
    a = weights["kernel_gamma"] * normal_x + weights.get("bias", 0.0)
    r = weights["recurrent_gamma"] * normal_h
    p_i, p_f, p_c, p_o = np.split(a + r, 4, axis=1)
    i = recurrent_activation(p_i)  # input gate
    f = recurrent_activation(p_f)  # forget gate
    candidate = activation(p_c)
    o = recurrent_activation(p_o)  # output gate
    c = f * c_prev + i * candidate
    n = weights["state_gamma"] * _normalize(c, epsilon) + weights["state_beta"]
    h = o * activation(n)
    return h, [h, c]


def _normalize(v: np.ndarray, epsilon: float) -> np.ndarray:
    # Not `v.var`: that of complex numbers is not analytic.
    centred = v - v.mean(axis=1, keepdims=True)
    variance = (centred**2).mean(axis=1, keepdims=True)
    return centred / np.sqrt(variance + epsilon)
