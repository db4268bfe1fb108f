"""The quasi-recurrent network (Bradbury et al., 2017). Column order: z, f, o, i."""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles.activations import sigmoid
from tests.oracles.blocks import Weights

VARIANTS = (
    {},
    {"use_bias": False},
    {"pooling": "f", "kernel_size": 1},
    {"pooling": "ifo", "kernel_size": 3},
)


def step(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: Weights,
    *,
    activation: Callable[[np.ndarray], np.ndarray] = np.tanh,
    recurrent_activation: Callable[[np.ndarray], np.ndarray] = sigmoid,
    pooling: str = "fo",
    kernel_size: int = 2,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step: x (batch, features), states `[c, window]`, the window's latest input first."""
    c_prev = states[0]
    inputs = [x]
    filters = [weights["kernel"]]
    if kernel_size > 1:
        inputs += [states[1][:, n] for n in range(kernel_size - 1)]
        filters += np.split(weights["window_kernel"], kernel_size - 1)
    p = sum(v @ w for v, w in zip(inputs, filters, strict=True)) + weights.get("bias", 0.0)
    z, f, *others = np.split(p, {"f": 2, "fo": 3, "ifo": 4}[pooling], axis=1)
    z, f = activation(z), recurrent_activation(f)
    i = recurrent_activation(others[1]) if pooling == "ifo" else 1 - f
    c = f * c_prev + i * z
    h = c if pooling == "f" else recurrent_activation(others[0]) * c
    new = [c]
    if kernel_size > 1:
        new.append(np.stack(inputs[:-1], axis=1))
    return h, new
