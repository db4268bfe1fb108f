"""The loop on a Keras model and arrays, without a recipe."""

import csv
import json
import os
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasrnn import training
from kerasrnn.files import LockedError, locked
from kerasrnn.training import BatchError, DivergenceError, Interrupted, Placement
from kerasrnn.training.loop import Loop
from kerasrnn.training.step import TrainingModel
from tests.training import plain
from tests.training.forked import Forked

pytestmark = pytest.mark.tensorflow


@pytest.fixture(autouse=True)
def _quickly(monkeypatch):
    monkeypatch.setattr(TrainingModel, "compile_loops", lambda self: None)


def log_of(folder):
    """What does not depend on the clock."""
    with (folder / "log.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def assert_same(weights, others):
    for a, b in zip(weights, others, strict=True):
        np.testing.assert_array_equal(a, b)


def test_killed_and_resumed(tmp_path):
    """By SIGKILL, in the middle of an epoch: weights and log end the same, bit for bit."""

    def run(name, *arguments):
        process = Forked(tmp_path / f"{name}.txt", plain.main, tmp_path / name, *arguments)
        status = process.wait()
        assert status in (0, -signal.SIGKILL), process.said()
        return status

    assert run("whole") == 0
    assert run("killed", 5) == -signal.SIGKILL
    index = json.loads((tmp_path / "killed" / "checkpoint" / "index.json").read_text())
    assert (index["epoch"], index["step"]) == divmod(4, plain.STEPS)
    assert not (tmp_path / "killed" / "weights.npz").exists()
    assert run("killed") == 0
    assert log_of(tmp_path / "killed") == log_of(tmp_path / "whole")
    with (
        np.load(tmp_path / "whole" / "weights.npz") as whole,
        np.load(tmp_path / "killed" / "weights.npz") as killed,
    ):
        assert_same([killed[name] for name in killed], [whole[name] for name in whole])


def test_stopped_by_a_signal_and_resumed(tmp_path, monkeypatch):
    expected, log = plain.fitted(tmp_path / "whole")
    assert [row["epoch"] for row in log] == [0, 1, 2]
    original = Loop.train

    def until(self, batches, steps):
        done = original(self, batches, steps)
        if int(self.model.optimizer.iterations) == plain.STEPS + 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return done

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "train", until)
        with pytest.raises(Interrupted, match="stopped in epoch 2 after 1 of its 3 steps"):
            plain.fitted(tmp_path / "cut")
    model, _ = plain.fitted(tmp_path / "cut")
    assert_same(model.get_weights(), expected.get_weights())
    assert log_of(tmp_path / "cut") == log_of(tmp_path / "whole")
    # A training that is complete is only read.
    again, _ = plain.fitted(tmp_path / "cut")
    assert_same(again.get_weights(), expected.get_weights())


def linear():
    return keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(1, kernel_initializer="ones", use_bias=False)]
    )


def test_it_does_what_keras_does(tmp_path):
    """The same optimizer on the same batches, in the same order."""
    random = np.random.default_rng(0)
    x, y, x_val, y_val = (
        random.standard_normal(shape).astype("float32")
        for shape in ((20, 2), (20, 1), (6, 2), (6, 1))
    )
    theirs = linear()
    theirs.compile(keras.optimizers.Adam(0.1), "mse", metrics=["mae"], jit_compile=False)
    history = theirs.fit(
        x, y, 5, 3, shuffle=False, validation_data=(x_val, y_val), verbose=0
    ).history
    batches = training.Batches.from_arrays((x, y), 5, validation=(x_val, y_val), shuffle=False)
    model, log = training.fit(
        linear,
        batches,
        "mse",
        tmp_path,
        epochs=3,
        metrics=["mae"],
        optimizer=lambda: keras.optimizers.Adam(0.1),
    )
    np.testing.assert_allclose(model.get_weights()[0], theirs.get_weights()[0], rtol=1e-6)
    for name, values in history.items():
        assert [row[name] for row in log] == pytest.approx(values, rel=1e-5), name


