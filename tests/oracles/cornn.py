"""The coupled oscillatory recurrent network (Rusch and Mishra, 2021).

Rows of the recurrent kernel: those of the positions y, then those of the velocities z.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles.blocks import Weights

VARIANTS = ({}, {"use_bias": False}, {"dt": 0.5, "implicit_damping": True}, {"dt": 0.3})
STEADY = {"dt": 0.3}  # outputs of a smaller one are of the order of its square


def step(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: Weights,
    *,
    activation: Callable[[np.ndarray], np.ndarray] = np.tanh,
    dt: float = 0.042,
    gamma: float = 2.7,
    epsilon: float = 4.7,
    implicit_damping: bool = False,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step: x (batch, features), states `[y, z]`."""
    y_prev, z_prev = states
    u_y, u_z = np.split(weights["recurrent_kernel"], 2)
    p = x @ weights["kernel"] + weights.get("bias", 0.0) + y_prev @ u_y + z_prev @ u_z
    if implicit_damping:  # z = z_prev + dt (... - epsilon z), solved for z
        z = (z_prev + dt * activation(p) - dt * gamma * y_prev) / (1 + dt * epsilon)
    else:
        z = z_prev + dt * activation(p) - dt * gamma * y_prev - dt * epsilon * z_prev
    y = y_prev + dt * z
    return y, [y, z]
