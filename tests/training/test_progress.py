"""Reports before and during a training."""

import io
import itertools
import json
import time
import types

import keras
import pytest
import tensorflow as tf

import kerasrnn
from kerasrnn.training import progress, summary
from kerasrnn.training.placement import Placement
from kerasrnn.training.progress import Progress

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def clock(monkeypatch):
    """A clock that advances by a second at each reading."""
    ticks = itertools.count()
    monkeypatch.setattr(progress.time, "perf_counter", lambda: float(next(ticks)))


def reported(mode, pause=0.0):
    """The report of a training of two epochs of eight steps."""
    stream = io.StringIO()
    shown = Progress(mode, stream)
    shown.begin(epochs=2, steps=8, done=0)
    for epoch in range(2):
        for _ in range(8):
            time.sleep(pause)
            shown.step(1, epoch, lambda: 0.5)
        shown.evaluated()
        shown.epoch({"epoch": epoch, "loss": 0.5, "val_loss": 0.25, "learning_rate": 0.1})
    shown.end()
    shown.report("end", "done", metrics={"f1": 1.0})
    return stream.getvalue()


def test_lines(clock):
    lines = reported("lines").splitlines()
    assert lines[0] == "an epoch takes 8.0 s; 14 s left"  # after two steps
    # Eight steps and an evaluation, each of a second, and a second of writing.
    assert lines[1] == "epoch 1/2: loss 0.5000, val loss 0.2500 (10 s left)"
    assert lines[2] == "epoch 2/2: loss 0.5000, val loss 0.2500"
    assert lines[3:] == ["done"]


def test_steps_that_are_traced_do_not_count(monkeypatch):
    """Three epochs of four steps of 2 s, with two lengths, each traced when it first occurs."""
    stream, now = io.StringIO(), [0.0]
    shown = Progress("json", stream)
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    shown.begin(epochs=3, steps=4, done=0)
    for epoch in range(3):
        for step in range(4):
            traced = epoch == 0 and step in (0, 2)
            now[0] += 60 if traced else 2
            shown.step(1, epoch, lambda: 0.5, traced)
        now[0] += 3 if epoch else 50
        shown.evaluated(traced=epoch == 0)
        now[0] += 1
        shown.epoch({"epoch": epoch, "loss": 0.5})
    pace, *epochs = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert (pace["event"], pace["seconds_per_step"], pace["seconds_left"]) == ("pace", 2, 10 * 2)
    assert [event["seconds_left"] for event in epochs] == [2 * (4 * 2 + 1), 4 * 2 + 3 + 1, 0]


def test_without_a_step_there_is_no_estimate():
    """A run that was interrupted after the last step of an epoch is resumed."""
    for mode, expected in (("lines", "epoch 1/3: loss 0.5000\n"), ("json", '"seconds_left": null')):
        stream = io.StringIO()
        shown = Progress(mode, stream)
        shown.begin(epochs=3, steps=4, done=4)
        shown.epoch({"epoch": 0, "loss": 0.5})
        assert expected in stream.getvalue()


def test_json(clock):
    events = [json.loads(line) for line in reported("json").splitlines()]
    assert [event["event"] for event in events] == ["pace", "epoch", "epoch", "end"]
    assert events[0] == {"event": "pace", "seconds_per_step": 1.0, "seconds_left": 14.0}
    assert (events[1]["epoch"], events[1]["epochs"], events[1]["val_loss"]) == (1, 2, 0.25)
    assert events[2]["seconds_left"] == 0
    assert events[3]["metrics"] == {"f1": 1.0}


def test_a_bar():
    drawn = reported("bar", pause=0.03)  # it is drawn ten times a second
    assert "epoch 2/2" in drawn
    assert "loss=0.5000" in drawn
    assert "epoch 1/2: loss 0.5000, val loss 0.2500" in drawn


def test_nothing():
    assert reported("none") == ""


def test_the_default_mode_depends_on_the_terminal():
    terminal = io.StringIO()
    assert Progress("auto", terminal).mode == "lines"
    terminal.isatty = lambda: True
    assert Progress("auto", terminal).mode == "bar"
    with pytest.raises(ValueError, match="mode='bars': expected one of auto, bar, lines"):
        Progress("bars")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.42, "0.4 s"), (12.4, "12 s"), (200, "3 min 20 s"), (3900, "1 h 05 min")],
)
def test_durations(seconds, text):
    assert progress.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(7, "7 B"), (7300, "7.3 kB"), (41e6, "41 MB"), (3.24e9, "3.2 GB")]
)
def test_sizes(count, text):
    assert progress.size(count) == text


@pytest.mark.parametrize(
    ("options", "rows", "width", "copies"),
    [({}, 12, 4, 5), ({"precision": "bfloat16", "accumulate": 3}, 4, 2, 6)],
)
def test_a_summary(options, rows, width, copies):
    """An LSTM of 5 units over at most 9 steps of 3 numbers, beside a picture."""
    picture, inputs = keras.Input((40, 2)), keras.Input((None, 3))
    seen = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(5)])(picture)
    states = kerasrnn.LSTM(5)(inputs)
    outputs = keras.layers.Dense(2)(keras.layers.Concatenate()([states, seen]))
    model = keras.Model([picture, inputs], outputs)

    def some(examples):
        assert examples >= 12
        for length in (4, 9, 2):
            yield ((tf.zeros((12, 40, 2)), tf.zeros((12, length, 3))), tf.zeros(12))

    batches = types.SimpleNamespace(batch_size=12, steps=7, size=30, some=some)
    found = summary.of(model, batches, Placement("one", **options))
    weights = (80 + 1) * 5 + (3 + 5 + 1) * 20 + (10 + 1) * 2
    # At each step: the products of the inputs, the gates and the state. Then the outputs of the
    # layers: of both in the sequential model, of the LSTM, of the concatenation and the last one.
    kept = rows * (9 * (2 * 20 + 5) + (80 + 5) + 5 + 10 + 2)
    assert found == summary.Summary(
        examples=30,
        steps=7,
        batch=rows,
        parameters=weights,
        weights_bytes=4 * copies * weights,
        activations_bytes=2 * width * kept,
    )
