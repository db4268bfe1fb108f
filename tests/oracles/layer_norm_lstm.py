"""LSTM with layer normalization (Ba, Kiros and Hinton, 2016).

Equations (N1) to (N20) of `docs/cells.md`. Column order: i, f, c, o.
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
    epsilon: float = 1e-3,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step: x (batch, features), states `[h, c]`."""
    h_prev, c_prev = states
    normal_x, _ = _normalize(x @ weights["kernel"], epsilon)
    normal_h, _ = _normalize(h_prev @ weights["recurrent_kernel"], epsilon)
    a = weights["kernel_gamma"] * normal_x + weights.get("bias", 0.0)  # (N2)
    r = weights["recurrent_gamma"] * normal_h  # (N3)
    p_i, p_f, p_c, p_o = np.split(a + r, 4, axis=1)
    i = recurrent_activation(p_i)  # (N4) input gate
    f = recurrent_activation(p_f)  # (N5) forget gate
    candidate = activation(p_c)  # (N6)
    o = recurrent_activation(p_o)  # (N7) output gate
    c = f * c_prev + i * candidate  # (N8)
    normal_c, _ = _normalize(c, epsilon)
    n = weights["state_gamma"] * normal_c + weights["state_beta"]  # (N9)
    h = o * activation(n)  # (N10)
    return h, [h, c]


def step_backward(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: loop.Weights,
    d_output: np.ndarray,
    d_new_states: Sequence[np.ndarray],
    *,
    epsilon: float = 1e-3,
) -> tuple[np.ndarray, list[np.ndarray], loop.Weights]:
    """The adjoint of one step, with tanh and sigmoid as the activations."""
    h_prev, c_prev = states

    # The gates again, (N1) to (N9): an oracle keeps nothing from the forward pass.
    normal_x, s_x = _normalize(x @ weights["kernel"], epsilon)
    normal_h, s_h = _normalize(h_prev @ weights["recurrent_kernel"], epsilon)
    a = weights["kernel_gamma"] * normal_x + weights.get("bias", 0.0)
    r = weights["recurrent_gamma"] * normal_h
    p_i, p_f, p_c, p_o = np.split(a + r, 4, axis=1)
    i, f, candidate, o = sigmoid(p_i), sigmoid(p_f), np.tanh(p_c), sigmoid(p_o)
    c = f * c_prev + i * candidate
    normal_c, s_c = _normalize(c, epsilon)
    n = weights["state_gamma"] * normal_c + weights["state_beta"]

    dh = d_output + d_new_states[0]  # (B2)
    do = dh * np.tanh(n)  # (N12)
    dn = dh * o * (1 - np.tanh(n) ** 2)  # (N13)
    d_state_gamma, d_state_beta = (dn * normal_c).sum(axis=0), dn.sum(axis=0)  # (N14)
    dc = d_new_states[1] + _normalize_backward(dn * weights["state_gamma"], normal_c, s_c)  # (N15)
    dp_i = dc * candidate * i * (1 - i)  # (L9), (L12)
    dp_f = dc * c_prev * f * (1 - f)  # (L10), (L13)
    dp_c = dc * i * (1 - candidate**2)  # (L11), (L14)
    dp_o = do * o * (1 - o)  # (L15)
    da = dr = np.hstack([dp_i, dp_f, dp_c, dp_o])  # (L16)

    d_kernel_gamma = (da * normal_x).sum(axis=0)  # (N16)
    d_recurrent_gamma = (dr * normal_h).sum(axis=0)  # (N16)
    da_raw = _normalize_backward(da * weights["kernel_gamma"], normal_x, s_x)  # (N17)
    dr_raw = _normalize_backward(dr * weights["recurrent_gamma"], normal_h, s_h)  # (N17)
    dh_prev = dr_raw @ weights["recurrent_kernel"].T  # (N19)
    dc_prev = dc * f  # (N20)

    dx = da_raw @ weights["kernel"].T  # (N18)
    d_weights = {
        "kernel": x.T @ da_raw,  # (N18)
        "recurrent_kernel": h_prev.T @ dr_raw,  # (N18)
        "kernel_gamma": d_kernel_gamma,
        "recurrent_gamma": d_recurrent_gamma,
        "state_gamma": d_state_gamma,
        "state_beta": d_state_beta,
    }
    if "bias" in weights:
        d_weights["bias"] = da.sum(axis=0)  # (B6)
    return dx, [dh_prev, dc_prev], d_weights


def backward(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: loop.Weights,
    d_outputs: np.ndarray,
    d_final_states: Sequence[np.ndarray],
    *,
    epsilon: float = 1e-3,
    **loop_options,
) -> tuple[np.ndarray, list[np.ndarray], loop.Weights]:
    """Backpropagation through time; see `loop.run_backward` for the arguments."""
    return loop.run_backward(
        step,
        step_backward,
        x,
        states,
        weights,
        d_outputs,
        d_final_states,
        epsilon=epsilon,
        **loop_options,
    )


def _normalize(v: np.ndarray, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """The normalized vectors, and the s by which they were divided, (N1)."""
    s = np.sqrt(v.var(axis=1, keepdims=True) + epsilon)
    return (v - v.mean(axis=1, keepdims=True)) / s, s


def _normalize_backward(d_normal: np.ndarray, normal: np.ndarray, s: np.ndarray) -> np.ndarray:
    """dL/dv from dL/d(normalized v), (N11)."""
    mean = d_normal.mean(axis=1, keepdims=True)
    mean_product = (d_normal * normal).mean(axis=1, keepdims=True)
    return (d_normal - mean - normal * mean_product) / s
