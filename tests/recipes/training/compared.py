"""The results of two runs, compared bit for bit."""

import csv
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def log_of(folder: Path) -> list[dict[str, str]]:
    """The log without its times."""
    with (folder / "log.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def metrics_of(folder: Path) -> dict[str, Any]:
    metrics = json.loads((folder / "metrics.json").read_text())
    others = ("seconds", "resumed_at_epoch", "peak_memory_of_process")
    return {k: v for k, v in metrics.items() if k not in others}


def arrays_of(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of the last checkpoint, and of the best epoch."""
    index = json.loads((folder / "checkpoint" / "index.json").read_text())
    found = {}
    for name in (index["file"], (index["best"] or {}).get("file")):
        if name:
            with np.load(folder / "checkpoint" / name) as file:
                found |= {f"{name}/{key}": file[key] for key in file.files}
    return found


def curves_of(folder: Path) -> dict[tuple[str, str], list[tuple[int, float]]]:
    """The points of TensorBoard's curves."""
    points = {}
    for part in ("train", "validation"):
        events = EventAccumulator(
            str(folder / "tensorboard" / part), size_guidance={"tensors": 0}
        ).Reload()
        for tag in events.Tags()["tensors"]:
            if tag != "epoch_seconds":
                points[part, tag] = [
                    (event.step, float(tf.make_ndarray(event.tensor_proto)))
                    for event in events.Tensors(tag)
                ]
    return points


def assert_same_run(one: Path, other: Path) -> None:
    assert log_of(one) == log_of(other)
    assert metrics_of(one) == metrics_of(other)
    expected, found = arrays_of(one), arrays_of(other)
    assert expected.keys() == found.keys()
    for key, values in expected.items():
        np.testing.assert_array_equal(found[key], values, err_msg=key)
    a, b = (
        keras.models.load_model(folder / "model.keras").get_weights() for folder in (one, other)
    )
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)
    assert curves_of(one) == curves_of(other)
