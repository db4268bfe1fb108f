"""The antisymmetric recurrent network (Chang, Chen, Haber and Chi, 2019), plain and gated.

With a gate, the columns of the kernel and the bias are in the order z, h.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles.activations import sigmoid
from tests.oracles.blocks import Weights

VARIANTS = (
    {},
    {"gated": True, "step_size": 0.7, "diffusion": 0.3},
    {"gated": True, "use_bias": False},
    {"activation": "relu", "diffusion": 0.0},
)


def step(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: Weights,
    *,
    activation: Callable[[np.ndarray], np.ndarray] = np.tanh,
    recurrent_activation: Callable[[np.ndarray], np.ndarray] = sigmoid,
    gated: bool = False,
    step_size: float = 0.1,
    diffusion: float = 0.1,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step: x (batch, features), states `[h]`."""
    (h_prev,) = states
    u = weights["recurrent_kernel"]
    matrix = u - u.T - diffusion * np.eye(len(u))  # it multiplies a column; h is a row
    inner = x @ weights["kernel"] + weights.get("bias", 0.0)
    if not gated:
        h = h_prev + step_size * activation(inner + h_prev @ matrix)
        return h, [h]
    of_gate, of_candidate = np.split(inner, 2, axis=1)
    z = recurrent_activation(of_gate + h_prev @ matrix)
    h = h_prev + step_size * z * activation(of_candidate + h_prev @ matrix)
    return h, [h]
