"""SimpleRNN (Elman, 1990): equations (S1) to (S5) of `docs/bptt.md`."""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles import COMMON
from tests.oracles.blocks import Weights

VARIANTS = COMMON


def step(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: Weights,
    *,
    activation: Callable[[np.ndarray], np.ndarray] = np.tanh,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step: x (batch, features), states `[h]`."""
    (h_prev,) = states
    a = x @ weights["kernel"]  # (C1)
    if "bias" in weights:
        a = a + weights["bias"]
    r = h_prev @ weights["recurrent_kernel"]  # (C2)
    p = a + r  # (S1)
    h = activation(p)  # (S2)
    return h, [h]


def step_backward(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: Weights,
    d_output: np.ndarray,
    d_new_states: Sequence[np.ndarray],
) -> tuple[np.ndarray, list[np.ndarray], Weights]:
    """The adjoint of one step, with tanh as the activation."""
    (h_prev,) = states
    h, _ = step(x, states, weights)
    dh = d_output + d_new_states[0]  # (B2)

    dp = dh * (1 - h**2)  # (S3)
    da, dr = dp, dp  # (S4)
    dh_prev = dr @ weights["recurrent_kernel"].T  # (S5)

    dx = da @ weights["kernel"].T  # (B7)
    d_weights = {"kernel": x.T @ da, "recurrent_kernel": h_prev.T @ dr}  # (B4), (B5)
    if "bias" in weights:
        d_weights["bias"] = da.sum(axis=0)  # (B6)
    return dx, [dh_prev], d_weights
