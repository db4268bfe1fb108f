"""Gradients of an oracle's loop by complex steps, for cells with a forward step only.

The derivative of an analytic function f at v is Im(f(v + i h)) / h, up to terms of order h². No two
close numbers are subtracted, so that h may be tiny and the derivative is as exact as f itself
(Squire and Trapp, 1998). `tests/test_oracles.py` compares it with central differences, since it is
wrong, without an error, for a step that is not analytic: one that takes an absolute value, or the
variance as `np.var` defines it for complex numbers. (Maxima compare real parts, as they should.)
"""

from collections.abc import Sequence

import numpy as np

from tests.oracles import loop
from tests.oracles.blocks import Weights

STEP = 1e-30


def backward(
    step: loop.Step,
    x: np.ndarray,
    states: Sequence[np.ndarray],
    weights: Weights,
    d_outputs: np.ndarray,
    d_final_states: Sequence[np.ndarray],
    *,
    mask: np.ndarray | None = None,
    **options,
) -> tuple[np.ndarray, list[np.ndarray], Weights]:
    """The gradients of `sum(d_outputs * outputs) + sum(d_final_states * final_states)`.

    See `loop.run_backward` for the arguments and what is returned.
    """
    if mask is not None:
        used = np.asarray(mask, bool)
        x = np.where(used.reshape(*used.shape, *(1,) * (x.ndim - 2)), x, 0)  # padding may be NaN

    def slopes(x: np.ndarray, states: Sequence[np.ndarray], weights: Weights) -> np.ndarray:
        """The derivative of each row's share with respect to a moved entry."""
        outputs, _, finals = loop.run(step, x, states, weights, mask=mask, **options)
        pairs = [(d_outputs, outputs), *zip(d_final_states, finals, strict=True)]
        return sum((d * y).reshape(len(y), -1).sum(axis=1) for d, y in pairs).imag / STEP

    # The rows of a batch are independent: an entry is moved in all of them at once.
    dx = np.zeros(x.shape)
    for index in np.ndindex(x.shape[1:]):
        dx[:, *index] = slopes(_moved(x, (slice(None), *index)), states, weights)
    d_states = [np.zeros(state.shape) for state in states]
    for n, state in enumerate(states):
        for index in np.ndindex(state.shape[1:]):
            moved = [*states[:n], _moved(state, (slice(None), *index)), *states[n + 1 :]]
            d_states[n][:, *index] = slopes(x, moved, weights)
    d_weights = {name: np.zeros(value.shape) for name, value in weights.items()}
    for name, value in weights.items():
        for index in np.ndindex(value.shape):
            moved = {**weights, name: _moved(value, index)}
            d_weights[name][index] = slopes(x, states, moved).sum()
    return dx, d_states, d_weights


def _moved(value: np.ndarray, index: tuple) -> np.ndarray:
    moved = np.array(value, "complex128")  # also of a scalar
    moved[index] += 1j * STEP
    return moved
