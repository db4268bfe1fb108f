"""A single step of a cell, outside the time loop: what `Cell.call` computes."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from kerasrnn.base_layer import fits
from kerasrnn.cells.states import check_shapes, flat_shapes
from kerasrnn.recurrence.checks import check_noise, check_products, check_returned, check_step
from kerasrnn.recurrence.loop import Noise, Weights, state_dtype
from kerasrnn.wording import counted

Tensor = Any


def single_step(
    cell: Any, inputs: Tensor, states: Any, training: bool | None, memory: Mapping[str, Tensor]
) -> tuple[Tensor, Any]:
    """Compute one step, as the time loop does, with the prepared memory if the cell reads one.

    Returns:
        `(output, new_states)`; the states have the same structure as `states`.
    """
    nested = isinstance(states, (list, tuple))
    inputs = cell.in_compute_dtype(inputs)
    previous = list(states) if nested else [states]
    previous = keras.tree.map_structure(cell.in_compute_dtype, previous)
    _check_states(cell, previous)
    noise, weights = Noise(), cell.weights_by_name()
    if training:
        noise = cell.draw_noise(inputs, previous)
        check_noise(cell, noise, inputs.shape[0])
        weights = cell.weights_of_call(cell.drop_weights(weights), inputs, None, noise)
    everything = Weights(weights, memory, noise.of_one_step(), training=bool(training))
    used = cell.used_in_step(weights, dict(memory))
    products = cell.recurrent_products(everything)
    previous = keras.tree.map_structure(cell.into_step, previous)
    check_products(cell, products)
    precise = state_dtype(cell.compute_dtype)
    a, previous, used = keras.tree.map_structure(
        lambda x: ops.cast(x, precise), (cell.input_part(inputs, everything), previous, used)
    )
    returned = cell.step(
        a, previous, Weights(*used, noise.of_one_step(), training=bool(training)), products
    )
    check_returned(cell, returned)
    output, new = returned
    check_step(cell, output, new, None, previous)
    output, new = keras.tree.map_structure(
        lambda x: cell.in_compute_dtype(cell.out_of_step(x)), (output, list(new))
    )
    return output, new if nested else new[0]


def _check_states(cell: Any, states: list[Any]) -> None:
    """Raise ValueError unless the states have the structure and shapes of `state_shapes`."""
    check_shapes(cell.state_names, cell.state_shapes)
    if len(states) != len(cell.state_names):
        raise ValueError(
            f"states: expected {len(cell.state_names)} ({', '.join(cell.state_names)}), "
            f"received {len(states)}."
        )
    for name, state, shapes in zip(cell.state_names, states, cell.state_shapes, strict=True):
        received, expected = len(keras.tree.flatten(state)), len(flat_shapes(shapes))
        if received != expected:
            raise ValueError(
                f"states: {name} has {counted(received, 'tensor')}; expected {expected}, {shapes}."
            )
        for tensor, shape in zip(keras.tree.flatten(state), flat_shapes(shapes), strict=True):
            if not fits(tensor.shape[1:], shape):
                raise ValueError(
                    f"states: {name} has the shape {tuple(tensor.shape)}; expected "
                    f"{(None, *shape)}."
                )
