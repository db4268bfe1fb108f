"""Checks of constructor and function arguments, shared by every public signature.

Each check returns the value in its canonical Python type, or raises an error that names the
argument, the value and what was expected:

    self.use_bias = validation.boolean("use_bias", use_bias)
"""

import math
from collections.abc import Collection
from numbers import Integral, Real
from typing import Any

import numpy as np


def boolean(name: str, value: Any) -> bool:
    """Return a bool; strings, numbers and None are not taken for one."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name}={value!r}: expected True or False.")
    return bool(value)


def integer(name: str, value: Any, minimum: int | None = None, maximum: int | None = None) -> int:
    """Return an int within the bounds, both included; a bool is not taken for one."""
    if (
        isinstance(value, (bool, np.bool_))
        or not isinstance(value, Integral)
        or (minimum is not None and value < minimum)
        or (maximum is not None and value > maximum)
    ):
        raise ValueError(f"{name}={value!r}: expected {_an_integer(minimum, maximum)}.")
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
    """Return a finite float within the bounds: `minimum` and `maximum` included, the others not."""
    if (
        isinstance(value, (bool, np.bool_))
        or not isinstance(value, Real)
        or not math.isfinite(value)
        or (minimum is not None and value < minimum)
        or (maximum is not None and value > maximum)
        or (above is not None and value <= above)
        or (below is not None and value >= below)
    ):
        bounds = [
            f"{sign} {bound}"
            for sign, bound in ((">=", minimum), (">", above), ("<=", maximum), ("<", below))
            if bound is not None
        ]
        expected = " ".join(["a finite number", " and ".join(bounds)]).strip()
        raise ValueError(f"{name}={value!r}: expected {expected}.")
    return float(value)


def rate(name: str, value: Any) -> float:
    """Return a float in [0, 1), as a dropout rate is."""
    if (
        isinstance(value, (bool, np.bool_))
        or not isinstance(value, Real)
        or not 0 <= value < 1  # False of NaN
    ):
        raise ValueError(f"{name}={value!r}: expected a number in [0, 1).")
    return float(value)


def one_of(name: str, value: Any, choices: Collection[Any]) -> Any:
    """Return the value if it is one of the choices, of the same type."""
    if not any(value is c or (type(value) is type(c) and value == c) for c in choices):
        expected = ", ".join(map(repr, choices))
        raise ValueError(f"{name}={value!r}: expected one of {expected}.")
    return value


def _an_integer(minimum: int | None, maximum: int | None) -> str:
    if minimum == 1 and maximum is None:
        return "a positive integer"
    if minimum is not None and maximum is not None:
        return f"an integer from {minimum} to {maximum}"
    if minimum is not None:
        return f"an integer of at least {minimum}"
    return "an integer" if maximum is None else f"an integer of at most {maximum}"
