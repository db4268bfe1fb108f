"""Checks of arguments: accepted values, their types, and the messages for others."""

import inspect
import re
from typing import Literal

import keras
import numpy as np
import pytest

from kerasrnn import validation
from kerasrnn.validation import PositiveInteger, Rate, Seed


@validation.checked
def sample(
    units: PositiveInteger,
    rate: Rate = 0.0,
    flag: bool = True,
    every: PositiveInteger | Literal["sqrt"] | None = None,
    seed: Seed | None = None,
    anything: list | int = 0,
    *,
    compiled: Literal["auto"] | bool = "auto",
    **kwargs: object,
) -> tuple:
    return units, rate, flag, every, seed, anything, compiled, kwargs


def test_accepted_values_are_converted_to_their_types():
    values = sample(np.int64(3), np.float32(0.5), np.True_, "sqrt", compiled=False, other="kept")
    assert values == (3, 0.5, True, "sqrt", None, 0, False, {"other": "kept"})
    assert [type(value) for value in values[:3]] == [int, float, bool]
    assert sample(1, anything="not checked", seed=7)[4:6] == (7, "not checked")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": 0}, "units=0: expected a positive integer."),
        ({"units": True}, "units=True: expected a positive integer."),
        ({"units": 2.0}, "units=2.0: expected a positive integer."),
        ({"units": "3"}, "units='3': expected a positive integer."),
        ({"rate": 1}, "rate=1: expected a number in [0, 1)."),
        ({"rate": float("nan")}, "rate=nan: expected a number in [0, 1)."),
        ({"rate": 1j}, "rate=1j: expected a number in [0, 1)."),
        ({"flag": "no"}, "flag='no': expected True or False."),
        ({"flag": 1}, "flag=1: expected True or False."),
        ({"flag": None}, "flag=None: expected True or False."),
        ({"every": "all"}, "every='all': expected a positive integer, 'sqrt' or None."),
        ({"compiled": "yes"}, "compiled='yes': expected 'auto', True or False."),
        ({"compiled": 1}, "compiled=1: expected 'auto', True or False."),
        ({"seed": -1}, "seed=-1: expected an integer from 0 to 4294967295 or None."),
    ],
)
def test_refused_values(arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        sample(**{"units": 1, **arguments})


def test_long_values_are_cut_in_the_message():
    with pytest.raises(ValueError, match=r"^units=-10{198}\.\.\.: expected a positive integer"):
        sample(-(10**400))


def test_a_missing_argument_is_pythons_own_error():
    with pytest.raises(TypeError, match=r"sample\(\) missing 1 required positional argument"):
        sample()


def test_the_signature_is_unchanged():
    assert list(inspect.signature(sample).parameters)[:2] == ["units", "rate"]
    assert inspect.getfullargspec(sample).args[:2] == ["units", "rate"]


def test_names_of_keras():
    assert validation.activation("activation", "tanh") is keras.activations.tanh
    assert validation.constraint("constraint", None) is None
    assert isinstance(
        validation.regularizer("regularizer", {"class_name": "L2", "config": {"l2": 0.5}}),
        keras.regularizers.L2,
    )
    for check, value in (
        (validation.activation, "tahn"),
        (validation.initializer, 3),
        (validation.regularizer, object()),
        (validation.constraint, "no-such"),
    ):
        with pytest.raises(ValueError, match=r"^the_name=.*: expected the name of an? "):
            check("the_name", value)
