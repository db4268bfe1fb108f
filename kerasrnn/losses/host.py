"""Calls of Python from compiled code."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from kerasrnn.keras_internals import is_concrete

Tensor = Any


def call_where(condition: Tensor, function: Callable[..., None], *tensors: Tensor) -> None:
    """Call a function with the values of tensors, as arrays, if a condition holds for some row.

    In an eager call that happens at once. In a TensorFlow graph and under `jax.jit` it happens when
    the compiled code runs. A function that XLA compiles on TensorFlow, or that `torch.compile`
    compiles, cannot call Python; there, nothing happens.

    Args:
        condition: boolean, `(batch,)`.
        function: the function.
        *tensors: its arguments.
    """
    if all(map(is_concrete, (condition, *tensors))):
        if ops.convert_to_numpy(condition).any():
            function(*map(ops.convert_to_numpy, tensors))
        return
    if any(isinstance(x, keras.KerasTensor) for x in (condition, *tensors)):
        return
    match keras.config.backend():
        case "tensorflow":
            import tensorflow as tf

            from kerasrnn.recurrence.tensorflow.surroundings import under_xla

            def call(*arrays: Any) -> int:
                function(*arrays)
                return 0

            if not under_xla():
                tf.cond(
                    tf.reduce_any(condition),
                    lambda: tf.numpy_function(call, tensors, tf.int64),
                    lambda: tf.constant(0, tf.int64),
                )
        case "jax":
            import jax

            jax.lax.cond(
                ops.any(condition),
                lambda: jax.debug.callback(function, *tensors),
                lambda: None,
            )
