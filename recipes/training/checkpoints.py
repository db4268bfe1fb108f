"""Checkpoints: everything that training needs to go on, at the step where it was."""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasrnn.files import remove, remove_strays, replacing
from kerasrnn.recipes.runs import Run, RunError, sha256
from kerasrnn.recipes.training.history import Row
from kerasrnn.wording import counted

if TYPE_CHECKING:
    import keras

Arrays = dict[str, np.ndarray]

INDEX = "index.json"


@dataclass(frozen=True)
class Progress:
    """How far a run has come, besides the numbers in its variables."""

    epoch: int = 0
    """Whole epochs that are behind."""

    step: int = 0
    """Steps of the next one that are behind; all of them: its validation is not."""

    seconds: float = 0.0
    rows: Sequence[Row] = ()
    """The log: a row an epoch."""

    best: Mapping[str, Any] | None = None
    """The epoch (from 1) of the lowest validation loss, the loss, and the file of its weights."""


class Checkpoints:
    """The checkpoints of a run: the last one, and the weights of the best epoch.

    The variables are written first, whole; then a small index that names their file and its hash;
    then the file before is deleted. Killed at any moment, the index names complete files.

    Args:
        run: whose they are.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.folder = run.path("checkpoint")

    def save(self, arrays: Arrays, progress: Progress) -> None:
        """Write a checkpoint, in the place of the one before.

        Raises:
            OSError: it cannot be written; the one before stands.
        """
        self.folder.mkdir(exist_ok=True)
        name = f"epoch-{progress.epoch}-step-{progress.step}.npz"
        index = {
            **dataclasses.asdict(progress),
            "file": name,
            "sha256": _write(self.folder / name, arrays),
        }
        with replacing(self.folder / INDEX) as scratch:
            scratch.write_text(json.dumps(index) + "\n", encoding="utf-8")
        named = {name, (progress.best or {}).get("file")}
        for old in self.folder.glob("*.npz"):
            if old.name not in named:
                remove(old)

    def save_best(self, arrays: Arrays, epoch: int, loss: float) -> dict[str, Any]:
        """Write the weights of the best epoch (from 1); what `Progress.best` is to be.

        It counts when the next checkpoint names it.
        """
        self.folder.mkdir(exist_ok=True)
        name = f"best-{epoch}.npz"
        digest = _write(self.folder / name, arrays)
        return {"epoch": epoch, "loss": loss, "file": name, "sha256": digest}

    def restore(self) -> tuple[Arrays, Progress] | None:
        """The last checkpoint; None if there is none.

        Raises:
            RunError: it is damaged.
        """
        path = self.folder / INDEX
        if not path.is_file():
            return None
        index = self.run.read_json(f"{self.folder.name}/{INDEX}")
        kinds = {"epoch": int, "step": int, "seconds": float, "rows": list, "file": str}
        if (
            not isinstance(index, dict)
            or not {"best", "sha256"} <= set(index)
            or any(not isinstance(index.get(name), kind) for name, kind in kinds.items())
        ):
            raise RunError(f"{path} is not a checkpoint's index.")
        file, digest = index.pop("file"), index.pop("sha256")
        arrays = self._read(file, digest)
        if index["best"]:
            self.load_best(index["best"])
        return arrays, Progress(**index)

    def load_best(self, best: Mapping[str, Any]) -> Arrays:
        """The weights of the best epoch.

        Raises:
            RunError: their file is missing or damaged.
        """
        return self._read(best["file"], best["sha256"])

    def clean(self) -> None:
        """Remove what a process that was killed had not finished writing."""
        remove_strays(self.run.folder)
        if self.folder.is_dir():
            remove_strays(self.folder)

    def _read(self, name: str, digest: str) -> Arrays:
        path = self.folder / name
        advice = f"delete {self.folder} to start this run from its beginning"
        if not path.is_file():
            raise RunError(f"the checkpoint {path} is missing: {advice}.")
        if sha256(path) != digest:
            raise RunError(
                f"the checkpoint {path} is damaged (its hash is not the one kept): {advice}."
            )
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}


def _write(path: Path, arrays: Arrays) -> str:
    with replacing(path) as scratch:
        with scratch.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        return sha256(scratch)


def weights(model: "keras.Model") -> Arrays:
    """The weights of a model."""
    return _values("model", model.weights)


def states(model: "keras.Model") -> Arrays:
    """All that a model in training has: also random states, optimizer, states that go on from batch
    to batch, and the metrics of the epoch so far."""
    return {key: values for part in _parts(model) for key, values in _values(*part).items()}


def assign(
    model: "keras.Model", arrays: Mapping[str, np.ndarray], weights_alone: bool = False
) -> None:
    """Give a model what `states` or, of its weights alone, `weights` returned.

    Raises:
        RunError: they are another model's: the names or shapes differ.
    """
    parts = [("model", model.weights)] if weights_alone else _parts(model)
    known = {key: variable for part in parts for key, variable in _named(*part).items()}
    here = {key: tuple(variable.shape) for key, variable in known.items()}
    there = {key: values.shape for key, values in arrays.items()}
    if here != there:
        differing = [key for key in {**there, **here} if here.get(key) != there.get(key)]
        some = "; ".join(
            f"{key}: {_shape(there, key)} in the checkpoint, {_shape(here, key)} in the model"
            for key in differing[:3]
        )
        raise RunError(
            f"the checkpoint is of another model: {len(differing)} of its "
            f"{counted(len(there), 'variable')} "
            f"differ from the {len(here)} of this one ({some}). The recipe, or Keras, has changed "
            "since: go on with the versions in environment.json, or train anew."
        )
    for key, values in arrays.items():
        known[key].assign(values)


def _shape(shapes: Mapping[str, tuple[int, ...]], key: str) -> str:
    return f"shape {shapes[key]}" if key in shapes else "none"


def _parts(model: "keras.Model") -> list[tuple[str, list[Any]]]:
    held = {id(variable) for variable in model.weights}
    others = [variable for variable in model.variables if id(variable) not in held]
    return [
        ("model", model.weights),
        ("other", others),
        ("optimizer", model.optimizer.variables),
        ("metrics", model.metrics_variables),
    ]


def _named(part: str, variables: Sequence[Any]) -> dict[str, Any]:
    return {f"{part}-{n}-{_path(variable)}": variable for n, variable in enumerate(variables)}


def _path(variable: Any) -> str:
    """The path of a variable, without the numbers that Keras counts over a whole process."""
    return re.sub(r"_\d+(?=[/_]|$)", "", variable.path)


def _values(part: str, variables: Sequence[Any]) -> Arrays:
    return {key: np.array(variable) for key, variable in _named(part, variables).items()}
