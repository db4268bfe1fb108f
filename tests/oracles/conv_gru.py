"""Convolutional GRU (Ballas et al., 2016), the reset gate before or after the recurrent product.

Images have the channels last. The weights keep the channel order of Keras's GRU: z, r, h; the
paper's z is 1 - z here, as there.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles.activations import sigmoid
from tests.oracles.blocks import Weights
from tests.oracles.convolution import convolve

VARIANTS = (
    {},
    {"reset_after": False},
    {"use_bias": False, "recurrent_activation": "hard_sigmoid"},
    {"padding": "valid", "strides": 2, "activation": "relu"},
    {"padding": "valid", "dilation_rate": 2, "kernel_size": 2, "reset_after": False},
)


def step(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: Weights,
    *,
    activation: Callable[[np.ndarray], np.ndarray] = np.tanh,
    recurrent_activation: Callable[[np.ndarray], np.ndarray] = sigmoid,
    reset_after: bool = True,
    strides: Sequence[int] | None = None,
    padding: str = "valid",
    dilation_rate: Sequence[int] | None = None,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step: x (batch, *sizes, channels), states `[h]`, (batch, *new_sizes, filters).

    The bias is (2, 3 * filters) with `reset_after`, the input's row first.
    """
    (h_prev,) = states
    w_z, w_r, w = np.split(weights["kernel"], 3, axis=-1)
    u_z, u_r, u = np.split(weights["recurrent_kernel"], 3, axis=-1)
    bias = np.atleast_2d(weights["bias"]) if "bias" in weights else np.zeros((1, 3))
    b_z, b_r, b = np.split(bias[0], 3)
    rb_z, rb_r, rb = np.split(bias[1], 3) if len(bias) == 2 else [0.0] * 3

    def of_input(w: np.ndarray) -> np.ndarray:
        return convolve(x, w, strides=strides, padding=padding, dilation_rate=dilation_rate)

    kept = recurrent_activation(of_input(w_z) + b_z + convolve(h_prev, u_z) + rb_z)
    r = recurrent_activation(of_input(w_r) + b_r + convolve(h_prev, u_r) + rb_r)
    if reset_after:
        candidate = activation(of_input(w) + b + r * (convolve(h_prev, u) + rb))
    else:
        candidate = activation(of_input(w) + b + convolve(r * h_prev, u))
    h = kept * h_prev + (1 - kept) * candidate
    return h, [h]
