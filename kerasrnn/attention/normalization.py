"""From scores to weights: softmax, sparsemax and 1.5-entmax over the unmasked positions."""

from typing import Any

import keras
from keras import ops

Tensor = Any

IMPOSSIBLE = -1e30
"""The score of a position with zero weight: finite, so that no NaN arises."""

NORMALIZATIONS = ("softmax", "sparsemax", "entmax")


def normalized(scores: Tensor, mask: Tensor, normalization: str = "softmax") -> Tensor:
    """Compute alpha, `(batch, [time,] positions)`: 0 where the mask is 0, also in fully masked
    rows.

    All three are the alpha-entmax of their alpha, which maximizes `p^T e + H_alpha(p)` over the
    distributions p, with Tsallis's entropy H_alpha (Peters, Niculae & Martins 2019, "Sparse
    sequence-to-sequence models", equation 10), for an alpha of 1, 2 and 1.5:

        softmax      p_j = exp(e_j) / sum_k exp(e_k)
        sparsemax    p_j = max(e_j - tau, 0)
        entmax       p_j = max(e_j / 2 - tau, 0)^2

    with tau such that the sum is 1. The last two are 0 at positions with low scores.

    Args:
        scores: e, `(batch, [time,] positions)`.
        mask: ones and zeros, which are broadcast to the scores.
        normalization: "softmax", "sparsemax" or "entmax".
    """
    dtype, wide = scores.dtype, wide_dtype(scores.dtype)
    # The score of an excluded position would be infinite in half precision.
    mask = ops.cast(along(mask, scores), wide)
    scores = ops.where(mask > 0, ops.cast(scores, wide), IMPOSSIBLE)
    if scores.shape[-1] == 1:
        # Keras warns of a softmax over a single number, which a source with one position needs.
        alpha = ops.exp(scores - scores)
    elif normalization == "softmax":
        alpha = ops.softmax(scores, axis=-1)
    else:
        scores = scores - ops.stop_gradient(ops.max(scores, axis=-1, keepdims=True))
        alpha = _sparsemax(scores) if normalization == "sparsemax" else _entmax(scores)
    return ops.cast(alpha * mask, dtype)


# The positions with positive weights are found by sorting. Given these, tau is a smooth function of
# their scores, and its gradient is that of these formulas: no sum over sorted scores is
# differentiated. Scores have a maximum of 0, and so tau >= -1: lower ones are all the same.


def _sparsemax(e: Tensor) -> Tensor:
    """Martins & Astudillo (2016), "From softmax to sparsemax", algorithm 1."""
    e = ops.maximum(e, -2.0)
    ordered, count = _descending(ops.stop_gradient(e))
    tau = (ops.cumsum(ordered, axis=-1) - 1) / count
    support = _support(e, ordered, tau)
    tau = (_total(support * e) - 1) / _total(support)
    return support * (e - tau)


def _entmax(e: Tensor) -> Tensor:
    """Peters, Niculae & Martins (2019), algorithm 2."""
    e = ops.maximum(e / 2, -2.0)
    ordered, count = _descending(ops.stop_gradient(e))
    mean = ops.cumsum(ordered, axis=-1) / count
    deviations = ops.cumsum(ops.square(ordered), axis=-1) - count * ops.square(mean)
    tau = mean - ops.sqrt(ops.maximum(1 - deviations, 0) / count)
    support = _support(e, ordered, tau)
    count = _total(support)
    mean = _total(support * e) / count
    deviations = _total(support * ops.square(e - mean))
    tau = mean - ops.sqrt((1 - deviations) / count)
    return support * ops.square(e - tau)


def _descending(e: Tensor) -> tuple[Tensor, Tensor]:
    """The scores in descending order, and how many there are up to each."""
    ordered = -ops.sort(-e, axis=-1)
    return ordered, ops.cumsum(ops.ones_like(ordered), axis=-1)


def _support(e: Tensor, ordered: Tensor, tau: Tensor) -> Tensor:
    """1 at the positions with positive weights: tau is that of the last score above its own."""
    size = _total(ops.cast(ordered > tau, "int32"))
    places = ops.arange(1, ops.shape(ordered)[-1] + 1, dtype="int32")
    tau = _total(ops.where(places == size, tau, 0))
    return ops.stop_gradient(ops.cast(e > tau, e.dtype))


def _total(x: Tensor) -> Tensor:
    return ops.sum(x, axis=-1, keepdims=True)


def wide_dtype(dtype: Any) -> str:
    """The dtype itself, or float32 instead of half precision."""
    return "float64" if keras.backend.standardize_dtype(dtype) == "float64" else "float32"


def along(x: Tensor, scores: Tensor) -> Tensor:
    """Broadcast what is equal for all queries of a row to scores of one or several queries."""
    return ops.expand_dims(x, 1) if len(x.shape) < len(scores.shape) else x
