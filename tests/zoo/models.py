"""What the tests of every topology ask: it learns; saved, loaded, exported, it says the same."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np


def learn(model: keras.Model, inputs: Any, targets: np.ndarray, steps: int, rate: float) -> float:
    """The loss after so many steps on one batch."""
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", jit_compile=False)
    for _ in range(steps):
        loss = model.train_on_batch(inputs, targets)
    return float(loss)


def assert_saves(
    model: keras.Model, batch: Sequence[np.ndarray] | np.ndarray, folder: Path
) -> None:
    """In safe mode."""
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
    """To a SavedModel; to ONNX with the inputs and outputs of these names, where they are given."""
    from kerasrnn.export import to_onnx, to_saved_model

    assert to_saved_model(model, folder / "model", check=check).difference < 1e-5
    if names is None:
        return
    assert to_onnx(model, folder / "model.onnx", check=check).difference < 1e-5
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "model.onnx")
    inputs, outputs = names
    assert [x.name for x in session.get_inputs()] == inputs
    assert [y.name for y in session.get_outputs()] == outputs
