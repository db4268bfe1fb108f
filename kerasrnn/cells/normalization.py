"""The normalization of layer-normalized cells."""

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
