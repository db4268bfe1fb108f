"""Sums over paths: scans whose sums are those of log-probabilities.

In the log semiring, products are sums, and sums are

    a ⊕ b = log(exp a + exp b)

so a recursion over the states of a chain computes the logarithm of the sum over all its paths. Zero
is `NEVER`, a number: with minus infinity, differences would be NaN.

    >>> import numpy as np
    >>> from kerasrnn.recurrence import log_semiring
    >>> a, b = np.log([0.5, 0.2]).astype("float32")
    >>> round(float(np.exp(log_semiring.add(a, b))), 6)
    0.7
    >>> bool(log_semiring.add(a, log_semiring.NEVER) == a)
    True
"""

from collections.abc import Callable
from typing import Any

from keras import ops, tree

from kerasrnn.recurrence import dynamic
from kerasrnn.recurrence.unroll import where_rows

Tensor = Any

NEVER = -1e30
"""The logarithm of 0: 3e8 of them can be added in float32."""


def add(a: Tensor, b: Tensor) -> Tensor:
    """a ⊕ b."""
    return ops.maximum(a, b) + ops.log1p(ops.exp(-ops.abs(a - b)))


def total(a: Tensor, axis: int) -> Tensor:
    """⊕ over an axis."""
    highest = ops.stop_gradient(ops.max(a, axis=axis, keepdims=True))
    return ops.log(ops.sum(ops.exp(a - highest), axis=axis)) + ops.squeeze(highest, axis)


def possible(a: Tensor) -> Tensor:
    """Whether a sum over paths has any path. NaN counts as one, so that it is not hidden."""
    # Not the negation of `<=`, of which TensorFlow's graphs make `>`.
    return ops.logical_or(a > NEVER / 2, ops.isnan(a))


def scan(
    step: Callable[[Any, Any], tuple[Any, Any]],
    start: Any,
    xs: Any,
    keep: Tensor,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """`dynamic.scan` with a mask: `state, y[t] = step(state, x[t])` for every t.

    Args:
        step: one step of the recursion.
        start: the first state, a structure of tensors `(batch, ...)`.
        xs: a structure of tensors `(time, batch, ...)`.
        keep: boolean `(time, batch, 1)`: a step of a row where it is False leaves the state as it
            is.
        reverse: whether to run from the last step to the first.

    Returns:
        The last state, and y.
    """

    def body(state: Any, now: Any) -> tuple[Any, Any]:
        x, keep = now
        after, y = step(state, x)
        after = tree.map_structure(lambda new, old: where_rows(keep, new, old), after, state)
        return after, y

    return dynamic.scan(body, start, (xs, keep), reverse)
