"""The liquid time-constant network (Hasani, Lechner, Amini, Rus and Grosu, 2021).

Equations 1 and 3, with a conductance for each synapse.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles.activations import sigmoid
from tests.oracles.blocks import Weights

VARIANTS = ({}, {"use_bias": False, "unfoldings": 1})


def step(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: Weights,
    *,
    activation: Callable[[np.ndarray], np.ndarray] = sigmoid,
    unfoldings: int = 6,
    time_column: bool = False,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step: x (batch, features), states `[h]`."""
    (h,) = states
    dt = 1.0
    if time_column:
        x, dt = x[:, :-1], x[:, -1:]
    # The inputs and the units are the sources of synapses of the same kind.
    w, gamma, mu, a = (
        np.concatenate(
            [weights[f"recurrent_{end}"], weights["kernel" if end == "kernel" else f"kernel_{end}"]]
        )
        for end in ("kernel", "gamma", "mu", "a")
    )
    leak = np.log1p(np.exp(weights["leak"]))  # 1 / tau
    for _ in range(unfoldings):
        v = np.concatenate([h, x], axis=1)
        f = np.log1p(np.exp(w)) * activation(gamma * (v[:, :, None] - mu))
        change = weights.get("bias", 0.0) + (f * a).sum(axis=1)
        h = (h + dt / unfoldings * change) / (1 + dt / unfoldings * (leak + f.sum(axis=1)))
    return h, [h]
