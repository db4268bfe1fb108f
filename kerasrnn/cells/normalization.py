"""Normalization: of layer-normalized cells, and of the input part over a batch."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

Tensor = Any


def normalize(v: Tensor, epsilon: float) -> Tensor:
    """Normalize the features of each row to mean 0 and variance 1, without a gain or a shift.

    Args:
        v: `(..., features)`.
        epsilon: positive number added to the variance before its square root is taken.
    """
    # Not `ops.layer_normalization`: on TensorFlow its second derivatives are wrong, since
    # `tf.nn.moments` treats the mean in the variance as a constant.
    dtype = keras.backend.standardize_dtype(v.dtype)
    v = ops.cast(v, keras.backend.result_type(dtype, "float32"))  # half precision is too coarse
    v = v - ops.mean(v, axis=-1, keepdims=True)
    variance = ops.mean(ops.square(v), axis=-1, keepdims=True)
    return ops.cast(v * ops.rsqrt(variance + epsilon), dtype)


def moments_of_product(
    x: Tensor, kernel: Tensor, mask: Tensor | None, masks: Sequence[Tensor] | None
) -> tuple[Tensor, Tensor]:
    """The mean and the variance of each column of x W, over all valid steps of all sequences.

    They follow from the mean and the covariance of the inputs:

        mean(x W) = mean(x) W,   variance(x W)_j = W_j^T covariance(x) W_j

    so that the product itself need not be computed twice.

    Args:
        x: `(batch, time, features)`, or `(batch, features)`.
        kernel: W, `(features, columns)`.
        mask: boolean `(batch, time)`, True at valid steps; None: all of them are.
        masks: dropout masks of the inputs, each `(batch, features)`: one, or one per block of
            columns.

    Returns:
        Both `(columns,)`, in single precision or better.
    """
    dtype = keras.backend.result_type(keras.backend.standardize_dtype(x.dtype), "float32")
    x, kernel = ops.cast(x, dtype), ops.cast(kernel, dtype)
    used = ops.ones_like(x[..., :1]) if mask is None else ops.cast(mask[..., None], dtype)
    count = ops.maximum(ops.sum(used), 1.0)

    def rows(v: Tensor) -> Tensor:
        return ops.reshape(ops.where(used > 0, v, 0.0), (-1, x.shape[-1]))  # padding may be NaN

    means, variances = [], []
    for dropped, block in zip(
        masks or [None], ops.split(kernel, len(masks or [None]), axis=-1), strict=True
    ):
        v = x
        if dropped is not None:
            dropped = ops.cast(dropped, dtype)
            v = x * (dropped if len(x.shape) == 2 else dropped[:, None])
        mean = ops.sum(rows(v), axis=0) / count
        centred = rows(v - mean)
        covariance = ops.matmul(ops.transpose(centred), centred) / count
        means.append(ops.matmul(mean[None], block)[0])
        variances.append(ops.sum(block * ops.matmul(covariance, block), axis=0))
    return ops.concatenate(means), ops.concatenate(variances)
