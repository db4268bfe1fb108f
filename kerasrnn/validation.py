"""Checks of arguments, declared by annotations of constructors and functions.

`checked` checks every call of a function against its annotations:

    @validation.checked
    def __init__(self, units: PositiveInteger, dropout: Rate = 0.0, use_bias: bool = True): ...

An argument annotated with `bool` accepts only True and False, `int` integers, `float` finite
numbers, `str` strings, `str | Path` paths, `keras.Model` models, `keras.layers.Layer` layers, and
`Literal[...]` its values. `PositiveInteger`, `Rate` and the other names below are narrower. Other
annotations are not checked. What no annotation can express is checked by calling a function:

    self.activation = validation.activation("activation", activation)

Each check returns the value to use, in its canonical Python type, or raises a ValueError that names
the argument, the value and what was expected.
"""

import functools
import inspect
import math
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar, Union

import keras
import numpy as np

Checked = TypeVar("Checked", bound=Callable[..., Any])
Check = Callable[[str, Any], Any]
"""`check(name, value)` returns the value to use or raises `ArgumentError`."""


class ArgumentError(ValueError):
    """An argument has an invalid value."""

    def __init__(self, name: str, value: Any, *expected: str) -> None:
        super().__init__(f"{name}={_shown(value)}: expected {_listed(expected)}.")
        self.expected = expected
        """The valid alternatives."""


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def boolean(name: str, value: Any) -> bool:
    """Return a bool. Strings, numbers and None are rejected."""
    if not isinstance(value, (bool, np.bool_)):
        raise ArgumentError(name, value, "True", "False")
    return bool(value)


def integer(name: str, value: Any, minimum: int | None = None, maximum: int | None = None) -> int:
    """Return an int within the bounds, both inclusive. A bool is rejected."""
    if (
        isinstance(value, (bool, np.bool_))
        or not isinstance(value, Integral)
        or (minimum is not None and value < minimum)
        or (maximum is not None and value > maximum)
    ):
        raise ArgumentError(name, value, _describe_integer(minimum, maximum))
    return int(value)


def positive_integer(name: str, value: Any) -> int:
    """Return an int of at least 1."""
    return integer(name, value, minimum=1)


