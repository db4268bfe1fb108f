"""Runs that are killed, interrupted, or diverge."""

import dataclasses
import json
import os
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasrnn.__main__ import main
from kerasrnn.recipes.base.execution import Execution
from kerasrnn.recipes.base.runs import Run
from kerasrnn.recipes.training import train
from kerasrnn.training import checkpoints
from kerasrnn.training.errors import DivergenceError
from kerasrnn.training.interruption import Interrupted
from kerasrnn.training.loop import Loop
from tests.processes import Call
from tests.recipes import made_up
from tests.recipes.training import kill_loop
from tests.recipes.training.compared import assert_same_run, curves_of

pytestmark = [pytest.mark.tensorflow, pytest.mark.xdist_group("processes")]


@pytest.mark.slow
def test_killed_again_and_again(tmp_path):
    """During steps, checkpoints, half-written files, saving and exporting: bit for bit the same."""
    process = Call(tmp_path / "output.txt", kill_loop.main, tmp_path)
    assert process.wait() == 0, process.output()
    lives = json.loads((tmp_path / "lives.json").read_text())["lives"]
    assert sum(events == -1 for _, _, events in lives) >= 4
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert_same_run(whole, killed)
    assert len(curves_of(killed)["validation", "epoch_loss"]) == 3
    for folder in (killed, killed / "checkpoint", killed / "export"):
        assert not list(folder.glob(".*"))
    assert (killed / "export" / "model.onnx").is_file()
    sessions = [json.loads(line) for line in (killed / "sessions.jsonl").read_text().splitlines()]
    assert [session.get("ended") for session in sessions[-2:]] == [None, "finished"]


@pytest.fixture
def stopped_by(monkeypatch):
    """A function that schedules a signal after a number of steps."""

    def schedule(number, after):
        original = Loop.train

        def until(self, batches, steps):
            done = original(self, batches, steps)
            if int(self.model.optimizer.iterations) == after:
                os.kill(os.getpid(), number)
            return done

        monkeypatch.setattr(Loop, "train", until)

    return schedule


CONFIG = made_up.small(validation=0.25, epochs=2)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("whole") / "run"


@pytest.fixture
def whole(light, place):
    """An uninterrupted run with `CONFIG`, which the first test that needs it trains."""
    if place.exists():
        return Run(place)
    run = Run.create(light, CONFIG, place)
    train(light, CONFIG, run, light.load(None))
    return run


def test_a_signal_stops_within_an_epoch(light, whole, tmp_path, stopped_by):
    """Order, dropout, optimizer and the metrics of the epoch continue."""
    run = Run.create(light, CONFIG, tmp_path / "cut")
    stopped_by(signal.SIGTERM, 5)
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="stopped in epoch 2 after 2 of its 3 steps") as stop:
        train(light, CONFIG, run, light.load(None))
    assert stop.value.number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is handler
    _, at = checkpoints.Checkpoints(run.path("checkpoint")).restore()
    assert (at.epoch, at.step) == (1, 2)
    metrics = train(light, CONFIG, run, light.load(None))
    assert metrics["test_loss"] == whole.read_json("metrics.json")["test_loss"]
    assert_same_run(whole.folder, run.folder)


def test_a_run_without_a_checkpoint_starts_again(light, whole, tmp_path, monkeypatch):
    run = Run.create(light, CONFIG, tmp_path / "cut")
    original = Loop.train

    def until(self, batches, steps):
        if int(self.model.optimizer.iterations) == 2:
            raise KeyboardInterrupt
        return original(self, batches, steps)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "train", until)
        with pytest.raises(KeyboardInterrupt):
            train(light, CONFIG, run, light.load(None))
    assert checkpoints.Checkpoints(run.path("checkpoint")).restore() is None
    assert train(light, CONFIG, run, light.load(None))["resumed_at_epoch"] == 0
    assert_same_run(whole.folder, run.folder)


def test_a_signal_during_validation(light, whole, tmp_path, monkeypatch):
    """The validation of the epoch is repeated, but not its steps."""
    run = Run.create(light, CONFIG, tmp_path / "cut")
    original = Loop.evaluate

    def evaluate(self, batches, between):
        os.kill(os.getpid(), signal.SIGINT)
        return original(self, batches, between)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "evaluate", evaluate)
        with pytest.raises(Interrupted, match="stopped in epoch 1 after 3 of its 3 steps"):
            train(light, CONFIG, run, light.load(None))
    train(light, CONFIG, run, light.load(None))
    assert_same_run(whole.folder, run.folder)


