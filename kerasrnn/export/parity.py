"""Does an export compute what the model computes?"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np


class ParityError(RuntimeError):
    """An export does not compute what the model computes."""


@dataclass(frozen=True)
class Report:
    """What an export wrote and how it compares with the model."""

    path: Path
    format: str
    bytes: int
    batches: int
    difference: float
    """The largest absolute difference between an output of the export and of the model."""


def check_possible(model: keras.Model, check: Sequence[object]) -> None:
    """Raise ValueError if an export could not be made or compared."""
    if keras.config.backend() != "tensorflow":
        raise ValueError(
            f"the {keras.config.backend()} backend cannot export; expected tensorflow: save the "
            "model, and load and export it with KERAS_BACKEND=tensorflow."
        )
    input_signature(model)
    if not len(check):
        raise ValueError("check=[]: expected at least one batch of inputs to compare on.")


def input_signature(model: keras.Model) -> tuple[list[str], list[keras.KerasTensor]]:
    """Names and symbolic tensors of a model's inputs.

    Raises:
        ValueError: the model is not built of symbolic inputs.
    """
    inputs = getattr(model, "inputs", None)
    if not inputs:
        raise ValueError(
            f"model {model.name!r} has no symbolic inputs: expected a functional or a Sequential "
            "model that starts with keras.Input."
        )
    return [tensor.name for tensor in inputs], list(inputs)


def output_names(model: keras.Model) -> list[str]:
    """Names of a model's outputs: those of the layers that put them out, numbered if repeated."""
    if getattr(model, "output_names", None):
        names = list(model.output_names)
    else:
        names = [model.layers[-1].name] * len(model.outputs)
    return [
        name if names.count(name) == 1 else f"{name}_{names[:n].count(name)}"
        for n, name in enumerate(names)
    ]


def largest_difference(
    model: keras.Model,
    run: Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]],
    batches: Sequence[np.ndarray | Sequence[np.ndarray]],
) -> float:
    """The largest absolute difference over batches of inputs.

    Raises:
        ParityError: the shapes differ, or only one of the two is not a number.
    """
    largest = 0.0
    for batch in batches:
        inputs = list(batch) if isinstance(batch, (list, tuple)) else [batch]
        expected = keras.tree.flatten(model(inputs if len(inputs) > 1 else inputs[0]))
        expected = [keras.ops.convert_to_numpy(y) for y in expected]
        actual = run(inputs)
        for a, b in zip(actual, expected, strict=True):
            if a.shape != b.shape:
                raise ParityError(f"the export puts out the shape {a.shape}, the model {b.shape}.")
            if not np.array_equal(np.isnan(a), np.isnan(b)):
                raise ParityError("the export and the model put out NaN in different places.")
            gap = np.abs(a.astype("float64") - b.astype("float64"))
            largest = max(largest, float(np.nanmax(gap, initial=0.0)))
    return largest


def check_difference(difference: float, tolerance: float, what: str) -> None:
    """Raise ParityError if a difference is over the tolerance."""
    if not difference <= tolerance:
        raise ParityError(
            f"{what} differs from the Keras model by up to {difference:.2e}; "
            f"expected at most {tolerance:.2e}."
        )


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new place beside `path` that takes its name if all goes well, and disappears if not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        new = scratch / path.name
        yield new
        if path.is_dir():
            shutil.move(path, scratch / "old")
        os.replace(new, path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(file.stat().st_size for file in files)
