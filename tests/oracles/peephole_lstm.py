"""LSTM with peephole connections (Gers and Schmidhuber, 2000).

Equations (P1) to (P19) of `docs/cells.md`. Columns in the order i, f, c, o; rows of the peephole
kernel in the order i, f, o.
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
    """One step: x (batch, features), states `[h, c]`."""
    h_prev, c_prev = states
    w_i, w_f, w_c, w_o = np.split(weights["kernel"], 4, axis=1)
    u_i, u_f, u_c, u_o = np.split(weights["recurrent_kernel"], 4, axis=1)
    v_i, v_f, v_o = weights["peephole_kernel"]
    b_i, b_f, b_c, b_o = _biases(weights)

    i = recurrent_activation(x @ w_i + b_i + h_prev @ u_i + v_i * c_prev)  # (P1) input gate
    f = recurrent_activation(x @ w_f + b_f + h_prev @ u_f + v_f * c_prev)  # (P2) forget gate
    candidate = activation(x @ w_c + b_c + h_prev @ u_c)  # (P3)
    c = f * c_prev + i * candidate  # (P4)
    o = recurrent_activation(x @ w_o + b_o + h_prev @ u_o + v_o * c)  # (P5) output gate
    h = o * activation(c)  # (P6)
    return h, [h, c]


def step_backward(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: loop.Weights,
    d_output: np.ndarray,
    d_new_states: Sequence[np.ndarray],
) -> tuple[np.ndarray, list[np.ndarray], loop.Weights]:
    """The adjoint of one step, with tanh and sigmoid as the activations."""
    h_prev, c_prev = states
    w_i, w_f, w_c, w_o = np.split(weights["kernel"], 4, axis=1)
    u_i, u_f, u_c, u_o = np.split(weights["recurrent_kernel"], 4, axis=1)
    v_i, v_f, v_o = weights["peephole_kernel"]
    b_i, b_f, b_c, b_o = _biases(weights)

    # The gates again, (P1) to (P5): an oracle keeps nothing from the forward pass.
    i = sigmoid(x @ w_i + b_i + h_prev @ u_i + v_i * c_prev)
    f = sigmoid(x @ w_f + b_f + h_prev @ u_f + v_f * c_prev)
    candidate = np.tanh(x @ w_c + b_c + h_prev @ u_c)
    c = f * c_prev + i * candidate
    o = sigmoid(x @ w_o + b_o + h_prev @ u_o + v_o * c)

    dh = d_output + d_new_states[0]  # (B2)
    do = dh * np.tanh(c)  # (P7)
    dp_o = do * o * (1 - o)  # (P8)
    dc = d_new_states[1] + dh * o * (1 - np.tanh(c) ** 2) + dp_o * v_o  # (P9)
    di = dc * candidate  # (P10)
    df = dc * c_prev  # (P11)
    d_candidate = dc * i  # (P12)
    dp_i = di * i * (1 - i)  # (P13)
    dp_f = df * f * (1 - f)  # (P14)
    dp_c = d_candidate * (1 - candidate**2)  # (P15)

    # (P16): each dp is at once the da and the dr of its gate.
    dh_prev = dp_i @ u_i.T + dp_f @ u_f.T + dp_c @ u_c.T + dp_o @ u_o.T  # (P17)
    dc_prev = dc * f + dp_i * v_i + dp_f * v_f  # (P18)
    dv = [(dp_i * c_prev).sum(axis=0), (dp_f * c_prev).sum(axis=0), (dp_o * c).sum(axis=0)]  # (P19)

    dx = dp_i @ w_i.T + dp_f @ w_f.T + dp_c @ w_c.T + dp_o @ w_o.T  # (B7)
    d_weights = {
        "kernel": np.hstack([x.T @ dp_i, x.T @ dp_f, x.T @ dp_c, x.T @ dp_o]),  # (B4)
        "recurrent_kernel": np.hstack(
            [h_prev.T @ dp_i, h_prev.T @ dp_f, h_prev.T @ dp_c, h_prev.T @ dp_o]  # (B5)
        ),
        "peephole_kernel": np.stack(dv),
    }
    if "bias" in weights:
        d_weights["bias"] = np.hstack([dp.sum(axis=0) for dp in (dp_i, dp_f, dp_c, dp_o)])  # (B6)
    return dx, [dh_prev, dc_prev], d_weights


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
    return np.split(weights["bias"], 4) if "bias" in weights else [0.0] * 4
