"""Checkpoints are restored, or refused if they are damaged or of another model."""

import json
import re

import keras
import numpy as np
import pytest

from kerasrnn.training import checkpoints
from kerasrnn.training.errors import CheckpointError

pytestmark = pytest.mark.tensorflow


def test_the_last_checkpoint_is_restored(tmp_path):
    """With the best epoch's weights; unneeded files are deleted."""
    kept = checkpoints.Checkpoints(tmp_path / "checkpoint")
    assert kept.restore() is None
    best = kept.save_best({"model-0": np.array([7.0])}, epoch=1, loss=0.5)
    for epoch in (1, 2):
        arrays = {"model-0": np.array([1.0, epoch]), "other-0": np.array(3)}
        row = {"epoch": epoch - 1, "loss": 1 / 3}
        kept.save(arrays, checkpoints.Position(epoch, 4, 1.5, [row], best))
    arrays, position = checkpoints.Checkpoints(tmp_path / "checkpoint").restore()
    assert {name: values.tolist() for name, values in arrays.items()} == {
        "model-0": [1.0, 2.0],
        "other-0": 3,
    }
    assert position == checkpoints.Position(2, 4, 1.5, [{"epoch": 1, "loss": 1 / 3}], best)
    assert kept.load_best(position.best)["model-0"] == [7.0]
    names = {path.name for path in (tmp_path / "checkpoint").iterdir()}
    assert names == {"index.json", "epoch-2-step-4.npz", "best-1.npz"}


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"epoch": 1, "file": "epoch-1.npz"}, "is not a checkpoint's index"),
        ([], "is not a checkpoint's index"),
        ("{", "is damaged"),
        ("[" * 100_000, "is damaged"),
    ],
)
def test_an_invalid_index_is_refused(tmp_path, index, message):
    text = index if isinstance(index, str) else json.dumps(index)
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(CheckpointError, match=f"index.json {message}.*Delete .* to start"):
        checkpoints.Checkpoints(tmp_path).restore()


def small_model(*units):
    hidden = [keras.layers.Dense(n) for n in units]
    model = keras.Sequential([keras.Input((3,)), *hidden])
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def test_a_checkpoint_of_another_model_is_refused():
    """The error names the variable that is renamed, reshaped, unknown or missing."""
    keras.utils.clear_session()
    model = small_model(2)
    arrays = checkpoints.states(model)
    first, second = "model-0-sequential/dense/kernel", "model-1-sequential/dense/bias"
    assert list(arrays)[:2] == [first, second]
    iteration = next(name for name in arrays if name.startswith("optimizer-0"))
    new, renamed = "model-9-new", first.replace("dense", "other")
    for other, message in (
        (
            {**arrays, first: arrays[first][:1]},
            f"{first}: shape (1, 2) in the checkpoint, sha",
        ),
        ({**arrays, new: np.zeros(2)}, f"{new}: shape (2,) in the checkpoint, none in the model"),
        ({k: v for k, v in arrays.items() if k != second}, f"{second}: none in the checkpoint, sh"),
        ({renamed if k == first else k: v for k, v in arrays.items()}, f"{renamed}: shape (3, 2)"),
        ({k: v for k, v in arrays.items() if "optimizer" not in k}, f"{iteration}: none in the ch"),
    ):
        with pytest.raises(
            CheckpointError, match=f"^the checkpoint belongs to another model.*{re.escape(message)}"
        ):
            checkpoints.assign(model, other)
    with pytest.raises(CheckpointError, match=f"{second}: none in the checkpoint"):
        checkpoints.assign(model, {first: arrays[first]}, weights_alone=True)
    # Keras numbers names across all models of a process, which is no difference.
    again = small_model(2)
    assert [v.path for v in again.variables] != [v.path for v in model.variables]
    arrays[second] = np.array([3.0, 4.0], "float32")
    checkpoints.assign(again, arrays)
    assert again.get_weights()[1].tolist() == [3.0, 4.0]
