"""LSTM (Hochreiter and Schmidhuber, 1997) with the forget gate of Gers et al. (2000).

Equations (L1) to (L18) of `docs/bptt.md`. The weights keep the column order of Keras: i, f, c, o.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles import COMMON
from tests.oracles.activations import sigmoid
from tests.oracles.blocks import Weights, blocks

VARIANTS = (*COMMON, {"unit_forget_bias": False, "recurrent_activation": "hard_sigmoid"})


def step(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: Weights,
    *,
    activation: Callable[[np.ndarray], np.ndarray] = np.tanh,
    recurrent_activation: Callable[[np.ndarray], np.ndarray] = sigmoid,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step: x (batch, features), states `[h, c]`."""
    h_prev, c_prev = states
    (w_i, w_f, w_c, w_o), (u_i, u_f, u_c, u_o), (b_i, b_f, b_c, b_o) = blocks(weights, 4)

    i = recurrent_activation(x @ w_i + b_i + h_prev @ u_i)  # (L1) input gate
    f = recurrent_activation(x @ w_f + b_f + h_prev @ u_f)  # (L2) forget gate
    candidate = activation(x @ w_c + b_c + h_prev @ u_c)  # (L3)
    o = recurrent_activation(x @ w_o + b_o + h_prev @ u_o)  # (L4) output gate
    c = f * c_prev + i * candidate  # (L5)
    h = o * activation(c)  # (L6)
    return h, [h, c]


def step_backward(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: Weights,
    d_output: np.ndarray,
    d_new_states: Sequence[np.ndarray],
) -> tuple[np.ndarray, list[np.ndarray], Weights]:
    """The adjoint of one step, with tanh and sigmoid as the activations."""
    h_prev, c_prev = states
    (w_i, w_f, w_c, w_o), (u_i, u_f, u_c, u_o), (b_i, b_f, b_c, b_o) = blocks(weights, 4)

    # The gates again, (L1) to (L5): an oracle keeps nothing from the forward pass.
    i = sigmoid(x @ w_i + b_i + h_prev @ u_i)
    f = sigmoid(x @ w_f + b_f + h_prev @ u_f)
    candidate = np.tanh(x @ w_c + b_c + h_prev @ u_c)
    o = sigmoid(x @ w_o + b_o + h_prev @ u_o)
    c = f * c_prev + i * candidate

    dh = d_output + d_new_states[0]  # (B2)
    do = dh * np.tanh(c)  # (L7)
    dc = d_new_states[1] + dh * o * (1 - np.tanh(c) ** 2)  # (L8)
    di = dc * candidate  # (L9)
    df = dc * c_prev  # (L10)
    d_candidate = dc * i  # (L11)

    dp_i = di * i * (1 - i)  # (L12)
    dp_f = df * f * (1 - f)  # (L13)
    dp_c = d_candidate * (1 - candidate**2)  # (L14)
    dp_o = do * o * (1 - o)  # (L15)

    # (L16): each dp is at once the da and the dr of its gate.
    dh_prev = dp_i @ u_i.T + dp_f @ u_f.T + dp_c @ u_c.T + dp_o @ u_o.T  # (L17)
    dc_prev = dc * f  # (L18)

    dx = dp_i @ w_i.T + dp_f @ w_f.T + dp_c @ w_c.T + dp_o @ w_o.T  # (B7)
    d_weights = {
        "kernel": np.hstack([x.T @ dp_i, x.T @ dp_f, x.T @ dp_c, x.T @ dp_o]),  # (B4)
        "recurrent_kernel": np.hstack(
            [h_prev.T @ dp_i, h_prev.T @ dp_f, h_prev.T @ dp_c, h_prev.T @ dp_o]  # (B5)
        ),
    }
    if "bias" in weights:
        d_weights["bias"] = np.hstack([dp.sum(axis=0) for dp in (dp_i, dp_f, dp_c, dp_o)])  # (B6)
    return dx, [dh_prev, dc_prev], d_weights
