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
from tests import processes
from tests.training import plain

pytestmark = [pytest.mark.tensorflow, pytest.mark.xdist_group("processes")]


def log_of(folder):
    """The log without its times."""
    with (folder / "log.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder and the weights of a training without an interruption."""
    folder = tmp_path_factory.mktemp("whole")
    model, log = plain.fitted(folder)
    assert [row["epoch"] for row in log] == [0, 1, 2]
    return folder, model.get_weights()


def assert_same(weights, others):
    for a, b in zip(weights, others, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_killed_training_is_resumed(tmp_path, whole):
    """Killed by SIGKILL within an epoch: weights and log are the same in the end, bit for bit."""

    def run(*arguments):
        process = processes.Call(tmp_path / "output.txt", plain.main, folder, *arguments)
        status = process.wait()
        assert status in (0, -signal.SIGKILL), process.output()
        return status

    folder = tmp_path / "killed"
    assert run(5) == -signal.SIGKILL
    index = json.loads((folder / "checkpoint" / "index.json").read_text())
    assert (index["epoch"], index["step"]) == divmod(4, plain.STEPS)
    assert not (folder / "weights.npz").exists()
    assert run() == 0
    expected_folder, expected = whole
    assert log_of(folder) == log_of(expected_folder)
    with np.load(folder / "weights.npz") as found:
        assert_same([found[name] for name in found], expected)


def test_an_interrupted_training_is_resumed(tmp_path, monkeypatch, whole):
    original = Loop.train

    def until(self, batches, steps):
        done = original(self, batches, steps)
        if int(self.model.optimizer.iterations) == plain.STEPS + 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return done

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "train", until)
        with pytest.raises(Interrupted, match="stopped in epoch 2 after 1 of its 3 steps"):
            plain.fitted(tmp_path)
    model, _ = plain.fitted(tmp_path)
    folder, expected = whole
    assert_same(model.get_weights(), expected)
    assert log_of(tmp_path) == log_of(folder)
    # A training that is complete is only read.
    again, _ = plain.fitted(tmp_path)
    assert_same(again.get_weights(), expected)


def linear():
    return keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(1, kernel_initializer="ones", use_bias=False)]
    )


def test_it_equals_keras_fit(tmp_path):
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


def test_early_stopping(tmp_path, capsys):
    """The validation loss falls until 2 w = 4, in the third epoch; two more do not improve it."""
    x = np.ones((4, 2), "float32")
    targets = [np.full((4, 1), value) for value in (9.0, 4.0)]
    batches = training.Batches.from_arrays((x, targets[0]), 4, validation=(x, targets[1]))
    options = {"optimizer": lambda: keras.optimizers.SGD(0.03), "patience": 2}
    w = [1.0]
    for _ in range(9):
        w.append(w[-1] + 0.03 * 2 * (9 - 2 * w[-1]))
    losses = [(2 * each - 4) ** 2 for each in w[1:]]
    least = losses.index(min(losses))
    assert 1 < least < 5

    def fit(epochs):
        model, log = training.fit(
            linear, batches, "mse", tmp_path, epochs, **options, progress=training.Progress("lines")
        )
        assert [row["val_loss"] for row in log] == pytest.approx(losses[: len(log)], rel=1e-4)
        return float(model.get_weights()[0].sum()), len(log)

    last, epochs = fit(9)
    assert epochs == least + 1 + 2
    assert last == pytest.approx(2 * w[epochs], rel=1e-5)
    assert "stopped early: no lower validation loss in 2 epochs" in capsys.readouterr().out
    assert fit(9) == (last, epochs)  # resumed, it has ended
    alone = training.Batches.from_arrays((x, targets[0]), 4)
    with pytest.raises(BatchError, match="patience=2: expected batches with validation"):
        training.fit(linear, alone, "mse", tmp_path / "alone", 2, **options)


def test_values_that_are_not_finite(tmp_path):
    x = np.ones((8, 2), "float32")
    x[5, 1] = np.nan
    batches = training.Batches.from_arrays((x, np.ones((8, 1))), 4, shuffle=False)
    message = r"step 2 \(epoch 1, batch 2\): the inputs of this batch are not finite"
    with pytest.raises(DivergenceError, match=message):
        training.fit(linear, batches, "mse", tmp_path, epochs=1)


def made(**options):
    return training.Batches.from_arrays((np.ones((8, 2)), np.ones((8, 1))), 4, **options)


def test_invalid_options_are_refused(tmp_path):
    with pytest.raises(BatchError, match="keep='best': expected batches with validation examples"):
        training.fit(linear, made(), "mse", tmp_path, epochs=1, keep="best")
    with pytest.raises(ValueError, match="keep='first': expected 'last' or 'best'"):
        training.fit(linear, made(), "mse", tmp_path, epochs=1, keep="first")
    with pytest.raises(ValueError, match="epochs=0: expected a positive integer"):
        training.fit(linear, made(), "mse", tmp_path, epochs=0)
    with pytest.raises(ValueError, match=r"build=<Sequential .*: expected a function that builds"):
        training.fit(linear(), made(), "mse", tmp_path, epochs=1)
    with pytest.raises(ValueError, match=r"build returned <Sequential .*; expected a functional"):
        training.fit(keras.Sequential, made(), "mse", tmp_path, epochs=1)
    with pytest.raises(ValueError, match="optimizer='adam': expected a function that creates one"):
        training.fit(linear, made(), "mse", tmp_path, epochs=1, optimizer="adam")
    alone = training.Batches.from_arrays(np.ones((8, 2)), 4)
    with pytest.raises(BatchError, match=r"batches: a batch is .*; expected \(inputs, target\)"):
        training.fit(linear, alone, "mse", tmp_path, epochs=1)
    other = made(validation=({"a": np.ones((8, 2))}, np.ones((8, 1))))
    with pytest.raises(BatchError, match=r"validation: a batch is .* expected the structure of"):
        training.fit(linear, other, "mse", tmp_path, epochs=1)
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


def test_metrics_of_several_outputs(tmp_path):
    def build():
        keras.utils.set_random_seed(0)
        inputs = keras.Input((2,))
        return keras.Model(
            inputs, {name: keras.layers.Dense(1, name=name)(inputs) for name in "ab"}
        )

    x = np.random.default_rng(0).standard_normal((8, 2)).astype("float32")
    batches = training.Batches.from_arrays((x, {"a": x[:, :1], "b": x[:, 1:]}), 8)
    metrics = {"a": ["mae"], "b": ["mse"]}
    _, (row,) = training.fit(build, batches, "mse", tmp_path, epochs=1, metrics=metrics)
    a, b = (np.asarray(build()(x)[name])[:, 0] - x[:, n] for n, name in enumerate("ab"))
    assert row["a_mae"] == pytest.approx(np.abs(a).mean(), rel=1e-5)
    assert row["b_mse"] == pytest.approx(np.square(b).mean(), rel=1e-5)


def test_several_devices_need_an_optimizer_that_does_not_sum(tmp_path):
    """A step has already summed the gradients of the devices."""
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
