"""The state space layer of Mamba-2 (Dao & Gu, 2024), head by head.

Column order: z, x, B, C, dt. Complex steps differentiate this oracle.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles.activations import sigmoid
from tests.oracles.blocks import Weights

VARIANTS = (
    {"state_dim": 2, "kernel_size": 3, "chunk_size": 2},
    {"state_dim": 2, "kernel_size": 1, "chunk_size": 1, "min_step": 0.5, "max_step": 1.0},
    {"state_dim": 1, "kernel_size": 2, "use_bias": False, "activation": None, "chunk_size": 3},
)
# Memories of a few steps and inputs of some size: the gradients of a new layer's decays are as
# small as the smallest numbers of half precision.
STEADY = {
    "kernel_initializer": {"class_name": "RandomNormal", "config": {"stddev": 1.0}},
    "min_step": 0.05,
}


def silu(a: np.ndarray) -> np.ndarray:
    return a * sigmoid(a)


def step(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: Weights,
    *,
    activation: Callable[[np.ndarray], np.ndarray] = silu,
    heads: int = 1,
    groups: int = 1,
    state_dim: int = 64,
    kernel_size: int = 4,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step: x (batch, features), states: h and the window, its latest step first."""
    projected = x @ weights["kernel"]
    shared = groups * state_dim
    units = (projected.shape[1] - 2 * shared - heads) // 2
    z, p, p_dt = np.split(projected, [units, 2 * units + 2 * shared], axis=1)
    steps = [p]
    if kernel_size > 1:
        steps += [states[1][:, n] for n in range(kernel_size - 1)]
        p = sum(weights["depthwise_kernel"][-1 - n] * v for n, v in enumerate(steps))
    values, keys, queries = np.split(
        activation(p + weights.get("bias", 0.0)), [units, units + shared], axis=1
    )
    dt = np.log1p(np.exp(p_dt + weights["dt_bias"]))
    width, reads, new = units // heads, [], []
    for head in range(heads):
        group = head // (heads // groups)
        of_group = slice(group * state_dim, (group + 1) * state_dim)
        v = values[:, head * width : (head + 1) * width]
        rate, d = np.exp(weights["A_log"][head]), weights["D"][head]
        decay = np.exp(-dt[:, head] * rate)[:, None, None]
        stored = np.einsum("b,bk,bv->bkv", dt[:, head], keys[:, of_group], v)
        h = decay * states[0][:, head] + stored
        reads.append(np.einsum("bk,bkv->bv", queries[:, of_group], h) + d * v)
        new.append(h)
    y = silu(z) * np.concatenate(reads, axis=1)
    finals = [np.stack(new, axis=1)]
    if kernel_size > 1:
        finals.append(np.stack(steps[:-1], axis=1))
    return y, finals
