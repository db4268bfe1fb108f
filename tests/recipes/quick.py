"""Trainings of recipes in a fraction of the time. tests/recipes/training has the whole loop."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from kerasrnn.training.loop import Loop
from kerasrnn.training.step import TrainingModel
from tests.measure import op_by_op


@contextlib.contextmanager
def uncompiled() -> Iterator[None]:
    """XLA does not compile the time loops of trainings."""
    with mock.patch.object(TrainingModel, "compile_loops"):
        yield


@contextlib.contextmanager
def untraced() -> Iterator[None]:
    """Trainings compute their steps op by op: for a few steps, tracing would take longer."""

    def each(loop: Loop, step: Callable[[Any], Any]) -> Callable[[Any], None]:
        def run(batch: Any) -> None:
            with op_by_op():
                step(batch)

        return run

    with uncompiled(), mock.patch.object(Loop, "_each", each):
        yield
