"""The independently recurrent network (Li, Li, Cook, Zhu and Gao, 2018)."""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles.activations import relu
from tests.oracles.blocks import Weights

VARIANTS = ({}, {"use_bias": False}, {"activation": "tanh"})
STEADY = {"activation": "tanh"}  # a rounded relu may be on the other side of its kink


def step(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: Weights,
    *,
    activation: Callable[[np.ndarray], np.ndarray] = relu,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step: x (batch, features), states `[h]`."""
    (h_prev,) = states
    a = x @ weights["kernel"] + weights.get("bias", 0.0)
    r = h_prev * weights["recurrent_kernel"]  # each unit reads only itself
    h = activation(a + r)
    return h, [h]
