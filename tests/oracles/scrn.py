"""The structurally constrained recurrent network (Mikolov et al., 2015).

In the paper's letters, with its matrices as columns of the kernels: h are the fast units, s the
context units; the state is both.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles.activations import sigmoid
from tests.oracles.blocks import Weights

VARIANTS = (
    {},
    {"use_bias": False},
    {"context_units": 0},
    {"alpha": 0.6, "activation": "tanh"},
)


def step(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: Weights,
    *,
    activation: Callable[[np.ndarray], np.ndarray] = sigmoid,
    context_units: int | None = None,
    alpha: float = 0.95,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step: x (batch, features), states `[h]`."""
    width = states[0].shape[1]
    m = width - (width // 2 if context_units is None else context_units)
    h_prev, s_prev = states[0][:, :m], states[0][:, m:]
    a, b = weights["kernel"][:, :m], weights["kernel"][:, m:]
    r, p = weights["recurrent_kernel"][:m], weights["recurrent_kernel"][m:]
    bias = weights.get("bias", np.zeros(width))

    s = (1 - alpha) * (x @ b + bias[m:]) + alpha * s_prev
    h = activation(s @ p + x @ a + h_prev @ r + bias[:m])
    both = np.concatenate([h, s], axis=1)
    return both, [both]
