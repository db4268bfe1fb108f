"""Checks of a model's inputs, before Keras reads them."""

import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.base_layer import fits
from kerasrnn.keras_internals import is_concrete, operation_of
from kerasrnn.validation import ArgumentError
from kerasrnn.wording import counted
from kerasrnn.zoo import graph, reading

OF_TEXTS = "keras.layers.TextVectorization converts texts to ids."
OF_BATCHES = ("tensorflow.python.", "torch.utils.data", "grain.")
"""Where the classes of data in batches are defined."""

# Functions instead of a base class: Keras changes the bases of functional models.


def to_call(like: Any, inputs: Any, model: keras.Model | None = None) -> Any:
    """Validate and convert the inputs of a call; tensors are returned unchanged.

    Args:
        like: symbolic tensors in the structure of the model's inputs.
        inputs: the argument.
        model: a functional model, whose embeddings define the valid ids.

    Raises:
        ValueError: the inputs are invalid for the model.
    """
    tensors = keras.tree.flatten(inputs)
    if len(tensors) == len(keras.tree.flatten(like)) and all(map(is_tensor, tensors)):
        return inputs
    checked = CheckedInputs("inputs", like, model, read=False)(inputs)
    if any(map(is_tensor, keras.tree.flatten(checked))):  # Keras rejects arrays among tensors
        return keras.tree.map_structure(
            lambda x: ops.convert_to_tensor(x) if isinstance(x, np.ndarray) else x, checked
        )
    return checked


def to_predict(
    like: Any, x: Any, batch_size: int | None, model: keras.Model | None = None
) -> tuple[Any, int | None]:
    """Validate the arguments of `predict`; data in batches is returned unchanged.

    Args:
        like: see `to_call`.
        x: the argument.
        batch_size: the argument.
        model: see `to_call`.

    Raises:
        ValueError: `x` is invalid for the model; `batch_size` is not positive.
    """
    of_texts = isinstance(like, keras.KerasTensor) and like.dtype == "string"
    batched = comes_in_batches(x) and not (of_texts and isinstance(x, types.GeneratorType))
    batch_size = batch_size_of(like, batch_size, batched)
    return (x if batched else CheckedInputs("x", like, model, batch_size)(x)), batch_size


