"""The simple recurrent unit (Lei et al., 2018). Column order: f, r, c and the projection.

Without peepholes, or with those of the paper.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles.activations import sigmoid
from tests.oracles.blocks import Weights

VARIANTS = (
    {},
    {"use_bias": False, "rescale": False},
    {"activation": "tanh", "highway_bias": -1.0},
    {"use_peepholes": True},
)


def step(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: Weights,
    *,
    activation: Callable[[np.ndarray], np.ndarray] = lambda a: a,
    recurrent_activation: Callable[[np.ndarray], np.ndarray] = sigmoid,
    highway_bias: float = 0.0,
    rescale: bool = True,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step: x (batch, features), states `[c]`."""
    (c_prev,) = states
    units = c_prev.shape[1]
    w_f, w_r, w, *projection = np.split(weights["kernel"], weights["kernel"].shape[1] // units, 1)
    b_f, b_r = np.split(weights["bias"], 2) if "bias" in weights else (0.0, 0.0)
    v_f, v_r = weights.get("peephole_kernel", np.zeros((2, units)))
    f = recurrent_activation(x @ w_f + v_f * c_prev + b_f)  # (1)
    c = f * c_prev + (1 - f) * (x @ w)  # (2)
    r = recurrent_activation(x @ w_r + v_r * c_prev + b_r)  # (3)
    if projection:
        skip = x @ projection[0]
    else:
        skip = x * (np.sqrt(1 + 2 * np.exp(highway_bias)) if rescale else 1.0)
    h = r * activation(c) + (1 - r) * skip  # (4)
    return h, [c]
