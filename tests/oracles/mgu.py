"""The minimal gated unit (Zhou, Wu, Zhang and Zhou, 2016).

Equations (Z1) to (Z11) of `docs/cells.md`. Column order: f, h.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles import loop
from tests.oracles.activations import sigmoid


def step(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: loop.Weights,
    *,
    activation: Callable[[np.ndarray], np.ndarray] = np.tanh,
    recurrent_activation: Callable[[np.ndarray], np.ndarray] = sigmoid,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step: x (batch, features), states `[h]`."""
    (h_prev,) = states
    w_f, w_h = np.split(weights["kernel"], 2, axis=1)
    u_f, u_h = np.split(weights["recurrent_kernel"], 2, axis=1)
    b_f, b_h = _biases(weights)

    f = recurrent_activation(x @ w_f + b_f + h_prev @ u_f)  # (Z1) the gate
    candidate = activation(x @ w_h + b_h + (f * h_prev) @ u_h)  # (Z2)
    h = (1 - f) * h_prev + f * candidate  # (Z3)
    return h, [h]


def step_backward(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: loop.Weights,
    d_output: np.ndarray,
    d_new_states: Sequence[np.ndarray],
) -> tuple[np.ndarray, list[np.ndarray], loop.Weights]:
    """The adjoint of one step, with tanh and sigmoid as the activations."""
    (h_prev,) = states
    w_f, w_h = np.split(weights["kernel"], 2, axis=1)
    u_f, u_h = np.split(weights["recurrent_kernel"], 2, axis=1)
    b_f, b_h = _biases(weights)

    # The gate and the candidate again, (Z1) and (Z2): an oracle keeps nothing.
    f = sigmoid(x @ w_f + b_f + h_prev @ u_f)
    q = f * h_prev
    candidate = np.tanh(x @ w_h + b_h + q @ u_h)

    dh = d_output + d_new_states[0]  # (B2)
    d_candidate = dh * f  # (Z4)
    dp_h = d_candidate * (1 - candidate**2)  # (Z5)
    dq = dp_h @ u_h.T  # (Z6)
    df = dh * (candidate - h_prev) + dq * h_prev  # (Z7)
    dp_f = df * f * (1 - f)  # (Z8)
    # (Z9): each dp is the da of its block.
    dh_prev = dh * (1 - f) + dq * f + dp_f @ u_f.T  # (Z10)

    dx = dp_f @ w_f.T + dp_h @ w_h.T  # (B7)
    d_weights = {
        "kernel": np.hstack([x.T @ dp_f, x.T @ dp_h]),  # (B4)
        "recurrent_kernel": np.hstack([h_prev.T @ dp_f, q.T @ dp_h]),  # (B5), (Z11)
    }
    if "bias" in weights:
        d_weights["bias"] = np.hstack([dp_f.sum(axis=0), dp_h.sum(axis=0)])  # (B6)
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


def _biases(weights: loop.Weights) -> list[np.ndarray] | list[float]:
    return np.split(weights["bias"], 2) if "bias" in weights else [0.0] * 2