@pytest.mark.usefixtures("light")
def test_the_command_prints_how_to_resume(tmp_path, monkeypatch, capsys, stopped_by):
    """After Ctrl-C, and after SIGTERM."""
    monkeypatch.chdir(tmp_path)
    options = ["--epochs", "2", "--batch-size", "15"]
    command = ["train", "japanese_vowels", *options, "--output", "here"]
    again = "kerasrnn train japanese_vowels --resume --output here"
    for steps, (number, status) in enumerate(((signal.SIGINT, 130), (signal.SIGTERM, 143)), 1):
        stopped_by(number, steps)
        assert main(command) == status
        assert f"stopped in epoch 1 after {steps} of its 4 steps; resume with: {again}" in (
            capsys.readouterr().err
        )
        command = again.split()[1:]
    assert main(command) == 0
    *stopped, last = (tmp_path / "here" / "sessions.jsonl").read_text().splitlines()
    assert len(stopped) == 2
    for session in stopped:
        assert json.loads(session)["ended"].startswith("Interrupted: stopped in epoch 1")
    assert json.loads(last)["ended"] == "finished"


def test_checkpoints_within_an_epoch(light, tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(
        checkpoints.Checkpoints, "save", lambda self, arrays, at: saved.append((at.epoch, at.step))
    )
    config = made_up.small(epochs=1)
    for minutes in (10.0, 0.0):
        run = Run.create(light, config, tmp_path / str(minutes))
        execution = Execution(strategy="one", checkpoint_minutes=minutes)
        train(light, config, run, light.load(None), execution)
    assert saved == [(1, 0), *[(0, n) for n in (1, 2, 3, 4)], (1, 0)]


def diverging(light, folder, data=None):
    config = made_up.small(epochs=3)
    run = Run.create(light, config, folder)
    with pytest.raises(DivergenceError) as error:
        train(light, config, run, data or light.load(None))
    assert not run.finished
    assert not run.path("model.keras").exists()
    return str(error.value), run


def test_inputs_that_are_not_finite(light, tmp_path):
    data = light.load(None)
    data = dataclasses.replace(data, train=data.train.map(lambda x, y: (x * float("nan"), y)))
    message, run = diverging(light, tmp_path / "run", data)
    assert "training japanese_vowels with learning_rate 0.003: the loss or the" in message
    assert "are not finite in step 1 (epoch 1, batch 1)" in message
    assert "the inputs of this batch are not finite: check the data" in message
    assert checkpoints.Checkpoints(run.path("checkpoint")).restore() is None


def test_one_bad_example_is_found(light, tmp_path):
    """In the shuffled order of the training."""
    data = light.load(None)

    def poisoned(n, example):
        x, y = example
        return tf.where(n == 17, float("nan"), x), y

    data = dataclasses.replace(data, train=data.train.enumerate().map(poisoned))
    message, _ = diverging(light, tmp_path / "run", data)
    assert "the inputs of this batch are not finite" in message


class Overflow(keras.layers.Layer):
    """A layer whose outputs are infinite from the sixth training batch on."""

    def build(self, shape):
        self.seen = self.add_weight(shape=(), initializer="zeros", trainable=False, name="seen")

    def call(self, x, training=False):
        if not training:
            return x
        self.seen.assign_add(1.0)
        return x / tf.cast(self.seen < 6.0, x.dtype)


class Cliff(keras.layers.Layer):
    """A layer with finite outputs, and gradients that are not finite."""

    def call(self, x):
        return x + tf.sqrt(tf.abs(x * 0.0))


def append(light, monkeypatch, layer):
    """Append a layer to the model of the recipe."""
    original = type(light).model

    def model(self, config, data):
        built = original(self, config, data)
        return keras.Model(built.input, layer(built.output))

    monkeypatch.setattr(type(light), "model", model)


def test_a_layer_whose_outputs_are_not_finite(light, tmp_path, monkeypatch):
    """The layer and the step are named, and the last checkpoint is from before the step."""
    append(light, monkeypatch, Overflow(name="overflow"))
    message, run = diverging(light, tmp_path / "run")
    assert "step 6 (epoch 2, batch 2)" in message
    assert "the layer 'overflow' (Overflow) is the first whose outputs are not finite" in message
    arrays, at = checkpoints.Checkpoints(run.path("checkpoint")).restore()
    assert at.epoch == 1
    assert all(np.isfinite(values).all() for values in arrays.values())


def test_gradients_that_are_not_finite(light, tmp_path, monkeypatch):
    append(light, monkeypatch, Cliff())
    message, _ = diverging(light, tmp_path / "run")
    assert "step 1 (epoch 1, batch 1)" in message
    assert (
        "the loss is finite; going back from the outputs, the gradient of speaker/bias" in message
    )
