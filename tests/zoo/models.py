"""Checks of the models of all topologies: training, saving and exporting."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np


def learn(model: keras.Model, inputs: Any, targets: np.ndarray, steps: int, rate: float) -> float:
    """The loss after training on one batch."""
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", jit_compile=False)
    for _ in range(steps):
        loss = model.train_on_batch(inputs, targets)
    return float(loss)


def assert_saves(
    model: keras.Model, batch: Sequence[np.ndarray] | np.ndarray, folder: Path
) -> None:
    """The model loads in safe mode and returns the same."""
    model.save(folder / "model.keras")
    loaded = keras.saving.load_model(folder / "model.keras")
    for a, b in zip(
        keras.tree.flatten(loaded(batch)), keras.tree.flatten(model(batch)), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def assert_exports(
    model: keras.Model,
    check: Sequence[np.ndarray | Sequence[np.ndarray]],
    folder: Path,
    names: tuple[list[str], list[str]] | None = None,
) -> None:
    """Export to a SavedModel and, if `names` of inputs and outputs are given, to ONNX."""
    from kerasrnn.export import to_saved_model

    assert to_saved_model(model, folder / "model", check=check).difference < 1e-5
    if names is not None:
        assert_exports_to_onnx(model, check, folder, names)


def assert_exports_to_onnx(
    model: keras.Model,
    check: Sequence[np.ndarray | Sequence[np.ndarray]],
    folder: Path,
    names: tuple[list[str], list[str]],
) -> None:
    import onnxruntime

    from kerasrnn.export import to_onnx

    assert to_onnx(model, folder / "model.onnx", check=check).difference < 1e-5
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    inputs, outputs = names
    assert [x.name for x in session.get_inputs()] == inputs
    assert [y.name for y in session.get_outputs()] == outputs
