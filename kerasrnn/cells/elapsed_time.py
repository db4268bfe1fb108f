"""The elapsed time of cells in continuous time, as a column of their inputs.

With the argument `time_column` of such a cell, the last column of its inputs is the time elapsed
since the previous step, in any unit; for the first step it is the time since the initial state,
usually 0. Otherwise the elapsed time of every step is 1. It enters no product: the last column of
the input part passes it to the step.
"""

from collections.abc import Sequence
from typing import Any

from keras import ops

Tensor = Any


def features(x: Tensor, time_column: bool) -> Tensor:
    """The inputs without the elapsed time; also of a dropout mask of the inputs."""
    return x[..., :-1] if time_column else x


def feature_masks(masks: Sequence[Tensor] | None, time_column: bool) -> list[Tensor] | None:
    """The dropout masks of the inputs without the elapsed time."""
    return None if masks is None else [features(mask, time_column) for mask in masks]


def with_time(a: Tensor, x: Tensor, time_column: bool) -> Tensor:
    """The input part, with the elapsed time of the inputs as its last column."""
    return ops.concatenate([a, x[..., -1:]], axis=-1) if time_column else a


def split_time(a: Tensor, time_column: bool) -> tuple[Tensor, Tensor | float]:
    """The input part and the elapsed time of one step."""
    return (a[..., :-1], a[..., -1:]) if time_column else (a, 1.0)