def number(
    name: str,
    value: Any,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> float:
    """Return a finite float: at least `minimum`, at most `maximum`, over `above`, under `below`."""
    if not _is_finite(value) or not (
        (minimum is None or value >= minimum)
        and (maximum is None or value <= maximum)
        and (above is None or value > above)
        and (below is None or value < below)
    ):
        raise ArgumentError(name, value, _describe_number(minimum, maximum, above, below))
    return float(value)


def positive_number(name: str, value: Any) -> float:
    """Return a finite float above 0."""
    return number(name, value, above=0)


def rate(name: str, value: Any) -> float:
    """Return a float in [0, 1), the range of a dropout rate."""
    return number(name, value, minimum=0, below=1)


def rates(name: str, value: Any) -> float | list[float]:
    """Return a float in [0, 1), or a list of them."""
    if isinstance(value, (list, tuple)) and value:
        return [rate(f"{name}[{n}]", each) for n, each in enumerate(value)]
    try:
        return rate(name, value)
    except ArgumentError as error:
        raise ArgumentError(name, value, *error.expected, "a list of such numbers") from None


def sizes(name: str, value: Any) -> tuple[int, ...]:
    """Return a tuple of positive integers, from a sequence of them."""
    if isinstance(value, (str, bytes)) or not isinstance(value, (Sequence, np.ndarray)):
        raise ArgumentError(name, value, "a sequence of positive integers")
    try:
        return tuple(positive_integer(name, size) for size in value)
    except ArgumentError:
        raise ArgumentError(name, value, "a sequence of positive integers") from None


def sequence(name: str, value: Any) -> list[Any]:
    """Return a list, from a list, a tuple or an array."""
    if not isinstance(value, (list, tuple)) and not (isinstance(value, np.ndarray) and value.ndim):
        raise ArgumentError(name, value, "a list")
    return list(value)


def string(name: str, value: Any) -> str:
    """Return a str."""
    if not isinstance(value, str):
        raise ArgumentError(name, value, "a string")
    return str(value)


def path(name: str, value: Any) -> Any:
    """Return a path: a non-empty string or a `pathlib.Path`."""
    if not isinstance(value, (str, Path)) or not str(value) or "\0" in str(value):
        raise ArgumentError(name, value, "a path")
    return value


def model(name: str, value: Any) -> keras.Model:
    """Return a Keras model."""
    if not isinstance(value, keras.Model):
        raise ArgumentError(name, value, "a keras.Model")
    return value


def layer(name: str, value: Any) -> keras.layers.Layer:
    """Return a Keras layer, which may be a model."""
    if not isinstance(value, keras.layers.Layer):
        raise ArgumentError(name, value, "a Keras layer")
    return value


def tensor(name: str, value: Any) -> Any:
    """Return a tensor of the backend, from an array, a tensor or real numbers in lists."""
    expected = "an array or a tensor of real numbers"
    _refuse_sparse(name, value)
    try:
        converted = keras.ops.convert_to_tensor(value)
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise ArgumentError(name, value, expected) from error
    if keras.backend.standardize_dtype(converted.dtype) in ("string", "complex64", "complex128"):
        raise ArgumentError(name, value, expected)
    return converted


def known(tensor: Any) -> "np.ndarray | None":
    """The values of a tensor; None if there are none, while a function is traced."""
    try:
        return np.asarray(keras.ops.convert_to_numpy(tensor))
    except Exception:  # every backend raises a different one
        return None


def ids(name: str, value: Any) -> Any:
    """Return an int32 tensor of ids, from integers or integral numbers.

    Values outside the range of int32 are rejected. In a graph, where values are unknown, they
    become the largest int32, an id that is out of every range.
    """
    if isinstance(value, np.ndarray):  # before conversion: JAX keeps only 32 of 64 bits
        _check_ids(name, value)
    original = tensor(name, value)
    ids = keras.ops.cast(original, "int32")
    dtype = keras.backend.standardize_dtype(original.dtype)
    if dtype in ("bool", "int8", "uint8", "int16", "uint16", "int32"):
        return ids
    values = known(original)
    if values is not None:
        _check_ids(name, values)
        return ids
    return keras.ops.where(keras.ops.cast(ids, dtype) == original, ids, np.iinfo("int32").max)


def _check_ids(name: str, values: np.ndarray) -> None:
    if values.dtype.kind in "iuf":
        integers(name, values, np.iinfo("int32").min, np.iinfo("int32").max)


def array(name: str, value: Any) -> np.ndarray:
    """Return an array of at least one row, from an array, a tensor, a DataFrame or a list of rows.

    Sequences of different lengths, ragged and sparse tensors and masked entries are rejected, each
    with its own message.
    """
    expected = "an array, or rows in a list"
    if value is None or isinstance(value, (str, bytes, dict, set, frozenset)):
        raise ArgumentError(name, value, expected)
    _refuse_sparse(name, value)
    if np.ma.is_masked(value):
        raise ValueError(
            f"{name} has masked entries: expected none. x.filled(number) replaces them."
        )
    try:
        if keras.ops.is_tensor(value):
            values = np.asarray(keras.ops.convert_to_numpy(value))
        else:
            values = np.asarray(value)
            first = values.flat[0] if values.dtype == object and values.ndim and values.size else ""
            if hasattr(first, "__len__") and not isinstance(first, (str, bytes)):
                values = np.asarray(values.tolist())  # an array of rows
    except Exception as error:  # each array library raises different errors
        if "inhomogeneous" not in str(error):
            raise ArgumentError(name, value, expected) from error
        raise ValueError(
            f"{name} has rows of different lengths: expected one length. Pad them: "
            "keras.utils.pad_sequences(rows, dtype='float32', padding='post')."
        ) from None
    if values.ndim == 0:
        raise ArgumentError(name, value, expected)
    if len(values) == 0:
        raise ArgumentError(name, value, "at least one row")
    return values


def _refuse_sparse(name: str, value: Any) -> None:
    """Raise ValueError for what is not dense: ragged and sparse tensors and matrices."""
    kind = type(value).__name__
    if "Ragged" in kind:
        raise ValueError(f"{name} is a {kind}: expected a dense array. Pad it: x.to_tensor().")
    if "Sparse" in kind or kind == "BCOO" or hasattr(value, "tocsr"):
        raise ValueError(f"{name} is a {kind}: expected a dense array.")


def numbers(name: str, value: Any, advice: str = "") -> np.ndarray:
    """Return an array of real numbers or booleans: see `array`.

    Args:
        name: name of the argument.
        value: the argument.
        advice: how to convert texts to numbers, for the error if there are any.
    """
    values = array(name, value)
    if values.dtype == object:
        # Converted at once, "1" would be read as a number, and None as NaN.
        converted = np.empty(values.shape)
        for index, each in np.ndenumerate(values):
            try:
                if isinstance(each, (str, bytes)):
                    raise TypeError
                converted[index] = float(each)
            except (TypeError, ValueError, OverflowError):
                _refuse_number(name, index, each, advice)
        return converted
    if values.dtype.kind in "US":
        _refuse_number(name, (0,) * values.ndim, values.flat[0], advice)
    if values.dtype.kind not in "biuf" and values.dtype.name != "bfloat16":
        raise ValueError(f"{name} has the dtype {values.dtype}: expected real numbers.")
    return values


def finite(
    name: str,
    value: np.ndarray,
    dtype: str,
    axes: Sequence[str] = ("row",),
    missing: bool = False,
) -> None:
    """Raise ValueError unless all numbers of an array are finite, also after a cast.

    Args:
        name: name of the argument.
        value: numbers, as returned by `numbers`.
        dtype: the floating-point type of the cast.
        axes: names of the first axes.
        missing: whether NaN is valid, as a missing value.
    """
    if value.dtype.kind in "biu" or not value.size:
        return
    limit = float(np.finfo("float32" if dtype == "bfloat16" else dtype).max)
    with np.errstate(all="ignore"):
        # NaN if there is one. Allocates nothing of the array's size.
        if float(value.min()) >= -limit and float(value.max()) <= limit:
            return
        wrong = ~(np.abs(value.astype("float64")) <= limit)
    if missing:
        wrong &= ~np.isnan(value)
        if not wrong.any():
            return
    index = tuple(map(int, np.unravel_index(wrong.argmax(), value.shape)))
    place = ", ".join(f"{axis} {n}" for axis, n in zip(axes, index, strict=False))
    others = f", the first of {wrong.sum()} such numbers" if wrong.sum() > 1 else ""
    across = f".all(axis={tuple(range(1, value.ndim))})" if value.ndim > 1 else ""
    raise ValueError(
        f"{_entry(name, index)}={float(value[index])}: expected a number that is finite in "
        f"{dtype}. It is in {place}{others}. np.isfinite(x){across} is True for the "
        "valid rows: drop the others, or fill in the missing values."
    )


def integers(name: str, value: np.ndarray, minimum: int, maximum: int) -> None:
    """Raise ValueError unless all numbers are integers within the bounds, both inclusive.

    Args:
        name: name of the argument.
        value: numbers, as returned by `numbers`.
        minimum: the smallest valid number.
        maximum: the largest valid number.
    """
    if value.dtype.kind == "b" or not value.size:
        return
    # Converted to Python integers, which compare with integers of any size.
    if value.dtype.kind in "iu" and minimum <= int(value.min()) <= int(value.max()) <= maximum:
        return
    with np.errstate(all="ignore"):
        right = (value >= minimum) & (value <= maximum) & (value == np.floor(value))
    if right.all():
        return
    index = tuple(map(int, np.unravel_index(right.argmin(), value.shape)))
    raise ArgumentError(
        _entry(name, index), value[index].item(), _describe_integer(minimum, maximum)
    )


def _refuse_number(name: str, index: tuple[int, ...], value: Any, advice: str) -> NoReturn:
    text = isinstance(value, (str, bytes))
    shown = _shown(value.item() if isinstance(value, np.generic) else value)
    if text and advice and _reads_as_number(value):
        advice = "np.asarray(x).astype(float) converts numbers written as text."
    more = f" {advice}" if text and advice else ""
    raise ValueError(f"{_entry(name, index)}={shown}: expected a number.{more}")


def _reads_as_number(text: str | bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _entry(name: str, index: tuple[int, ...]) -> str:
    return f"{name}[{', '.join(map(str, index))}]" if index else name


def one_of(name: str, value: Any, choices: Collection[Any]) -> Any:
    """Return the value if it equals one of the choices and has its type."""
    for choice in choices:
        if value is choice or (type(value) is type(choice) and value == choice):
            return choice
    raise ArgumentError(name, value, *(repr(choice) for choice in choices))


def seed(name: str, value: Any) -> Any:
    """Return a seed for Keras: a non-negative integer or a SeedGenerator."""
    if isinstance(value, keras.random.SeedGenerator):
        return value
    return integer(name, value, minimum=0, maximum=2**32 - 1)


def activation(name: str, value: Any) -> Any:
    """Return the Keras activation for a name, a configuration or a callable."""
    return _from_keras("an activation", keras.activations, name, value)


def initializer(name: str, value: Any) -> Any:
    """Return the Keras initializer for a name, a configuration or a callable.

    Called once, where it is used: an initializer without a seed draws one when it is created.
    """
    return _from_keras("an initializer", keras.initializers, name, value)


def regularizer(name: str, value: Any) -> Any:
    """Return the Keras regularizer for a name, a configuration or a callable."""
    return _from_keras("a regularizer", keras.regularizers, name, value)


def constraint(name: str, value: Any) -> Any:
    """Return the Keras constraint for a name, a configuration or a callable."""
    return _from_keras("a constraint", keras.constraints, name, value)


def _from_keras(kind: str, module: Any, name: str, value: Any) -> Any:
    try:
        return module.get(value)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise ArgumentError(
            name, value, f"the name of {kind} of Keras", "its configuration", "a callable", "None"
        ) from error


def _union(members: list[Check]) -> Check:
    def check(name: str, value: Any) -> Any:
        expected = []
        for member in members:
            try:
                return member(name, value)
            except ArgumentError as error:
                expected.extend(error.expected)
        raise ArgumentError(name, value, *expected)

    return check


def _none(name: str, value: Any) -> None:
    if value is not None:
        raise ArgumentError(name, value, "None")


PositiveInteger = Annotated[int, positive_integer]
NonNegativeInteger = Annotated[int, functools.partial(integer, minimum=0)]
PositiveNumber = Annotated[float, positive_number]
NonNegativeNumber = Annotated[float, functools.partial(number, minimum=0)]
Rate = Annotated[float, rate]
Rates = Annotated[float | list[float], rates]
Fraction = Annotated[float, functools.partial(number, minimum=0, maximum=1)]
Seed = Annotated[int, seed]

_OF_TYPES: dict[Any, Check] = {
    bool: boolean,
    int: integer,
    float: number,
    str: string,
    Path: path,
    str | Path: path,
    keras.Model: model,
    keras.layers.Layer: layer,
    type(None): _none,
    None: _none,
}


def check_of(annotation: Any) -> Check | None:
    """The check declared by an annotation; None if it declares none."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        declared = [check for check in annotation.__metadata__ if callable(check)]
        return declared[0] if declared else check_of(annotation.__origin__)
    if origin is Literal:
        return functools.partial(one_of, choices=typing.get_args(annotation))
    if origin in (Union, types.UnionType) and annotation not in _OF_TYPES:
        members = [check_of(member) for member in typing.get_args(annotation)]
        return None if None in members else _union([member for member in members if member])
    try:
        return _OF_TYPES.get(annotation)
    except TypeError:  # an unhashable annotation
        return None


def checks_of(signature: inspect.Signature) -> dict[str, Check]:
    """The checks declared by the annotations of a signature, by argument."""
    return {
        name: declared
        for name, parameter in signature.parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and (declared := check_of(parameter.annotation)) is not None
    }


def check(arguments: Mapping[str, Any], checks: Mapping[str, Check]) -> dict[str, Any]:
    """Return the arguments by name, with the results of their checks."""
    return {
        name: checks[name](name, value) if name in checks else value
        for name, value in arguments.items()
    }


def checked(function: Checked) -> Checked:
    """Check the arguments of a function, or of a class's constructor, by their annotations.

    A call with too many, too few or unknown arguments raises Python's own TypeError. Defaults are
    not checked.
    """
    if isinstance(function, type):
        function.__init__ = checked(function.__init__)
        return function
    signature = inspect.signature(function)
    checks = checks_of(signature)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # which raises it with the function's name
        bound.arguments.update(check(bound.arguments, checks))
        return function(*bound.args, **bound.kwargs)

    # For `inspect.getfullargspec`, which Keras calls and which ignores wrappers.
    call.__signature__ = signature
    return call


def _is_finite(value: Any) -> bool:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer larger than any float
        return False


def _describe_integer(minimum: int | None, maximum: int | None) -> str:
    if minimum == 1 and maximum is None:
        return "a positive integer"
    if minimum is not None and maximum is not None:
        return f"an integer from {minimum} to {maximum}"
    if minimum is not None:
        return f"an integer of at least {minimum}"
    return "an integer" if maximum is None else f"an integer of at most {maximum}"


def _describe_number(
    minimum: float | None, maximum: float | None, above: float | None, below: float | None
) -> str:
    lower, upper = (above if minimum is None else minimum), (below if maximum is None else maximum)
    if lower is not None and upper is not None:
        left, right = "(" if minimum is None else "[", ")" if maximum is None else "]"
        return f"a number in {left}{lower:g}, {upper:g}{right}"
    if above == 0:
        return "a positive number"
    bounds = {"of at least": minimum, "above": above, "of at most": maximum, "below": below}
    parts = [f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None]
    return " ".join(["a finite number", *parts])


def _listed(words: Iterable[str]) -> str:
    words = list(dict.fromkeys(words))
    return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]
