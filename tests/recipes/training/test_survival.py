"""Runs that are killed, stopped, or come to no numbers."""

import csv
import dataclasses
import json
import os
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kerasrnn.__main__ import main
from kerasrnn.recipes.base.execution import Execution
from kerasrnn.recipes.base.runs import Run
from kerasrnn.recipes.training import train
from kerasrnn.training import checkpoints
from kerasrnn.training.errors import DivergenceError
from kerasrnn.training.interruption import Interrupted
from kerasrnn.training.loop import Loop
from kerasrnn.training.step import TrainingModel
from tests.recipes import made_up
from tests.recipes.training import kill_loop
from tests.training.forked import Forked

pytestmark = pytest.mark.tensorflow


@pytest.fixture(autouse=True)
def _quickly(monkeypatch):
    # test_training.py has the loops compiled.
    monkeypatch.setattr(TrainingModel, "compile_loops", lambda self: None)


def log_of(folder):
    """What does not depend on the clock."""
    with (folder / "log.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def metrics_of(folder):
    metrics = json.loads((folder / "metrics.json").read_text())
    others = ("seconds", "resumed_at_epoch", "peak_memory_of_process")
    return {k: v for k, v in metrics.items() if k not in others}


def arrays_of(folder):
    index = json.loads((folder / "checkpoint" / "index.json").read_text())
    found = {}
    for name in (index["file"], (index["best"] or {}).get("file")):
        if name:
            with np.load(folder / "checkpoint" / name) as file:
                found |= {f"{name}/{key}": file[key] for key in file.files}
    return found


def board_of(folder):
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


def assert_same_run(one, other):
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
    assert board_of(one) == board_of(other)


@pytest.mark.slow
def test_killed_again_and_again(tmp_path):
    """During steps, checkpoints, half-written files, saving and exporting: bit for bit the same."""
    process = Forked(tmp_path / "said.txt", kill_loop.main, tmp_path)
    assert process.wait() == 0, process.said()
    lives = json.loads((tmp_path / "lives.json").read_text())["lives"]
    assert sum(events == -1 for _, _, events, _ in lives) >= 4
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert_same_run(whole, killed)
    assert len(board_of(killed)["validation", "epoch_loss"]) == 3
    for folder in (killed, killed / "checkpoint", killed / "export"):
        assert not list(folder.glob(".*"))
    assert (killed / "export" / "model.onnx").is_file()
    sessions = [json.loads(line) for line in (killed / "sessions.jsonl").read_text().splitlines()]
    assert [session.get("ended") for session in sessions[-2:]] == [None, "finished"]


@pytest.fixture
def stopped_by(monkeypatch):
    """Has a signal come after so many steps."""

    def arrange(number, after):
        original = Loop.train

        def until(self, batches, steps):
            done = original(self, batches, steps)
            if int(self.model.optimizer.iterations) == after:
                os.kill(os.getpid(), number)
            return done

        monkeypatch.setattr(Loop, "train", until)

    return arrange


def test_a_signal_stops_within_an_epoch(recipe, tmp_path, stopped_by):
    """And the run goes on from there: order, dropout, optimizer and the metrics of the epoch."""
    config = made_up.small(validation=0.25, cell="simple_rnn")
    whole = Run.create(recipe, config, tmp_path / "whole")
    expected = train(recipe, config, whole, recipe.load(None))
    run = Run.create(recipe, config, tmp_path / "cut")
    stopped_by(signal.SIGTERM, 5)
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="stopped in epoch 2 after 2 of its 3 steps") as stop:
        train(recipe, config, run, recipe.load(None))
    assert stop.value.number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is handler
    _, at = checkpoints.Checkpoints(run.path("checkpoint")).restore()
    assert (at.epoch, at.step) == (1, 2)
    metrics = train(recipe, config, run, recipe.load(None))
    assert metrics["test_loss"] == expected["test_loss"]
    assert_same_run(whole.folder, run.folder)


def test_a_signal_during_validation(recipe, tmp_path, monkeypatch):
    """The epoch's steps are not done again, its validation is."""
    config = made_up.small(validation=0.25, epochs=2, cell="simple_rnn")
    whole = Run.create(recipe, config, tmp_path / "whole")
    train(recipe, config, whole, recipe.load(None))
    run = Run.create(recipe, config, tmp_path / "cut")
    original = Loop.evaluate

    def evaluate(self, batches, between):
        os.kill(os.getpid(), signal.SIGINT)
        return original(self, batches, between)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "evaluate", evaluate)
        with pytest.raises(Interrupted, match="stopped in epoch 1 after 3 of its 3 steps"):
            train(recipe, config, run, recipe.load(None))
    train(recipe, config, run, recipe.load(None))
    assert_same_run(whole.folder, run.folder)


