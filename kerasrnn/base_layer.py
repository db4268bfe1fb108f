"""Shared by all layers: thread-safe building, inputs in the compute dtype, boolean masks.

Keras builds a layer in its first call, without a lock, and converts only floating-point inputs to
the layer's dtype. These base classes add both for every layer of the library.
"""

import functools
import inspect
import threading
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.keras_internals import get_keras_mask, set_keras_mask

Tensor = Any

# One lock for all layers: a layer builds the layers inside it, so separate locks could be acquired
# in different orders. It is held while weights are created, never while a layer computes.
_BUILDING = threading.RLock()

_NOT_NUMBERS = ("str", "bytes", "object", "void", "datetime", "timedelta", "variant", "resource")


class BaseLayer(keras.layers.Layer):
    """The base class of every layer: it is built once, even if several threads call it first.

    A subclass may override `call` with fewer arguments than its base class, as Python code often
    does (`call(self, x)`, `call(self, *args, **kwargs)`). Keras matches the arguments of `build`
    with those of `call` by name, so it reads the signature of the base class.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        layer = super().__new__(cls, *args, **kwargs)
        build = layer.build  # wrapped by Keras: it marks the layer as built

        @functools.wraps(build)
        def build_once(*args: Any, **kwargs: Any) -> None:
            before = layer.built
            with _BUILDING:
                if layer.built == before:  # otherwise another thread has built it
                    build(*args, **kwargs)

        layer.build = build_once
        return layer

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        call = vars(cls).get("call")
        extended = next((k for k in cls.__mro__[1:] if "call" in vars(k)), None)
        if inspect.isfunction(call) and issubclass(extended, BaseLayer):
            cls.call = _with_arguments_of(call, inspect.signature(extended.call))


class SequenceLayer(BaseLayer):
    """The base class of layers with numeric inputs: rejects anything but dense numeric tensors.

    The check runs before anything is built or computed, and the error names the argument.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        names = self.call_signature_parameters
        for n, (name, value) in enumerate((*zip(names, args, strict=False), *kwargs.items())):
            if n == 0 and isinstance(value, (list, tuple, dict)):
                raise ValueError(
                    f"{self.name}: {name} is a {type(value).__name__} of length {len(value)}; "
                    "expected one array or tensor. Stack arrays of equal shape with np.stack; pad "
                    "sequences of different lengths with keras.utils.pad_sequences, and mark the "
                    "padding with `mask`."
                )
            for tensor in keras.tree.flatten(value):
                _check_numbers(f"{self.name}: {name}", tensor)
        return super().__call__(*args, **kwargs)

    def in_compute_dtype(self, x: Tensor) -> Tensor:
        """Cast a tensor to the layer's compute dtype; True becomes 1."""
        x = ops.convert_to_tensor(x)
        if keras.backend.standardize_dtype(x.dtype) == self.compute_dtype:
            return x
        return ops.cast(x, self.compute_dtype)


def boolean_mask(
    name: str,
    mask: Any,
    shape: Sequence[int | None] | None = None,
    axes: str = "(batch, time)",
    used: str = "a step is used",
) -> Tensor:
    """Convert a mask to a boolean tensor.

    Args:
        name: names of the layer and the argument, for errors.
        mask: boolean, or numbers that are 0 or 1. Inside a compiled function, where values are
            unknown, every number other than 0 counts as 1.
        shape: the expected shape, with None for an unknown size. Default: any shape with as many
            axes as `axes`.
        axes: names of the axes.
        used: the meaning of True.

    Raises:
        ValueError: the shape or the values are invalid.
    """
    if isinstance(mask, (list, tuple)):
        raise ValueError(
            f"{name} is a {type(mask).__name__}; expected a boolean array or tensor {axes}."
        )
    _check_numbers(name, mask)
    mask = ops.convert_to_tensor(mask)
    shape = (None,) * (axes.count(",") + 1) if shape is None else tuple(shape)
    if not fits(mask.shape, shape):
        raise ValueError(
            f"{name} has the shape {tuple(mask.shape)}; expected {axes} = {shape}, True where "
            f"{used}."
        )
    if keras.backend.standardize_dtype(mask.dtype) == "bool":
        return mask
    values = validation.known(mask)
    if values is not None:
        wrong = values[(values != 0) & (values != 1)]  # NaN included
        if wrong.size:
            raise ValueError(
                f"{name} holds the value {wrong[0]!s}; expected booleans, or numbers that are 0 "
                "or 1."
            )
    return ops.cast(mask, "bool")


