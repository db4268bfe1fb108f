"""Convolutional LSTM (Shi et al., 2015), equation 3 without the peepholes.

Images have the channels last. The weights keep the channel order of Keras: i, f, c, o.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles.activations import sigmoid
from tests.oracles.blocks import Weights
from tests.oracles.convolution import convolve

VARIANTS = (
    {},
    {"use_bias": False, "recurrent_activation": "hard_sigmoid"},
    {"padding": "valid", "strides": 2, "activation": "relu"},
    {"padding": "valid", "dilation_rate": 2, "kernel_size": 2, "unit_forget_bias": False},
)


def step(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: Weights,
    *,
    activation: Callable[[np.ndarray], np.ndarray] = np.tanh,
    recurrent_activation: Callable[[np.ndarray], np.ndarray] = sigmoid,
    strides: Sequence[int] | None = None,
    padding: str = "valid",
    dilation_rate: Sequence[int] | None = None,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step: x (batch, *sizes, channels), states `[h, c]`, (batch, *new_sizes, filters)."""
    h_prev, c_prev = states
    w_i, w_f, w_c, w_o = np.split(weights["kernel"], 4, axis=-1)
    u_i, u_f, u_c, u_o = np.split(weights["recurrent_kernel"], 4, axis=-1)
    b_i, b_f, b_c, b_o = np.split(weights["bias"], 4) if "bias" in weights else [0.0] * 4
    window = {"strides": strides, "padding": padding, "dilation_rate": dilation_rate}

    def p(w: np.ndarray, u: np.ndarray, b: np.ndarray | float) -> np.ndarray:
        return convolve(x, w, **window) + convolve(h_prev, u) + b

    i = recurrent_activation(p(w_i, u_i, b_i))
    f = recurrent_activation(p(w_f, u_f, b_f))
    c = f * c_prev + i * activation(p(w_c, u_c, b_c))
    o = recurrent_activation(p(w_o, u_o, b_o))
    h = o * activation(c)
    return h, [h, c]
