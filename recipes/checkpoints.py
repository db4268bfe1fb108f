"""Checkpoints: after each epoch, everything that training needs to go on."""

import csv
import json
import math
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasrnn.recipes.runs import Run, RunError, atomic, load_model, sha256


class Checkpoint(keras.callbacks.Callback):
    """Saves the model with its optimizer and random states after each epoch.

    The model's file is written first, whole; then a small index that names it and its hash; then
    the one before is deleted. Killed at any moment, the index names complete files.

    Args:
        run: whose checkpoint it is.
        keep: "best" keeps the weights of the epoch with the lowest validation loss as well.
        seconds: that the run has trained already.
    """

    def __init__(self, run: Run, keep: str = "last", seconds: float = 0.0) -> None:
        super().__init__()
        self.folder = run.path("checkpoint")
        self.keep = keep
        self.seconds = seconds

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.folder.mkdir(exist_ok=True)
        index = _read_index(self.folder)
        self.best = index["best"] if index else None
        self.since = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        now = time.perf_counter()
        self.seconds, self.since = self.seconds + now - self.since, now
        logs = logs or {}
        if not math.isfinite(logs.get("loss", 0.0)):
            return  # nothing to go on from
        path = self.folder / f"epoch-{epoch + 1}.keras"
        with atomic(path) as scratch:
            self.model.save(scratch)
        loss = logs.get("val_loss", math.inf)
        loss = math.inf if math.isnan(loss) else loss
        if self.keep == "best" and (self.best is None or loss < self.best["loss"]):
            weights = self.folder / f"best-{epoch + 1}.weights.h5"
            with atomic(weights) as scratch:
                # Keras wants the ending that `atomic` cuts.
                whole = scratch.with_name(f"{scratch.stem}.weights.h5")
                try:
                    self.model.save_weights(whole)
                    whole.replace(scratch)
                finally:
                    whole.unlink(missing_ok=True)
            self.best = {
                "epoch": epoch + 1,
                "loss": loss,
                "file": weights.name,
                "sha256": sha256(weights),
            }
        index = {
            "epochs": epoch + 1,
            "seconds": self.seconds,
            "file": path.name,
            "sha256": sha256(path),
            "best": self.best,
            # Keras leaves the states of dropout's random generators out of its files.
            "random_states": [state.numpy().tolist() for state in _random_states(self.model)],
        }
        with atomic(self.folder / "index.json") as scratch:
            scratch.write_text(json.dumps(index) + "\n")
        named = {path.name, self.best["file"] if self.best else ""}
        for old in (*self.folder.glob("*.keras"), *self.folder.glob("*.h5")):
            if old.name not in named:
                old.unlink()

    def load_best(self, model: keras.Model) -> int:
        """Give a model the weights of the best epoch; returns which it was, counted from 1.

        Raises:
            RunError: the file is missing or damaged.
        """
        path = self.folder / self.best["file"]
        _verified(path, self.best["sha256"])
        model.load_weights(path)
        return self.best["epoch"]


def restore(run: Run) -> tuple[keras.Model, int, float] | None:
    """The model of a run's checkpoint, the epochs and the seconds behind it; None without one.

    Raises:
        RunError: the checkpoint is damaged.
    """
    folder = run.path("checkpoint")
    index = _read_index(folder)
    if index is None:
        return None
    path = folder / index["file"]
    _verified(path, index["sha256"])
    if index["best"]:
        _verified(folder / index["best"]["file"], index["best"]["sha256"])
    model = load_model(path)
    for state, value in zip(_random_states(model), index["random_states"], strict=True):
        state.assign(np.array(value, "uint32"))
    return model, index["epochs"], index["seconds"]


def _read_index(folder: Path) -> dict[str, Any] | None:
    path = folder / "index.json"
    if not path.is_file():
        return None
    index = Run(folder.parent).read_json("checkpoint/index.json")
    kinds = {"epochs": int, "seconds": float, "file": str, "sha256": str, "random_states": list}
    if (
        not isinstance(index, dict)
        or "best" not in index
        or any(not isinstance(index.get(name), kind) for name, kind in kinds.items())
    ):
        raise RunError(f"{path} is not a checkpoint's index.")
    return index


def _verified(path: Path, digest: str) -> None:
    advice = f"delete {path.parent} to start this run from its beginning"
    if not path.is_file():
        raise RunError(f"the checkpoint {path} is missing: {advice}.")
    if sha256(path) != digest:
        raise RunError(
            f"the checkpoint {path} is damaged (its hash is not the one kept): {advice}."
        )


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
