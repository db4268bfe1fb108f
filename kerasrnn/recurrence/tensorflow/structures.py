"""The tensors of a structure as a list: `tf.function` and custom gradients take no None."""

from typing import Any

import tensorflow as tf
from keras import tree

from kerasrnn.recurrence.loop import Call

Tensor = Any


def leaves(structure: Any) -> list[Tensor]:
    """The leaves of a structure, without None."""
    return [x for x in tree.flatten(structure) if x is not None]


def filled(structure: Any, flat: Any) -> Any:
    """The inverse of `leaves`: the structure with new leaves."""
    values = iter(flat)
    return tree.map_structure(lambda x: None if x is None else next(values), structure)


def differentiated(call: Call) -> tuple[Any, ...]:
    return call.sequences, call.states, call.weights, call.memory


def replaced(call: Call, differentiated: tuple[Any, ...]) -> Call:
    sequences, states, weights, memory = differentiated
    return call._replace(sequences=sequences, states=states, weights=weights, memory=memory)


def length(x: tf.Tensor) -> tf.Tensor | int:
    return tf.shape(x)[0] if x.shape[0] is None else x.shape[0]
