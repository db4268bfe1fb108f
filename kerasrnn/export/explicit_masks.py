"""Detects whether a layer is called with an explicit mask."""

from typing import Any

import keras

from kerasrnn.keras_internals import get_keras_mask, nodes_of, producer_of


def has_explicit_mask(layer: keras.layers.Layer) -> bool:
    """Whether it is called with a mask other than that of its sequences."""
    for node in nodes_of(layer):
        mask = node.arguments.kwargs.get("mask")
        carried = [get_keras_mask(x) for x in node.input_tensors]
        if any(
            m is not None and not any(_are_equal(m, c) for c in carried)
            for m in keras.tree.flatten(mask)
        ):
            return True
    return False


def _are_equal(one: Any, other: Any) -> bool:
    """Whether two symbolic tensors are the same function of the same tensors.

    In a model that was saved and loaded, layers receive masks that are computed by separate
    operations, besides those attached to the tensors.
    """
    if one is other:
        return True
    if not isinstance(one, keras.KerasTensor) or not isinstance(other, keras.KerasTensor):
        return type(one) is type(other) and one == other
    (operation, arguments), (other_operation, other_arguments) = (
        producer_of(one),
        producer_of(other),
    )
    if operation is not other_operation:
        if isinstance(operation, keras.layers.Layer):
            return False
        if type(operation) is not type(other_operation):
            return False
        if _options(operation) != _options(other_operation):
            return False
    parts, other_parts = keras.tree.flatten(arguments), keras.tree.flatten(other_arguments)
    return len(parts) == len(other_parts) and all(map(_are_equal, parts, other_parts))


def _options(operation: Any) -> dict[str, Any]:
    """The configuration of an operation that is not a layer, without its name."""
    return {
        name: value
        for name, value in vars(operation).items()
        if name != "name" and not name.startswith("_")
    }
