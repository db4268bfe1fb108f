"""GRU (Cho et al., 2014), the reset gate after or before the recurrent product.

Equations (G1) to (G19) of `docs/bptt.md`. The weights keep the column order of Keras: z, r, h. The
reset gate is called `rho`, as in the document, where r is the recurrent part.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles import COMMON
from tests.oracles.activations import sigmoid
from tests.oracles.blocks import Weights

VARIANTS = (
    *COMMON,
    {"reset_after": False},
    {"reset_after": False, "use_bias": False},
    {"recurrent_activation": "hard_sigmoid"},
)


def step(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: Weights,
    *,
    activation: Callable[[np.ndarray], np.ndarray] = np.tanh,
    recurrent_activation: Callable[[np.ndarray], np.ndarray] = sigmoid,
    reset_after: bool = True,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step: x (batch, features), states `[h]`.

    The bias is (2, 3 * units) with `reset_after`, the input's row first, and (3 * units,) without.
    """
    (h_prev,) = states
    w_z, w_rho, w_h = np.split(weights["kernel"], 3, axis=1)
    u_z, u_rho, u_h = np.split(weights["recurrent_kernel"], 3, axis=1)
    (b_z, b_rho, b_h), (rb_z, rb_rho, rb_h) = _biases(weights, reset_after)

    z = recurrent_activation(x @ w_z + b_z + h_prev @ u_z + rb_z)  # (G1) update gate
    rho = recurrent_activation(x @ w_rho + b_rho + h_prev @ u_rho + rb_rho)  # (G2) reset gate
    if reset_after:
        candidate = activation(x @ w_h + b_h + rho * (h_prev @ u_h + rb_h))  # (G3)
    else:
        candidate = activation(x @ w_h + b_h + (rho * h_prev) @ u_h)  # (G4)
    h = z * h_prev + (1 - z) * candidate  # (G5)
    return h, [h]


def step_backward(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: Weights,
    d_output: np.ndarray,
    d_new_states: Sequence[np.ndarray],
    *,
    reset_after: bool = True,
) -> tuple[np.ndarray, list[np.ndarray], Weights]:
    """The adjoint of one step, with tanh and sigmoid as the activations."""
    (h_prev,) = states
    w_z, w_rho, w_h = np.split(weights["kernel"], 3, axis=1)
    u_z, u_rho, u_h = np.split(weights["recurrent_kernel"], 3, axis=1)
    (b_z, b_rho, b_h), (rb_z, rb_rho, rb_h) = _biases(weights, reset_after)

    # The gates again, (G1) to (G4): an oracle keeps nothing from the forward pass.
    z = sigmoid(x @ w_z + b_z + h_prev @ u_z + rb_z)
    rho = sigmoid(x @ w_rho + b_rho + h_prev @ u_rho + rb_rho)
    if reset_after:
        r_h = h_prev @ u_h + rb_h
        candidate = np.tanh(x @ w_h + b_h + rho * r_h)
    else:
        q = rho * h_prev
        candidate = np.tanh(x @ w_h + b_h + q @ u_h)

    dh = d_output + d_new_states[0]  # (B2)
    dz = dh * (h_prev - candidate)  # (G6)
    d_candidate = dh * (1 - z)  # (G7)
    dp_z = dz * z * (1 - z)  # (G8)
    dp_h = d_candidate * (1 - candidate**2)  # (G9)

    if reset_after:
        d_rho = dp_h * r_h  # (G10)
        dr_h = dp_h * rho  # (G11)
        dp_rho = d_rho * rho * (1 - rho)  # (G12)
        # (G13): the gates' dr is their dp; the candidate's is dr_h.
        dh_prev = dh * z + dp_z @ u_z.T + dp_rho @ u_rho.T + dr_h @ u_h.T  # (G14)
        du_h = h_prev.T @ dr_h  # (B5)
    else:
        dq = dp_h @ u_h.T  # (G15)
        d_rho = dq * h_prev  # (G16)
        dp_rho = d_rho * rho * (1 - rho)  # (G17)
        dh_prev = dh * z + dp_z @ u_z.T + dp_rho @ u_rho.T + dq * rho  # (G18)
        du_h = q.T @ dp_h  # (G19)

    dx = dp_z @ w_z.T + dp_rho @ w_rho.T + dp_h @ w_h.T  # (B7)
    d_weights = {
        "kernel": np.hstack([x.T @ dp_z, x.T @ dp_rho, x.T @ dp_h]),  # (B4)
        "recurrent_kernel": np.hstack([h_prev.T @ dp_z, h_prev.T @ dp_rho, du_h]),  # (B5)
    }
    if "bias" in weights:
        input_bias = np.hstack([dp.sum(axis=0) for dp in (dp_z, dp_rho, dp_h)])  # (B6)
        if reset_after:
            recurrent_bias = np.hstack([dr.sum(axis=0) for dr in (dp_z, dp_rho, dr_h)])  # (B6)
            d_weights["bias"] = np.stack([input_bias, recurrent_bias])
        else:
            d_weights["bias"] = input_bias
    return dx, [dh_prev], d_weights


def _biases(weights: Weights, reset_after: bool) -> tuple[list, list]:
    """The z, r and h parts of the input bias and of the recurrent bias; zeros where none is."""
    none = [0.0] * 3
    if "bias" not in weights:
        return none, none
    if not reset_after:
        return np.split(weights["bias"], 3), none
    input_bias, recurrent_bias = weights["bias"]
    return np.split(input_bias, 3), np.split(recurrent_bias, 3)
