"""The matrix LSTM of xLSTM (Beck et al., 2024), equations 19 to 27, head by head.

Column order: q, k, v, o, i, f.
"""

from collections.abc import Sequence

import numpy as np

from tests.oracles.activations import sigmoid
from tests.oracles.blocks import Weights

VARIANTS = (
    {"chunk_size": 2},
    {"use_bias": False, "unit_forget_bias": False, "chunk_size": 3},
    {"forget_gate": "exponential", "chunk_size": 1},
)


def step(
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: Weights,
    *,
    heads: int = 1,
    forget_gate: str = "sigmoid",
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step: x (batch, features), states `[C, n, m]`."""
    memory, normalizer, stabilizer = states
    p = x @ weights["kernel"] + weights.get("bias", 0.0)
    units = (p.shape[1] - 2 * heads) // 4
    q, k, v, p_o, p_i, p_f = np.split(p, [units * n for n in (1, 2, 3, 4)] + [4 * units + heads], 1)
    width = units // heads
    outputs, new = [], ([], [], [])
    for head in range(heads):
        columns = slice(head * width, (head + 1) * width)
        q_h, v_h = q[:, columns], v[:, columns]
        k_h = k[:, columns] / np.sqrt(width)  # (23)
        log_i, log_f = p_i[:, head], p_f[:, head]
        if forget_gate == "sigmoid":
            log_f = -np.log1p(np.exp(-log_f))
        kept = log_f + stabilizer[:, head]
        m = np.where(kept.real > log_i.real, kept, log_i)
        i, f = np.exp(log_i - m), np.exp(kept - m)
        c = f[:, None, None] * memory[:, head] + i[:, None, None] * np.einsum(
            "bk,bv->bkv", k_h, v_h
        )  # (19)
        n = f[:, None] * normalizer[:, head] + i[:, None] * k_h  # (20)
        dot = np.sum(n * q_h, axis=1)
        dot = np.where(dot.real < 0, -dot, dot)
        smallest = np.exp(-m)
        scale = np.where(dot.real > smallest.real, dot, smallest)
        outputs.append(np.einsum("bkv,bk->bv", c, q_h) / scale[:, None])  # (21)
        for found, value in zip(new, (c, n, m), strict=True):
            found.append(value)
    h = sigmoid(p_o) * np.concatenate(outputs, axis=1)
    return h, [np.stack(found, axis=1) for found in new]
