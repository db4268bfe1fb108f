"""Detects whether a layer is called with an explicit mask."""

from typing import Any

import keras

from kerasrnn.keras_internals import get_keras_mask, made_by, nodes_of


def is_given_a_mask(layer: keras.layers.Layer) -> bool:
    """Whether it is called with a mask other than that of its sequences."""
    for node in nodes_of(layer):
        mask = node.arguments.kwargs.get("mask")
        carried = [get_keras_mask(x) for x in node.input_tensors]
        if any(
            m is not None and not any(_is_the_same(m, c) for c in carried)
            for m in keras.tree.flatten(mask)
        ):
            return True
    return False


def _is_the_same(one: Any, other: Any) -> bool:
    """Whether two symbolic tensors are the same function of the same tensors.

    In a model that was saved and loaded, layers receive masks that are computed by separate
    operations, besides those attached to the tensors.
    """
    if one is other:
        return True
    if not isinstance(one, keras.KerasTensor) or not isinstance(other, keras.KerasTensor):
        return type(one) is type(other) and one == other
    (made, arguments), (other_made, other_arguments) = made_by(one), made_by(other)
    if made is not other_made:
        if isinstance(made, keras.layers.Layer) or type(made) is not type(other_made):
            return False
        if _options(made) != _options(other_made):
            return False
    parts, other_parts = keras.tree.flatten(arguments), keras.tree.flatten(other_arguments)
    return len(parts) == len(other_parts) and all(map(_is_the_same, parts, other_parts))


def _options(operation: Any) -> dict[str, Any]:
    """The configuration of an operation that is not a layer, without its name."""
    return {
        name: value
        for name, value in vars(operation).items()
        if name != "name" and not name.startswith("_")
    }
