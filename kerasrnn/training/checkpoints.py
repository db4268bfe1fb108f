"""Checkpoints: the complete state for resuming training at the same step."""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasrnn.files import create_folder, remove, remove_strays, replacing, sha256
from kerasrnn.training.errors import CheckpointError
from kerasrnn.training.history import Row
from kerasrnn.wording import counted

if TYPE_CHECKING:
    import keras

Arrays = dict[str, np.ndarray]

INDEX = "index.json"


@dataclass(frozen=True)
class Position:
    """The position of a training, besides the values of its variables."""

    epoch: int = 0
    """Number of completed epochs."""

    step: int = 0
    """Number of completed steps of the next epoch; if all of them, its validation is pending."""

    seconds: float = 0.0
    rows: Sequence[Row] = ()
    """The log: one row per epoch."""

    best: Mapping[str, Any] | None = None
    """The epoch (from 1) with the lowest validation loss, the loss, and the file of its weights."""


class Checkpoints:
    """The checkpoints of a training: the last one, and the weights of the best epoch.

    The variables are written first; then a small index with their file and its hash; then the
    previous file is deleted. If the process is killed at any moment, the index refers to complete
    files.

    Args:
        folder: the folder of the checkpoints.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, arrays: Arrays, position: Position) -> None:
        """Write a checkpoint, replacing the previous one.

        Raises:
            OSError: the checkpoint cannot be written; the previous one is kept.
        """
        create_folder(self.folder)
        name = f"epoch-{position.epoch}-step-{position.step}.npz"
        index = {
            **dataclasses.asdict(position),
            "file": name,
            "sha256": _write(self.folder / name, arrays),
        }
        with replacing(self.folder / INDEX) as scratch:
            scratch.write_text(json.dumps(index) + "\n", encoding="utf-8")
        named = {name, (position.best or {}).get("file")}
        for old in self.folder.glob("*.npz"):
            if old.name not in named:
                remove(old)

    def save_best(self, arrays: Arrays, epoch: int, loss: float) -> dict[str, Any]:
        """Write the weights of the best epoch (from 1); returns the new `Position.best`.

        It takes effect with the next checkpoint, which refers to it.
        """
        create_folder(self.folder)
        name = f"best-{epoch}.npz"
        digest = _write(self.folder / name, arrays)
        return {"epoch": epoch, "loss": loss, "file": name, "sha256": digest}

    def restore(self) -> tuple[Arrays, Position] | None:
        """Load the last checkpoint; None if there is none.

        Raises:
            CheckpointError: the checkpoint is damaged.
        """
        path = self.folder / INDEX
        if not path.is_file():
            return None
        try:
            index = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"{path} is damaged: {error}. {self._advice()}") from None
        kinds = {"epoch": int, "step": int, "seconds": float, "rows": list, "file": str}
        if (
            not isinstance(index, dict)
            or not {"best", "sha256"} <= set(index)
            or any(not isinstance(index.get(name), kind) for name, kind in kinds.items())
        ):
            raise CheckpointError(f"{path} is not a checkpoint's index. {self._advice()}")
        file, digest = index.pop("file"), index.pop("sha256")
        arrays = self._read(file, digest)
        if index["best"]:
            self.load_best(index["best"])
        return arrays, Position(**index)

    def load_best(self, best: Mapping[str, Any]) -> Arrays:
        """Load the weights of the best epoch.

        Raises:
            CheckpointError: their file is missing or damaged.
        """
        return self._read(best["file"], best["sha256"])

    def clean(self) -> None:
        """Remove incomplete files of a killed process."""
        if self.folder.is_dir():
            remove_strays(self.folder)

    def _read(self, name: str, digest: str) -> Arrays:
        path = self.folder / name
        if not path.is_file():
            raise CheckpointError(f"the checkpoint {path} is missing. {self._advice()}")
        if sha256(path) != digest:
            raise CheckpointError(
                f"the checkpoint {path} is damaged: its hash is not the recorded one. "
                f"{self._advice()}"
            )
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}

    def _advice(self) -> str:
        return f"Delete {self.folder} to start the training from the beginning."


def _write(path: Path, arrays: Arrays) -> str:
    with replacing(path) as scratch:
        with scratch.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        return sha256(scratch)


def weights(model: "keras.Model") -> Arrays:
    """The weights of a model."""
    return _values("model", model.weights)


def states(model: "keras.Model") -> Arrays:
    """All variables of a model in training, including random states, optimizer, states carried
    between batches, and the metrics of the current epoch."""
    return {key: values for part in _parts(model) for key, values in _values(*part).items()}


def assign(
    model: "keras.Model", arrays: Mapping[str, np.ndarray], weights_alone: bool = False
) -> None:
    """Restore what `states` or `weights` returned.

    Raises:
        CheckpointError: the names or shapes differ from those of the model.
    """
    parts = [("model", model.weights)] if weights_alone else _parts(model)
    known = {key: variable for part in parts for key, variable in _named(*part).items()}
    current = {key: tuple(variable.shape) for key, variable in known.items()}
    saved = {key: values.shape for key, values in arrays.items()}
    if current != saved:
        differing = [key for key in {**saved, **current} if current.get(key) != saved.get(key)]
        some = "; ".join(
            f"{key}: {_shape(saved, key)} in the checkpoint, {_shape(current, key)} in the model"
            for key in differing[:3]
        )
        raise CheckpointError(
            f"the checkpoint belongs to another model: it has {counted(len(saved), 'variable')}, "
            f"this one has {len(current)}, and {len(differing)} differ ({some}). The model's code "
            "or Keras has changed since: resume with the earlier versions, or train again from the "
            "beginning."
        )
    for key, values in arrays.items():
        known[key].assign(values)


def _shape(shapes: Mapping[str, tuple[int, ...]], key: str) -> str:
    return f"shape {shapes[key]}" if key in shapes else "none"


def _parts(model: "keras.Model") -> list[tuple[str, list[Any]]]:
    of_model = {id(variable) for variable in model.weights}
    others = [variable for variable in model.variables if id(variable) not in of_model]
    return [
        ("model", model.weights),
        ("other", others),
        ("optimizer", model.optimizer.variables),
        ("metrics", model.metrics_variables),
    ]


def _named(part: str, variables: Sequence[Any]) -> dict[str, Any]:
    return {f"{part}-{n}-{_path(variable)}": variable for n, variable in enumerate(variables)}


def _path(variable: Any) -> str:
    """The path of a variable, without Keras's process-wide counters."""
    return re.sub(r"_\d+(?=[/_]|$)", "", variable.path)


def _values(part: str, variables: Sequence[Any]) -> Arrays:
    return {key: np.array(variable) for key, variable in _named(part, variables).items()}
