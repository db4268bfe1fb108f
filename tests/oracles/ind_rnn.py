"""The independently recurrent network (Li, Li, Cook, Zhu and Gao, 2018).

Equations (I1) to (I7) of `docs/cells.md`.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles import loop
from tests.oracles.activations import relu


def step(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: loop.Weights,
    *,
    activation: Callable[[np.ndarray], np.ndarray] = relu,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step: x (batch, features), states `[h]`."""
    (h_prev,) = states
    a = x @ weights["kernel"]  # (C1)
    if "bias" in weights:
        a = a + weights["bias"]
    r = h_prev * weights["recurrent_kernel"]  # (I1)
    p = a + r  # (I2)
    h = activation(p)  # (I3)
    return h, [h]


def step_backward(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: loop.Weights,
    d_output: np.ndarray,
    d_new_states: Sequence[np.ndarray],
) -> tuple[np.ndarray, list[np.ndarray], loop.Weights]:
    """The adjoint of one step, with relu as the activation."""
    (h_prev,) = states
    h, _ = step(x, states, weights)
    dh = d_output + d_new_states[0]  # (B2)

    dp = np.where(h > 0, dh, 0.0)  # (I4)
    da, dr = dp, dp  # (I5)
    dh_prev = dr * weights["recurrent_kernel"]  # (I6)
    du = (dr * h_prev).sum(axis=0)  # (I7)

    dx = da @ weights["kernel"].T  # (B7)
    d_weights = {"kernel": x.T @ da, "recurrent_kernel": du}  # (B4), (I7)
    if "bias" in weights:
        d_weights["bias"] = da.sum(axis=0)  # (B6)
    return dx, [dh_prev], d_weights


def backward(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: loop.Weights,
    d_outputs: np.ndarray,
    d_final_states: Sequence[np.ndarray],
    **loop_options,
) -> tuple[np.ndarray, list[np.ndarray], loop.Weights]:
    """Backpropagation through time; see `loop.run_backward` for the arguments."""
    return loop.run_backward(
        step, step_backward, x, states, weights, d_outputs, d_final_states, **loop_options
    )