class CheckedInputs:
    """Validates the inputs of a model, and records their number of rows.

    Args:
        name: name of the argument.
        like: symbolic tensors in the structure of the model's inputs.
        model: a functional model, whose embeddings define the valid ids.
        batch_size: the batch size of a model with a fixed one.
        read: whether to validate tensors, which takes time if they are on another device.
    """

    def __init__(
        self,
        name: str,
        like: Any,
        model: keras.Model | None,
        batch_size: int | None = None,
        read: bool = True,
    ) -> None:
        self.name = name
        self.like = like
        self.batch_size = batch_size
        self.read = read
        self.ids = {} if model is None else graph.ids_of(model)
        self.joined = [] if model is None else graph.joined(model)
        self.may_be_missing = set() if model is None else graph.with_missing(model)
        self.may_be_empty = set() if model is None else graph.beginnings(model)
        self.rows: dict[str, int] = {}
        """Numbers of rows by argument name."""
        self.shapes: dict[str, tuple[int | None, ...]] = {}
        """Shapes by the name of the input."""

    def __call__(self, value: Any) -> Any:
        result = structured(
            self.name, self.like, value, self._one, lambda x: getattr(x, "name", None)
        )
        for names in self.joined:
            self._check_equal_steps(names)
        return result

    def count(self, name: str, rows: int | None) -> None:
        """Raise ValueError unless the number of rows equals that of the others."""
        if rows is None:
            return
        for other, count in self.rows.items():
            if count != rows:
                raise ValueError(
                    f"{name} has {rows} rows, and {other} {count}: expected equal numbers."
                )
        self.rows[name] = rows

    def _one(self, name: str, like: Any, value: Any) -> Any:
        """Validate one input."""
        value = only(name, like.name, value)
        if isinstance(value, (list, tuple)) and len(value) == 1:
            shape = getattr(value[0], "shape", None)  # for a list of arrays, one per input
            if shape is not None and len(shape) == len(like.shape):
                value = value[0]
        if value is None and getattr(operation_of(like), "optional", False):
            return None
        tensor = is_tensor(value)
        if like.sparse or (tensor and not (self.read and is_concrete(value))):
            shape = getattr(value, "shape", ())
            self.shapes[like.name] = tuple(shape)
            if like.name not in self.may_be_empty:
                check_has_steps(name, shape)
            self.count(name, shape[0] if len(shape) and isinstance(shape[0], int) else None)
            return value
        checked = self._texts if like.dtype == "string" else self._numbers
        converted = checked(name, like, value)
        self.shapes[like.name] = tuple(converted.shape)
        if like.name not in self.may_be_empty:
            check_has_steps(name, converted.shape)
        self._check_rows(name, like, len(converted))
        return value if tensor else converted

    def _check_equal_steps(self, names: Sequence[str]) -> None:
        """Raise ValueError unless these inputs have equal numbers of steps, as far as known."""
        steps_of = [(f"{self.name}[{name!r}]", self.shapes.get(name, ())[1:2]) for name in names]
        known = [(name, *steps) for name, steps in steps_of if steps not in ((), (None,))]
        for name, steps in known[1:]:
            first, expected = known[0]
            if steps != expected:
                raise ValueError(
                    f"{name} has {counted(steps, 'step')}, and {first} {expected}: expected equal "
                    "numbers."
                )

    def _texts(self, name: str, like: Any, value: Any) -> Any:
        if len(like.shape) == 1:
            return ops.convert_to_tensor(reading.as_texts(name, value))
        array = shaped(name, like.shape, validation.array(name, value))
        texts = np.array(reading.as_texts(name, array.ravel())).reshape(array.shape)
        return ops.convert_to_tensor(texts)

    def _numbers(self, name: str, like: Any, value: Any) -> np.ndarray:
        array = shaped(name, like.shape, validation.numbers(name, value, OF_TEXTS))
        if "float" in like.dtype:
            missing = like.name in self.may_be_missing
            validation.finite(name, array, like.dtype, _axes(like), missing)
        elif "int" in like.dtype:
            bounds = np.iinfo(like.dtype)
            ids = self.ids.get(like.name)
            minimum, maximum = (bounds.min, bounds.max) if ids is None else (0, ids - 1)
            validation.integers(name, array, minimum, maximum)
            if array.dtype.kind not in "iu":
                array = array.astype(like.dtype)
        return array

    def _check_rows(self, name: str, like: Any, rows: int) -> None:
        size = like.shape[0]
        if size is not None and (rows % size if self.batch_size else rows != size):
            raise ValueError(
                f"{name} has {rows} rows: expected {'a multiple of ' if self.batch_size else ''}"
                f"{size}, the batch size of the model."
            )
        self.count(name, rows)


def structured(
    name: str,
    like: Any,
    value: Any,
    check: Callable[..., Any],
    key_of: Callable[[Any], Any],
) -> Any:
    """Apply a check to each part of a value in the structure of a model's inputs or outputs.

    Args:
        name: name of the argument.
        like: symbolic tensors in the structure.
        value: value of the argument.
        check: `check(name, tensor, part)` returns the part to use.
        key_of: names a symbolic tensor.
    """
    if isinstance(like, keras.KerasTensor):
        return check(name, like, value)
    if len(like) == 1:
        if not isinstance(like, dict):
            return [structured(name, like[0], value, check, key_of)]
        ((key, part),) = like.items()
        if isinstance(value, Mapping) and key in value:
            value = value[key]
        return {key: structured(name, part, value, check, key_of)}
    keys = list(like) if isinstance(like, dict) else [key_of(x) for x in like]
    parts = list(like.values()) if isinstance(like, dict) else list(like)
    shown = ", ".join(map(str, keys))
    if isinstance(value, Mapping):
        missing = [key for key in keys if key not in value]
        if missing:
            raise ValueError(f"{name} has no {missing[0]!r}: expected a dict of {shown}.")
        items = [value[key] for key in keys]
    elif isinstance(like, dict) or not isinstance(value, (list, tuple)):
        kind = "dict" if isinstance(like, dict) else "list or a dict"
        raise ArgumentError(name, value, f"a {kind} of {len(keys)} arrays: {shown}")
    else:
        items = list(value)
        if len(items) != len(keys):
            raise ValueError(f"{name} has {len(items)} entries: expected {len(keys)}, for {shown}.")
    checked = [
        structured(f"{name}[{key!r}]", part, each, check, key_of)
        for key, part, each in zip(keys, parts, items, strict=True)
    ]
    return dict(zip(keys, checked, strict=True)) if isinstance(like, dict) else checked


