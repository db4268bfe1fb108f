"""The scalar LSTM of xLSTM (Beck et al., 2024), equations 8 to 17.

Column order: i, f, z, o. The units of head k are consecutive.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles.activations import sigmoid
from tests.oracles.blocks import Weights

VARIANTS = (
    {},
    {"use_bias": False, "unit_forget_bias": False},
    {"forget_gate": "exponential"},
)


def step(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: Weights,
    *,
    activation: Callable[[np.ndarray], np.ndarray] = np.tanh,
    heads: int = 1,
    forget_gate: str = "sigmoid",
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step: x (batch, features), states `[h, c, n, m]`."""
    h_prev, c_prev, n_prev, m_prev = states
    rows = []
    for w, r, b in zip(
        np.split(weights["kernel"], 4, axis=1),
        np.split(weights["recurrent_kernel"], 4, axis=1),
        np.split(weights["bias"], 4) if "bias" in weights else [0.0] * 4,
        strict=True,
    ):
        of_heads = zip(np.split(h_prev, heads, axis=1), np.split(r, heads, axis=1), strict=True)
        recurrent = np.concatenate([h @ r_head for h, r_head in of_heads], axis=1)
        rows.append(x @ w + recurrent + b)
    p_i, p_f, p_z, p_o = rows

    log_f = -np.log1p(np.exp(-p_f)) if forget_gate == "sigmoid" else p_f
    z = activation(p_z)  # (11)
    o = sigmoid(p_o)  # (14)
    n_prev = np.where(n_prev.real > 0, n_prev, 0.0)
    # Where nothing is stored, m_prev is minus infinity.
    stored = n_prev.real > 0
    log_kept = np.where(stored, log_f + m_prev, p_i)
    m = np.where(log_kept.real > p_i.real, log_kept, p_i)  # (15)
    i = np.exp(p_i - m)  # (16)
    f = np.where(stored, np.exp(log_kept - m), 0.0)  # (17)
    c = f * c_prev + i * z  # (8)
    n = f * n_prev + i  # (9)
    h = o * c / n  # (10)
    return h, [h, c, n, m]
