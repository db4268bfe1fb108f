"""Checks of the initial states that a layer is called with, apart from what it does with them."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kerasrnn.base_layer import fits
from kerasrnn.cells.states import flat_shapes
from kerasrnn.wording import counted


def check(
    layer: str, states: Sequence[Any], names: Sequence[str], shapes: list[Any], batch: int | None
) -> None:
    """Check the initial states of a kerasrnn cell.

    Args:
        layer: the name of the layer, for the errors.
        states: the initial states, each a tensor `(batch, ...)` or a structure of tensors.
        names: their names.
        shapes: their shapes, without the batch axis: see `states.py`.
        batch: the number of rows of the sequences, if it is known.

    Raises:
        ValueError: the number of states, the number of tensors of a state, or a shape is another.
    """
    if len(states) != len(shapes):
        raise ValueError(
            f"{layer}: initial_state has {counted(len(states), 'tensor')}; expected "
            f"{len(shapes)} ({', '.join(names)})."
        )
    for name, state, entry in zip(names, states, shapes, strict=True):
        of_state, expected = keras.tree.flatten(state), flat_shapes(entry)
        if len(of_state) != len(expected):
            raise ValueError(
                f"{layer}: initial_state {name} has {counted(len(of_state), 'tensor')}; "
                f"expected {len(expected)}, of the shapes {entry} per row."
            )
        for tensor, shape in zip(of_state, expected, strict=True):
            if not fits(tensor.shape, (batch, *shape)):
                axes = "(batch, units)" if len(shape) == 1 else "(batch, ...)"
                raise ValueError(
                    f"{layer}: initial_state {name} has the shape "
                    f"{tuple(ops.shape(tensor))}; expected {axes} = {(batch, *shape)}."
                )


def check_structure(layer: str, states: Sequence[Any], state_size: Sequence[Any]) -> None:
    """Check the initial states of another cell, whose shapes are unknown, or of a stack.

    Raises:
        ValueError: the structure, in numbers of tensors, is another.
    """
    counts = [len(s) if isinstance(s, (list, tuple)) else 1 for s in states]
    expected = [len(s) if isinstance(s, (list, tuple)) else 1 for s in state_size]
    if counts != expected:
        raise ValueError(
            f"{layer}: initial_state has the structure {counts}, in numbers of tensors; "
            f"expected {expected}, as the cell's state_size, {state_size}."
        )