def test_the_best_epoch_is_kept(tmp_path):
    """Training moves away from the validation targets: the first epoch is the best."""
    x = np.ones((4, 2), "float32")
    batches = training.Batches.from_arrays(
        (x, np.full((4, 1), 9.0)), 4, validation=(x, np.full((4, 1), 2.0))
    )
    options = {"epochs": 3, "optimizer": lambda: keras.optimizers.SGD(0.01)}
    weights = {}
    for keep in ("best", "last"):
        model, log = training.fit(linear, batches, "mse", tmp_path / keep, keep=keep, **options)
        weights[keep] = float(model.get_weights()[0].sum())
    losses = [row["val_loss"] for row in log]
    assert losses == sorted(losses)
    # The outputs w x = 2 w start at 2; each step of SGD adds 0.01 * 2 * (9 - 2 w) to both w.
    w = [1.0]
    for _ in range(3):
        w.append(w[-1] + 0.01 * 2 * (9 - 2 * w[-1]))
    assert weights == pytest.approx({"best": 2 * w[1], "last": 2 * w[3]}, rel=1e-5)


def test_values_that_are_not_finite(tmp_path):
    x = np.ones((8, 2), "float32")
    x[5, 1] = np.nan
    batches = training.Batches.from_arrays((x, np.ones((8, 1))), 4, shuffle=False)
    message = r"step 2 \(epoch 1, batch 2\): the inputs of this batch are not finite"
    with pytest.raises(DivergenceError, match=message):
        training.fit(linear, batches, "mse", tmp_path, epochs=1)


def made(**options):
    return training.Batches.from_arrays((np.ones((8, 2)), np.ones((8, 1))), 4, **options)


def test_what_cannot_be_trained(tmp_path):
    with pytest.raises(BatchError, match="keep='best': expected batches with validation examples"):
        training.fit(linear, made(), "mse", tmp_path, epochs=1, keep="best")
    with pytest.raises(ValueError, match="keep='first': expected 'last' or 'best'"):
        training.fit(linear, made(), "mse", tmp_path, epochs=1, keep="first")
    with pytest.raises(ValueError, match="epochs=0: expected a positive integer"):
        training.fit(linear, made(), "mse", tmp_path, epochs=0)
    parts = Placement("one", accumulate=3)
    with pytest.raises(BatchError, match="batch_size=4: expected a multiple of 3"):
        training.fit(linear, made(), "mse", tmp_path, epochs=1, placement=parts)

    def stateful():
        inputs = keras.Input((3, 2), batch_size=4)
        return keras.Model(inputs, keras.layers.GRU(1, stateful=True)(inputs))

    x = np.ones((8, 3, 2), "float32")
    batches = training.Batches.from_arrays((x, np.ones((8, 1))), 4)
    two = Placement("one", accumulate=2)
    with pytest.raises(BatchError, match="a batch cannot be split into 2"):
        training.fit(stateful, batches, "mse", tmp_path, epochs=1, placement=two)
    with locked(tmp_path, "training"), pytest.raises(LockedError, match="is in use: training"):
        training.fit(linear, made(), "mse", tmp_path, epochs=1)


def test_an_optimizer_that_would_sum_the_gradients_again(tmp_path):
    """On several devices, whose gradients a step has summed already."""
    placement = Placement("one")
    placement.replicas = 2
    with pytest.raises(ValueError, match=r"optimizer=SGD: expected kerasrnn.training.AdamW"):
        training.fit(
            linear,
            made(),
            "mse",
            tmp_path,
            epochs=1,
            optimizer=keras.optimizers.SGD,
            placement=placement,
        )


def test_half_precision_ends_in_float32(tmp_path):
    placement = Placement("one", precision="bfloat16")
    model, _ = training.fit(linear, made(), "mse", tmp_path, epochs=1, placement=placement)
    assert model.layers[-1].compute_dtype == "float32"
    assert model.get_weights()[0].dtype == "float32"


def test_the_log_for_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, log = training.fit(linear, made(), "mse", tmp_path, epochs=2, tensorboard=True)
    events = EventAccumulator(str(tmp_path / "tensorboard" / "train")).Reload()
    points = [float(tf.make_ndarray(e.tensor_proto)) for e in events.Tensors("epoch_loss")]
    assert points == pytest.approx([row["loss"] for row in log])