def test_what_the_command_says_of_a_signal(recipe, tmp_path, monkeypatch, capsys, stopped_by):
    """Of Ctrl-C, then of SIGTERM; then the run ends."""
    monkeypatch.chdir(tmp_path)
    options = ["--units", "8", "--epochs", "2", "--batch-size", "15", "--cell", "simple_rnn"]
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


def test_checkpoints_within_an_epoch(recipe, tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(
        checkpoints.Checkpoints, "save", lambda self, arrays, at: saved.append((at.epoch, at.step))
    )
    config = made_up.small(epochs=1, cell="simple_rnn")
    for minutes in (10.0, 0.0):
        run = Run.create(recipe, config, tmp_path / str(minutes))
        execution = Execution(strategy="one", checkpoint_minutes=minutes)
        train(recipe, config, run, recipe.load(None), execution)
    assert saved == [(1, 0), *[(0, n) for n in (1, 2, 3, 4)], (1, 0)]


def diverging(recipe, folder, data=None):
    config = made_up.small(cell="simple_rnn", epochs=3)
    run = Run.create(recipe, config, folder)
    with pytest.raises(DivergenceError) as error:
        train(recipe, config, run, data or recipe.load(None))
    assert not run.finished
    assert not run.path("model.keras").exists()
    return str(error.value), run


def test_data_that_is_not_finite(recipe, tmp_path):
    data = recipe.load(None)
    data = dataclasses.replace(data, train=data.train.map(lambda x, y: (x * float("nan"), y)))
    message, run = diverging(recipe, tmp_path / "run", data)
    assert "training japanese_vowels with learning_rate 0.003: the loss or the" in message
    assert "are not finite in step 1 (epoch 1, batch 1)" in message
    assert "the inputs of this batch are not finite: check the data" in message
    assert checkpoints.Checkpoints(run.path("checkpoint")).restore() is None


def test_one_bad_example_is_found_again(recipe, tmp_path):
    """In the order in which the examples came."""
    data = recipe.load(None)

    def poisoned(n, example):
        x, y = example
        return tf.where(n == 17, float("nan"), x), y

    data = dataclasses.replace(data, train=data.train.enumerate().map(poisoned))
    message, _ = diverging(recipe, tmp_path / "run", data)
    assert "the inputs of this batch are not finite" in message


class Overflow(keras.layers.Layer):
    """Infinite from its sixth batch in training on."""

    def build(self, shape):
        self.seen = self.add_weight(shape=(), initializer="zeros", trainable=False, name="seen")

    def call(self, x, training=False):
        if not training:
            return x
        self.seen.assign_add(1.0)
        return x / tf.cast(self.seen < 6.0, x.dtype)


class Cliff(keras.layers.Layer):
    """Finite, with gradients that are not."""

    def call(self, x):
        return x + tf.sqrt(tf.abs(x * 0.0))


def behind(recipe, monkeypatch, layer):
    original = type(recipe).model

    def model(self, config, data):
        built = original(self, config, data)
        return keras.Model(built.input, layer(built.output))

    monkeypatch.setattr(type(recipe), "model", model)


def test_a_layer_whose_outputs_are_not_finite(recipe, tmp_path, monkeypatch):
    """It is named, with its step, and what was trained before is kept."""
    behind(recipe, monkeypatch, Overflow(name="overflow"))
    message, run = diverging(recipe, tmp_path / "run")
    assert "step 6 (epoch 2, batch 2)" in message
    assert "the layer 'overflow' (Overflow) is the first whose outputs are not finite" in message
    arrays, at = checkpoints.Checkpoints(run.path("checkpoint")).restore()
    assert at.epoch == 1
    assert all(np.isfinite(values).all() for values in arrays.values())


def test_gradients_that_are_not_finite(recipe, tmp_path, monkeypatch):
    behind(recipe, monkeypatch, Cliff())
    message, _ = diverging(recipe, tmp_path / "run")
    assert "step 1 (epoch 1, batch 1)" in message
    assert (
        "the loss is finite; going back from the outputs, the gradient of speaker/bias" in message
    )
