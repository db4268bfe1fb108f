"""The update gate recurrent network (Collins, Sohl-Dickstein and Sussillo, 2017).

Equations (U1) to (U9) of `docs/cells.md`. Column order: g, h.
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
    w_g, w_h = np.split(weights["kernel"], 2, axis=1)
    u_g, u_h = np.split(weights["recurrent_kernel"], 2, axis=1)
    b_g, b_h = _biases(weights)

    g = recurrent_activation(x @ w_g + b_g + h_prev @ u_g)  # (U1) update gate
    candidate = activation(x @ w_h + b_h + h_prev @ u_h)  # (U2)
    h = g * h_prev + (1 - g) * candidate  # (U3)
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
    w_g, w_h = np.split(weights["kernel"], 2, axis=1)
    u_g, u_h = np.split(weights["recurrent_kernel"], 2, axis=1)
    b_g, b_h = _biases(weights)

    # The gate and the candidate again, (U1) and (U2): an oracle keeps nothing.
    g = sigmoid(x @ w_g + b_g + h_prev @ u_g)
    candidate = np.tanh(x @ w_h + b_h + h_prev @ u_h)

    dh = d_output + d_new_states[0]  # (B2)
    dg = dh * (h_prev - candidate)  # (U4)
    d_candidate = dh * (1 - g)  # (U5)
    dp_g = dg * g * (1 - g)  # (U6)
    dp_h = d_candidate * (1 - candidate**2)  # (U7)
    # (U8): each dp is at once the da and the dr of its block.
    dh_prev = dh * g + dp_g @ u_g.T + dp_h @ u_h.T  # (U9)

    dx = dp_g @ w_g.T + dp_h @ w_h.T  # (B7)
    d_weights = {
        "kernel": np.hstack([x.T @ dp_g, x.T @ dp_h]),  # (B4)
        "recurrent_kernel": np.hstack([h_prev.T @ dp_g, h_prev.T @ dp_h]),  # (B5)
    }
    if "bias" in weights:
        d_weights["bias"] = np.hstack([dp_g.sum(axis=0), dp_h.sum(axis=0)])  # (B6)
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