def only(name: str, key: str, value: Any) -> Any:
    """The value in a dict for a model's only input or output; other values unchanged."""
    if not isinstance(value, Mapping):
        return value
    if key not in value:
        raise ValueError(f"{name} has no {key!r}: expected it, or an array.")
    return value[key]


def shaped(name: str, shape: Any, value: Any, advice: str = "") -> Any:
    """Bring an array or a tensor to a symbolic shape: a last axis of size 1 is added or removed.

    Keras reshapes it, too, but fails if a function was traced with the other shape before.

    Raises:
        ValueError: the shape does not match.
    """
    actual = tuple(value.shape)
    if len(actual) == len(shape) + 1 and actual[-1] == 1:
        value = value[..., 0]
    elif len(actual) == len(shape) - 1 and shape[-1] == 1:
        value = value[..., None]
    if value.shape and fits(tuple(value.shape)[1:], shape[1:]):
        return value
    if not advice and len(actual) == len(shape) - 1 and fits(actual, shape[1:]):
        advice = " A batch of this one row is x[np.newaxis]."
    sizes = ["batch", *map(str, shape[1:])]
    if shape[1:2] == (None,):
        sizes[1] = "time"
    expected = f"({', '.join(sizes)}{',' * (len(sizes) == 1)})"
    raise ValueError(f"{name} has the shape {actual}: expected {expected}.{advice}")


def check_has_steps(name: str, shape: Any) -> None:
    """Raise ValueError if there are no steps. Keras's errors depend on what was traced before."""
    if 0 in tuple(shape)[1:]:
        raise ValueError(f"{name} has the shape {tuple(shape)}: expected at least one step.")


def _axes(like: Any) -> list[str]:
    """Names of an input's axes, for messages."""
    axes = ["row"]
    if len(like.shape) > 1 and like.shape[1] is None:
        axes.append("step")
    if len(like.shape) == len(axes) + 1:
        axes.append("column")
    return axes


def batch_size_of(like: Any, size: int | None, batched: bool) -> int | None:
    """The batch size of `fit`, `evaluate` or `predict`, or the fixed one of the model."""
    if size is not None:
        size = validation.positive_integer("batch_size", size)
    fixed = next((x.shape[0] for x in keras.tree.flatten(like) if x.shape[0] is not None), None)
    if batched or fixed is None:
        return size
    if size not in (None, fixed):
        raise ArgumentError("batch_size", size, f"{fixed}, the batch size of the model")
    return fixed


def is_tensor(value: Any) -> bool:
    """Whether a value is a dense tensor of the backend, symbolic or not."""
    if isinstance(value, (keras.KerasTensor, keras.Variable)):
        return True
    return ops.is_tensor(value) and "Ragged" not in type(value).__name__


def comes_in_batches(value: Any) -> bool:
    """Whether Keras reads the data in batches: a dataset, a loader or a generator."""
    if isinstance(value, (types.GeneratorType, keras.utils.PyDataset)):
        return True
    if hasattr(value, "__array__") or is_tensor(value) or "Ragged" in type(value).__name__:
        return False
    return any(parent.__module__.startswith(OF_BATCHES) for parent in type(value).__mro__)
