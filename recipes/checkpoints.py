"""Checkpoints: after each epoch, everything that training needs to go on."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasrnn.recipes.runs import Run, RunError, atomic, load_model, sha256


class Checkpoint(keras.callbacks.Callback):
    """Saves the model with its optimizer and random states after each epoch.

    The model's file is written first, whole; then a small index that names it and its hash; then
    the one before is deleted. Killed at any moment, the index names a complete file.
    """

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.folder = run.path("checkpoint")

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.folder.mkdir(exist_ok=True)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if not math.isfinite((logs or {}).get("loss", 0.0)):
            return  # nothing to go on from
        path = self.folder / f"epoch-{epoch + 1}.keras"
        with atomic(path) as scratch:
            self.model.save(scratch)
        index = {
            "epochs": epoch + 1,
            "file": path.name,
            "sha256": sha256(path),
            # Keras leaves the states of dropout's random generators out of its files.
            "random_states": [state.numpy().tolist() for state in _random_states(self.model)],
        }
        with atomic(self.folder / "index.json") as scratch:
            scratch.write_text(json.dumps(index) + "\n")
        for old in self.folder.glob("*.keras"):
            if old != path:
                old.unlink()


def restore(run: Run) -> tuple[keras.Model, int] | None:
    """The model of a run's checkpoint and the epochs behind it; None if none was written.

    Raises:
        RunError: the checkpoint is damaged.
    """
    folder = run.path("checkpoint")
    if not (folder / "index.json").is_file():
        return None
    index = run.read_json("checkpoint/index.json")
    try:
        path, digest, epochs = folder / index["file"], index["sha256"], int(index["epochs"])
        kept = [np.array(state, "uint32") for state in index["random_states"]]
    except (KeyError, TypeError, ValueError):
        raise RunError(f"{folder / 'index.json'} is not a checkpoint's index.") from None
    advice = f"delete {folder} to start this run from its beginning"
    if not path.is_file():
        raise RunError(f"the checkpoint {path} is missing: {advice}.")
    if sha256(path) != digest:
        raise RunError(
            f"the checkpoint {path} is damaged (its hash is not the one kept): {advice}."
        )
    model = load_model(path)
    for state, value in zip(_random_states(model), kept, strict=True):
        state.assign(value)
    return model, epochs


def _random_states(model: keras.Model) -> list[keras.Variable]:
    """The states of a model's random generators, in an order that its structure decides."""
    weights = {id(weight) for weight in model.weights}
    return [
        variable
        for variable in model.variables
        if id(variable) not in weights and variable.path.endswith("seed_generator_state")
    ]


def trim_log(path: Path, epochs: int) -> None:
    """Drop the rows of a CSV log that were written after the checkpoint."""
    if not path.is_file():
        return
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    kept = rows[:1] + [row for row in rows[1:] if row and int(row[0]) < epochs]
    with atomic(path) as scratch, scratch.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(kept)
