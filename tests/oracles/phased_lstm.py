"""Phased LSTM (Neil, Pfeiffer and Liu, 2016), equations 1 to 10 without peepholes.

Time is a state, which the elapsed time of each step advances. Column order: i, f, c, o.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles.activations import sigmoid
from tests.oracles.blocks import Weights, blocks

VARIANTS = (
    {},
    {"use_bias": False, "leak": 0.3, "ratio_on": 0.5},
    {"activation": "relu", "min_period": 2.0, "max_period": 3.0},
)
# Rounding moves time stamps; a slope of 2 / r_on multiplies it.
STEADY = {"ratio_on": 0.9}


def step(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: Weights,
    *,
    activation: Callable[[np.ndarray], np.ndarray] = np.tanh,
    recurrent_activation: Callable[[np.ndarray], np.ndarray] = sigmoid,
    leak: float = 0.001,
    time_column: bool = False,
    training: bool = False,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step: x (batch, features), states `[h, c, time]`."""
    h_prev, c_prev, time = states
    x, elapsed = (x[:, :-1], x[:, -1:]) if time_column else (x, 1.0)
    t = time + elapsed
    tau, s, r_on = np.exp(weights["log_tau"]), weights["s"], sigmoid(weights["logit_r_on"])
    phi = _modulo(t - s, tau) / tau  # (6)
    opening, closing = 2 * phi / r_on, 2 - 2 * phi / r_on
    closed = (leak if training else 0.0) * phi
    k = np.where(phi.real < r_on.real / 2, opening, np.where(phi.real < r_on.real, closing, closed))

    (w_i, w_f, w_c, w_o), (u_i, u_f, u_c, u_o), (b_i, b_f, b_c, b_o) = blocks(weights, 4)
    i = recurrent_activation(x @ w_i + h_prev @ u_i + b_i)
    f = recurrent_activation(x @ w_f + h_prev @ u_f + b_f)
    o = recurrent_activation(x @ w_o + h_prev @ u_o + b_o)
    new_c = f * c_prev + i * activation(x @ w_c + h_prev @ u_c + b_c)  # (7)
    c = k * new_c + (1 - k) * c_prev  # (8)
    new_h = o * activation(new_c)  # (9)
    h = k * new_h + (1 - k) * h_prev  # (10)
    return h, [h, c, t]


def _modulo(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    # Not `np.mod`, which complex numbers do not have.
    return a - b * np.floor(a.real / b.real)