def row_mask(name: str, rows: Any, count: int) -> Tensor:
    """Convert the choice of some rows of a batch to a boolean tensor `(batch,)`.

    Args:
        name: names of the layer and the argument, for errors.
        rows: indices of rows, or booleans `(batch,)`. Inside a compiled function, where values are
            unknown, indices that are out of range choose no row.
        count: the number of rows in the batch.

    Raises:
        ValueError: an index is out of range, or the mask has another shape.
    """
    if isinstance(rows, (list, tuple)) and not rows:
        rows = np.zeros(0, "int32")
    tensor = validation.tensor(name, rows)
    dtype, values = keras.backend.standardize_dtype(tensor.dtype), validation.known(tensor)
    indices = "int" in dtype and len(tensor.shape) < 2
    if indices and values is not None:
        indices = bool(np.all((values >= 0) & (values < count)))
    if not (indices or (dtype == "bool" and tuple(tensor.shape) == (count,))):
        raise validation.ArgumentError(
            name, rows, f"indices from 0 to {count - 1}", f"booleans of shape ({count},)"
        )
    if dtype == "bool":
        return tensor
    numbers = ops.arange(count, dtype=dtype)
    return ops.any(ops.equal(ops.reshape(tensor, (-1, 1)), numbers), axis=0)


def check_steps(name: str, sequences: Tensor) -> None:
    """Raise ValueError if the number of steps is known to be zero."""
    if sequences.shape[1] == 0:
        raise ValueError(
            f"{name} of shape {tuple(sequences.shape)} have no steps; expected (batch, time, "
            "features) with time >= 1."
        )


def fits(shape: Sequence[int | None], expected: Sequence[int | None]) -> bool:
    """Whether a shape is compatible with the expected one; None matches any size."""
    return len(shape) == len(expected) and all(
        size is None or wanted is None or size == wanted
        for size, wanted in zip(shape, expected, strict=True)
    )


def _check_numbers(name: str, x: Any) -> None:
    """Raise ValueError if an argument is a tensor or an array, but not a dense numeric one."""
    kind = type(x).__name__
    if "Ragged" in kind:
        raise ValueError(
            f"{name} is a {kind}; expected a dense tensor. Pad it with `x.to_tensor()` and pass "
            "`mask=tf.sequence_mask(x.row_lengths())`."
        )
    if "Sparse" in kind or kind == "BCOO":
        raise ValueError(f"{name} is a {kind}; expected a dense tensor.")
    dtype = getattr(x, "dtype", None)
    if dtype is None:
        return
    dtype = str(getattr(dtype, "name", dtype)).removeprefix("torch.")
    if dtype.startswith(_NOT_NUMBERS):
        raise ValueError(
            f"{name} has the dtype {dtype}; expected numbers. Convert texts to ids with "
            "keras.layers.TextVectorization, labels with keras.layers.StringLookup."
        )
    if dtype.startswith("complex"):
        raise ValueError(
            f"{name} has the dtype {dtype}; expected real numbers: pass the real and the imaginary "
            "part as separate features."
        )


def _with_arguments_of(call: Callable[..., Any], extended: inspect.Signature) -> Callable[..., Any]:
    """Give an override of `call` the arguments of the method that it overrides.

    Arguments that the override lacks are dropped if they were not given, and rejected otherwise.
    `training` is always dropped, as in Keras; so is a mask that came with the first argument, which
    carries it on.
    """
    own = list(inspect.signature(call).parameters.values())[1:]
    kinds = {p.kind for p in own}
    named = [p for p in own if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    first, *expected = list(extended.parameters.values())[1:]
    rest = {p.name: p for p in named[1:]}
    missing = [p for p in expected if p.name not in rest]
    if named and named[0].name == first.name and not missing:
        return call
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        others = [p for name, p in rest.items() if name not in extended.parameters]
        shown = [first, *expected, *others]
    else:
        by_name = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in missing]
        shown = [first, *rest.values(), *by_name]
    signature = inspect.Signature(sorted(shown, key=lambda p: p.kind))
    takes_any = inspect.Parameter.VAR_KEYWORD in kinds

    @functools.wraps(call)
    def call_with_fewer(self: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        bound = dict(signature.bind(*args, **kwargs).arguments)
        x = bound.pop(first.name)
        passed = {}
        for name, value in bound.items():
            if name in rest or takes_any:
                passed[name] = value
            elif name == "mask" and value is not None and get_keras_mask(x) is not None:
                # A functional model computes it again, from the tensors that it was built from.
                if value is not get_keras_mask(x):
                    x = ops.copy(x)  # the caller's tensor keeps its own mask
                    set_keras_mask(x, value)
            elif not (value is None or name == "training"):
                raise ValueError(
                    f"{self.name}: {name} was given; {type(self).__name__}.call has no such "
                    "argument."
                )
        return call(self, x, **passed)

    itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    call_with_fewer.__signature__ = inspect.Signature([itself, *signature.parameters.values()])
    return call_with_fewer
