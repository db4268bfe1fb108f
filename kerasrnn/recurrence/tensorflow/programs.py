"""Dynamic programs on TensorFlow: see `dynamic`."""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from kerasrnn.recurrence.tensorflow.gradients import custom_gradient

Tensor = Any


def traced(
    program: Callable[..., Any], arguments: tuple[Any, ...], key: Any, static: dict[str, Any]
) -> Any:
    """See `dynamic.traced`."""
    if not tf.executing_eagerly():
        return program(*arguments, **static)
    return _program(program, key, tuple(sorted(static.items())))(*arguments)


@functools.cache
def _program(program: Callable[..., Any], key: Any, static: tuple[tuple[str, Any], ...]) -> Any:
    return tf.function(
        functools.partial(program, **dict(static)), autograph=False, reduce_retracing=True
    )


def with_gradient(
    forward: Callable[..., tuple[Any, Any]],
    backward: Callable[[Any, Any], Any],
    arguments: tuple[Tensor, ...],
) -> Any:
    """See `dynamic.with_gradient`."""

    def function(*arguments: Tensor) -> tuple[Any, Callable[..., Any]]:
        results, residuals = forward(*arguments)
        return results, lambda *d: list(backward(residuals, d[0] if len(d) == 1 else list(d)))

    return custom_gradient(function, *arguments)
