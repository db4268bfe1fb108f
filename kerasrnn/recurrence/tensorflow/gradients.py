"""Custom gradients: of the loop, and of any function whose gradient is freed with its owner."""

import functools
import weakref
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import ops as framework  # not exported

from kerasrnn.recurrence.loop import Call, Results, Steppable
from kerasrnn.recurrence.tensorflow.stored import stored
from kerasrnn.recurrence.tensorflow.structures import differentiated, filled, leaves, replaced

Tensor = Any


def with_gradient(
    forward: Callable[[Call], tuple[Results, Callable[[Results], Any]]],
    cell: Steppable,
    call: Call,
) -> Results:
    """`forward` returns the results and their pullback."""
    structure: list[Results] = []

    def function(*flat: Tensor) -> tuple[list[Tensor], Callable[..., list[Tensor]]]:
        results, backward = forward(replaced(call, filled(differentiated(call), flat)))
        structure.append(results)

        def gradient(*d_flat: Tensor) -> list[Tensor]:
            # A gradient in a graph may come with fewer known sizes than its tensor has, and the
            # values that a loop carries cannot change theirs.
            dense = [tf.convert_to_tensor(d) for d in d_flat]
            for d, y in zip(dense, leaves(results), strict=True):
                d.set_shape(y.shape)
            return leaves(backward(filled(results, dense)))

        return leaves(results), gradient

    flat = custom_gradient(function, *leaves(differentiated(call)), owner=cell)
    return filled(structure[0], flat)


def custom_gradient(function: Callable[..., Any], *arguments: Tensor, owner: Any = None) -> Any:
    """Apply a function as `tf.custom_gradient` does, with a gradient that is freed with its owner.

    TensorFlow registers the gradient under a name for as long as the process runs, and with it the
    graph and all variables that it uses (TensorFlow 2.21). Here its owner keeps it: a cell, or by
    default the graph. A gradient that refers to a cell must not be kept by the graph, since Keras's
    optimizers cause every graph of a training step to be kept in the same way (Keras 3.15).
    """
    results = tf.custom_gradient(function)(*arguments)
    if tf.executing_eagerly():
        return results
    operation = leaves(results)[0].op
    registry = framework.gradient_registry._registry
    name = operation.get_attr("_gradient_op_type").decode()
    gradient = registry[name]["type"]
    if owner is None:
        graph = operation.graph
        graph._kerasrnn_gradients = [*getattr(graph, "_kerasrnn_gradients", []), gradient]
    else:
        stored(owner, "gradients", list).append(gradient)
    # The name goes with the gradient: a saved model may have another of this name.
    reference = weakref.ref(gradient, lambda _: registry.pop(name, None))
    registry[name]["type"] = functools.partial(_apply, reference)
    return results


def _apply(gradient: weakref.ref, operation: tf.Operation, *upstream: Tensor) -> Any:
    return gradient()(operation, *upstream)
