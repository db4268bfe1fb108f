"""Mamba2 at special weights, and at random ones in the quadratic form of its paper, in NumPy."""

import numpy as np
import pytest

import kerasrnn
from tests.cells.kinships.special_weights import (
    OPTIONS,
    UNITS,
    X,
    assert_close,
    outputs,
    random_weights,
)

# The equations are compared; test_numbers.py compares the backends.
pytestmark = pytest.mark.tensorflow


def softplus(p):
    return np.logaddexp(0, p)


def silu(p):
    return p / (1 + np.exp(-p))


def mamba2_weights(layer):
    """Random weights of a Mamba2 layer, with the columns of its kernel: z, p and dt."""
    weights, cell = random_weights(layer), layer.cell
    ends = [cell.units, cell.units + cell.channels]
    return weights, np.split(weights["kernel"], ends, axis=1)


def test_mamba2_is_masked_attention():
    """The quadratic form of the paper: (L * C B^T) X, with L the products of decays from j to t.

    And the block around it: convolutions by NumPy, of each column, over the inputs in time.
    """
    heads, groups, width = 4, 2, 2
    layer = kerasrnn.Mamba2(heads * width, heads=heads, groups=groups, state_dim=3, **OPTIONS)
    weights, (w_z, w_p, w_dt) = mamba2_weights(layer)
    steps, kernel = X.shape[1], weights["depthwise_kernel"]
    p = X @ w_p
    convolved = np.stack(
        [
            [np.convolve(row, taps[::-1])[:steps] for row, taps in zip(of.T, kernel.T, strict=True)]
            for of in p
        ]
    )
    x, b, c = np.split(silu(convolved.swapaxes(1, 2) + weights["bias"]), [8, 14], axis=-1)
    dt = softplus(X @ w_dt + weights["dt_bias"])
    expected = np.zeros_like(x)
    for head in range(heads):
        shared = slice(3 * (head // 2), 3 * (head // 2) + 3)
        own = slice(width * head, width * head + width)
        log_a = -dt[..., head] * np.exp(weights["A_log"][head])
        decays = np.zeros((len(X), steps, steps))
        for t in range(steps):
            for j in range(t + 1):
                decays[:, t, j] = np.prod(np.exp(log_a[:, j + 1 : t + 1]), axis=1)
        scores = decays * (c[..., shared] @ b[..., shared].swapaxes(1, 2))
        stored = dt[..., head, None] * x[..., own]
        expected[..., own] = scores @ stored + weights["D"][head] * x[..., own]
    expected = silu(X @ w_z) * expected
    for chunk_size in (2, 64):
        layer.cell.chunk_size = chunk_size
        assert_close(outputs(layer, weights.values()), expected)


def test_mamba2_without_decay_is_linear_attention():
    """Steps of length 1 and a rate of 0: the sum of the values, weighted by their keys."""
    layer = kerasrnn.Mamba2(UNITS, state_dim=2, activation=None, kernel_size=1, **OPTIONS)
    weights, (w_z, w_p, w_dt) = mamba2_weights(layer)
    w_dt[:] = 0
    weights["A_log"][:], weights["dt_bias"][:], weights["D"][:] = -100, np.log(np.expm1(1)), 0
    weights["kernel"] = np.hstack([w_z, w_p, w_dt])
    v, k, q = np.split(X @ w_p + weights["bias"], [UNITS, UNITS + 2], axis=-1)
    attention = np.tril(q @ k.swapaxes(1, 2))
    assert_close(outputs(layer, weights.values()), silu(X @ w_z) * (attention @ v))


def test_mamba2_with_steps_of_one_length_is_an_average():
    """Heads of one unit, B = C = 1: MinGRU with a fixed gate, of a candidate scaled by dt."""
    layer = kerasrnn.Mamba2(
        UNITS, heads=UNITS, state_dim=1, activation=None, kernel_size=1, **OPTIONS
    )
    weights, (w_z, w_p, w_dt) = mamba2_weights(layer)
    w_p[:, UNITS:], weights["bias"][:] = 0, [*np.zeros(UNITS), 1, 1]
    w_dt[:] = weights["D"][:] = 0
    weights["kernel"] = np.hstack([w_z, w_p, w_dt])
    dt = softplus(weights["dt_bias"])
    gate = -np.expm1(-dt * np.exp(weights["A_log"]))
    w_h = w_p[:, :UNITS] * dt / gate
    known = kerasrnn.MinGRU(UNITS, activation=None, **OPTIONS)
    bias = np.concatenate([np.log(gate / (1 - gate)), np.zeros(UNITS)])
    average = outputs(known, [np.hstack([np.zeros_like(w_h), w_h]), bias])
    assert_close(outputs(layer, weights.values()), silu(X @ w_z) * average)


def test_mamba2_starts_as_its_authors_start():
    layer = kerasrnn.Mamba2(2000, heads=2000, state_dim=1, seed=1)
    layer.build((None, None, 1))
    weights = {w.name: v for w, v in zip(layer.weights, layer.get_weights(), strict=True)}
    spread = np.log([1e-3, 1e-1])
    for values, (low, high) in (
        (np.exp(weights["A_log"]), (1, 16)),
        (np.log(softplus(weights["dt_bias"])), spread),
        (weights["depthwise_kernel"], (-0.5, 0.5)),
    ):
        deciles = np.quantile(values, np.linspace(0, 1, 11))
        assert_close(deciles, np.linspace(low, high, 11), 0.05 * (high - low))
    assert_close(weights["D"], 1)
