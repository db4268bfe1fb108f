"""A model's inputs and outputs as in a file: flat, with names and named dimensions."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import keras

from kerasrnn.keras_internals import operation_of
from kerasrnn.wording import counted

Tensor = Any


def inputs(model: keras.Model) -> tuple[list[str], list[keras.KerasTensor]]:
    """Names and symbolic tensors of a model's inputs.

    Raises:
        ValueError: the model has no symbolic inputs.
    """
    tensors = getattr(model, "inputs", None)
    if not tensors:
        raise ValueError(
            f"model {model.name!r} has no symbolic inputs: expected a functional or a Sequential "
            "model that starts with keras.Input."
        )
    # The layers' names, since a Sequential model's tensor may have a different one.
    return [operation_of(tensor).name for tensor in tensors], list(tensors)


def output_names(model: keras.Model) -> list[str]:
    """Names of a model's outputs, distinct from each other and from the inputs' names.

    Outputs in a dictionary are named by its keys, joined by an underscore if nested. Other outputs
    have the names of the layers that compute them, numbered if a layer has several. An output that
    is also an input has the input's name, followed by `_output`.
    """
    preferred = [
        "_".join(map(str, path))
        if any(isinstance(key, str) for key in path)
        else operation_of(tensor).name
        for path, tensor in keras.tree.flatten_with_path(_structure(model, "output"))
    ]
    taken = set(inputs(model)[0])
    preferred = [f"{name}_output" if name in taken else name for name in preferred]
    counts, numbers = Counter(preferred), Counter()
    names = []
    for name in preferred:
        unique = name
        while unique in taken or (unique == name and counts[name] > 1):
            unique = f"{name}_{numbers[name]}"
            numbers[name] += 1
        taken.add(unique)
        names.append(unique)
    return names


def call(model: keras.Model, tensors: Sequence[Tensor]) -> list[Tensor]:
    """The model's outputs for its inputs, both flat."""
    return keras.tree.flatten(model(packed(model, tensors), training=False))


def packed(model: keras.Model, tensors: Sequence[Tensor]) -> Any:
    """Flat inputs in the structure of the model's call."""
    return keras.tree.pack_sequence_as(_structure(model, "input"), list(tensors))


def flattened(model: keras.Model, batch: Any) -> list[Any]:
    """One array for each input, from a batch in the structure of the model's call.

    Raises:
        ValueError: the batch does not have the model's structure.
    """
    names, tensors = inputs(model)
    if isinstance(batch, (dict, list, tuple)):
        structure = _structure(model, "input")
        if isinstance(batch, (list, tuple)) and len(batch) == len(names):
            flat = list(batch)
            if not any(isinstance(each, (dict, list, tuple)) for each in flat):
                return flat
        try:
            keras.tree.assert_same_structure(
                keras.tree.lists_to_tuples(batch), keras.tree.lists_to_tuples(structure)
            )
        except (TypeError, ValueError):
            pass
        else:
            return keras.tree.flatten(batch)
    elif len(tensors) == 1:
        return [batch]
    raise ValueError(
        f"check: a batch {_described(batch)}; expected the structure that model {model.name!r} is "
        f"called with, an array for each of its inputs: {', '.join(names)}."
    )


def dimensions(
    model: keras.Model,
) -> tuple[list[tuple[int | str, ...]], list[tuple[int | str, ...]]]:
    """The shapes of the inputs and outputs, with each unknown size replaced by a name.

    The first axis is `batch`; the second is `time`, or `<input>_time` if several inputs have a time
    axis, since their lengths may differ. A size of an output has the name of an input's size if the
    two are always equal. Any other size has a separate name, `<name>_axis_<number>`.
    """
    names, tensors = inputs(model)
    timed = sum(len(tensor.shape) > 1 and tensor.shape[1] is None for tensor in tensors)

    def named(name: str, axis: int) -> str:
        if axis == 0:
            return "batch"
        if axis == 1:
            return "time" if timed == 1 else f"{name}_time"
        return f"{name}_axis_{axis}"

    shapes_in = [
        tuple(named(name, axis) if size is None else size for axis, size in enumerate(x.shape))
        for name, x in zip(names, tensors, strict=True)
    ]
    symbols = sorted({size for shape in shapes_in for size in shape if isinstance(size, str)})
    measured = [
        _output_shapes(
            model, shapes_in, {symbol: first + 4 * n for n, symbol in enumerate(symbols)}
        )
        for first in (11, 31)
    ]
    shapes_out = []
    for k, (name, x) in enumerate(zip(output_names(model), model.outputs, strict=True)):
        shape = []
        for axis, size in enumerate(x.shape):
            if size is None:
                sizes = [of_all[k][axis] if of_all else None for of_all in measured]
                same = (s for n, s in enumerate(symbols) if sizes == [11 + 4 * n, 31 + 4 * n])
                size = next(same, f"{name}_axis_{axis}")
            shape.append(size)
        shapes_out.append(tuple(shape))
    return shapes_in, shapes_out


def _output_shapes(
    model: keras.Model, shapes: Sequence[Sequence[int | str]], sizes: dict[str, int]
) -> list[tuple[int | None, ...]] | None:
    """The outputs' shapes for inputs of some sizes; None if the model does not support these."""
    tensors = [
        keras.KerasTensor([sizes.get(size, size) for size in shape], x.dtype)
        for shape, x in zip(shapes, model.inputs, strict=True)
    ]
    try:
        outputs = model.compute_output_spec(packed(model, tensors))
    except Exception:  # a layer may raise anything
        return None
    return [tuple(y.shape) for y in keras.tree.flatten(outputs)]


def _structure(model: keras.Model, side: str) -> Any:
    """The symbolic inputs or outputs in the structure of a call."""
    if isinstance(model, keras.Sequential):
        tensors = getattr(model, f"{side}s")
        return tensors[0] if len(tensors) == 1 else tensors
    return getattr(model, side)


def _described(batch: Any) -> str:
    if isinstance(batch, dict):
        return f"with the keys {', '.join(map(repr, batch))}"
    if isinstance(batch, (list, tuple)):
        return f"of {counted(len(batch), 'array')}"
    return "of one array"
