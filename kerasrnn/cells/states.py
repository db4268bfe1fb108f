"""The shapes of a cell's states: a list with an entry for each state.

An entry is a tuple, the shape without the batch axis, of any rank, with None for a size that is
unknown before the cell is built or a memory is given; or a list or dict of entries, for a state
that is itself a structure of tensors.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

Shape = tuple[int | None, ...]


def is_shape(entry: Any) -> bool:
    """Whether an entry is the shape of one tensor, not a structure of entries."""
    return isinstance(entry, tuple) and all(n is None or isinstance(n, int) for n in entry)


def check_shapes(names: tuple[str, ...], shapes: Any, unknown: bool = True) -> None:
    """Raise ValueError unless these are the shapes of the states with these names.

    Args:
        names: the names.
        shapes: a list with an entry for each of them.
        unknown: whether a size may be None.
    """
    if not isinstance(shapes, (list, tuple)) or is_shape(shapes) or len(shapes) != len(names):
        raise ValueError(
            f"state_shapes={shapes!r}: expected a list with an entry for each state, "
            f"{', '.join(names)}."
        )
    for name, entry in zip(names, shapes, strict=True):
        if not _is_entry(entry):
            raise ValueError(
                f"state_shapes: {name} has {entry!r}; expected a tuple of integers, without the "
                "batch axis, or a list or dict of such tuples."
            )
        if not unknown and any(None in shape for shape in flat_shapes(entry)):
            raise ValueError(
                f"state_shapes: {name} has {entry!r}; expected sizes that are known once the cell "
                "is built."
            )


def _is_entry(entry: Any) -> bool:
    """Whether this is a shape, or a structure with at least one shape."""
    if is_shape(entry) or not isinstance(entry, (list, tuple, dict)):
        return is_shape(entry)
    parts = list(entry.values()) if isinstance(entry, dict) else entry
    return bool(parts) and all(_is_entry(part) for part in parts)


def map_shapes(function: Callable[[Shape], Any], shapes: Any) -> Any:
    """Apply a function to every shape, and return the results in the same structure.

    The order is that of `flat_shapes`.

    >>> map_shapes(len, [(4,), {"key": (4, 2), "value": (4,)}])
    [1, {'key': 2, 'value': 1}]
    """
    if is_shape(shapes):
        return function(shapes)
    if isinstance(shapes, dict):
        return {name: map_shapes(function, shapes[name]) for name in sorted(shapes)}
    return [map_shapes(function, entry) for entry in shapes]


def flat_shapes(shapes: Any) -> list[Shape]:
    """All shapes, in the order in which `keras.tree.flatten` lists the tensors."""
    if is_shape(shapes):
        return [shapes]
    entries = [shapes[name] for name in sorted(shapes)] if isinstance(shapes, dict) else shapes
    return [shape for entry in entries for shape in flat_shapes(entry)]


def named_shapes(names: tuple[str, ...], shapes: list[Any]) -> Iterator[tuple[str, Shape]]:
    """Every shape with a name: the state's name, followed by the position of the tensor in it.

    >>> list(named_shapes(("h", "memory"), [(4,), {"key": (4, 2), "value": (4,)}]))
    [('h', (4,)), ('memory_key', (4, 2)), ('memory_value', (4,))]
    """
    for name, entry in zip(names, shapes, strict=True):
        if is_shape(entry):
            yield name, entry
            continue
        keys = sorted(entry) if isinstance(entry, dict) else range(len(entry))
        of_entry = tuple(f"{name}_{key}" for key in keys)
        yield from named_shapes(of_entry, [entry[key] for key in keys])


def size_of(shape: Shape) -> int:
    """The number of elements of one row."""
    return math.prod(shape)


def as_keras(shapes: list[Any]) -> list[Any]:
    """The shapes as Keras's `state_size`, in which an integer is the width of a vector."""
    return map_shapes(lambda shape: shape[0] if len(shape) == 1 else shape, shapes)
