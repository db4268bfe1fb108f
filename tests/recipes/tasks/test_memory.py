"""The two problems against their definitions, and what is answered without memory."""

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest

from kerasrnn import recipes
from kerasrnn.recipes.base.config import ConfigError
from kerasrnn.recipes.tasks import memory

pytestmark = pytest.mark.tensorflow
RECIPE = recipes.load("long_memory")


@pytest.mark.parametrize("steps", [2, 7, 50])
def test_adding_is_the_sum_of_two_marked_values(steps):
    x, y = memory.adding(500, steps, seed=3)
    assert x.shape == (500, steps, 2)
    values, markers = x[..., 0], x[..., 1]
    assert 0 <= values.min() < values.max() < 1
    half = steps // 2
    for row in range(500):
        marked = np.flatnonzero(markers[row])
        assert len(marked) == 2
        assert marked[0] < half <= marked[1]
        assert y[row, 0] == np.float32(values[row, marked[0]] + values[row, marked[1]])
    # Every step may be marked.
    assert markers.any(axis=0).all()


def test_the_loss_of_adding_without_memory_is_a_sixth():
    """(s - 1)^2 for s the sum of two uniform numbers: its mean is the variance, 2/12."""
    _, y = memory.adding(200_000, 2, seed=0)
    assert ((y - 1) ** 2).mean() == pytest.approx(1 / 6, abs=0.002)


def test_copying_repeats_ten_symbols():
    x, y = memory.copy(400, 15, seed=3)
    assert x.shape == y.shape == (400, 35)
    assert set(np.unique(x[:, :10])) == set(range(1, 9))
    assert not x[:, 10:24].any()
    assert (x[:, 24:] == 9).all()
    assert not y[:, :25].any()
    np.testing.assert_array_equal(y[:, 25:], x[:, :10])


def test_seeds_draw_different_sequences():
    for make in (memory.adding, memory.copy):
        a, b, c = (make(4, 9, seed)[0] for seed in (0, 0, 1))
        np.testing.assert_array_equal(a, b)
        assert (a != c).any()


def judged(task, answers, folder, monkeypatch):
    """The metrics of a model that says `answers` of the test sequences' targets."""
    monkeypatch.setattr(memory, "draw_gradients", lambda path, steps: None)
    config = dataclasses.replace(RECIPE.tiny(), task=task)
    data = RECIPE.load(config)
    expected = np.concatenate([y for _, y in data.test.batch(100).as_numpy_iterator()])
    model = SimpleNamespace(predict=lambda batches, verbose: answers(expected))
    return RECIPE.evaluate(model, data, config, folder) | RECIPE.baselines(data, config)


def test_the_baseline_of_adding_predicts_one(tmp_path, monkeypatch):
    metrics = judged("adding", np.ones_like, tmp_path, monkeypatch)
    assert metrics["baseline_no_memory_test_loss"] == 1 / 6
    assert metrics["test_loss"] == pytest.approx(1 / 6, abs=0.02)  # of 1,000 sequences
    right = judged("adding", lambda y: y + 0.5, tmp_path, monkeypatch)
    assert right["test_loss"] == pytest.approx(0.25)


def test_the_baseline_of_copying_draws_the_symbols(tmp_path, monkeypatch):
    def drawn(y):
        p = np.full((*y.shape, 10), 1e-30)
        p[:, :-10, 0] = 1.0
        p[:, -10:, 1:9] = 1 / 8
        return p

    metrics = judged("copy", drawn, tmp_path, monkeypatch)
    expected = 10 * math.log(8) / (12 + 20)
    assert metrics["baseline_no_memory_test_loss"] == pytest.approx(expected)
    assert metrics["test_loss"] == pytest.approx(expected)
    assert metrics["test_recalled"] == pytest.approx(1 / 8, abs=0.015)

    def half(y):
        """Sure of what is right, save of the last five symbols of a row, which are 9s to it."""
        p = np.eye(10)[y] * 0.9 + 0.01
        p[:, -5:] = np.eye(10)[9] * 0.9 + 0.01
        return p

    metrics = judged("copy", half, tmp_path, monkeypatch)
    assert metrics["test_recalled"] == 0.5
    assert metrics["test_loss"] == pytest.approx(-(27 * math.log(0.91) + 5 * math.log(0.01)) / 32)


def test_answers_show_the_expected_values(tmp_path):
    x, y = memory.adding(2, 6, seed=0)
    model = SimpleNamespace(predict=lambda batch, verbose: np.array([[0.25], [1.5]]))
    answers = RECIPE.predict(model, {"task": "adding"}, list(x), None)
    sums = [f"{value:.3f}" for value in y[:, 0]]
    assert answers == [f"0.250 (expected {sums[0]})", f"1.500 (expected {sums[1]})"]
    x, y = memory.copy(1, 6, seed=0)
    model = SimpleNamespace(predict=lambda batch, verbose: np.eye(10)[y])
    (answer,) = RECIPE.predict(model, {"task": "copy"}, list(x), None)
    symbols = " ".join(str(n) for n in x[0, :10])
    assert answer == f"{symbols} (expected {symbols})"


@pytest.mark.parametrize("task", ["adding", "copy"])
def test_exports_are_checked_on_single_and_shorter_sequences(task):
    config = dataclasses.replace(RECIPE.tiny(), task=task)
    data = RECIPE.load(config)
    model = RECIPE.model(config, data)
    exported, batches = RECIPE.exports(model, data, config)["model"]
    width = 2 if task == "adding" else 10
    assert [batch.shape[-1] for batch in batches] == [width] * 5
    assert batches[-1].shape[:2] == (1, 6)
    for batch in batches:
        assert np.isfinite(exported(batch)).all()


def test_the_seed_of_the_test_sequences_is_an_error():
    with pytest.raises(ConfigError, match="seed=1000003: expected another seed"):
        RECIPE.load(dataclasses.replace(RECIPE.tiny(), seed=1_000_003))
    with pytest.raises(ConfigError, match="'x': long_memory predicts only its own test sequences"):
        RECIPE.parse_input("x")


def test_gradients_are_drawn_if_an_epoch_is_left(tmp_path):
    """One that is resumed behind its last epoch keeps the picture that there is."""
    config = dataclasses.replace(RECIPE.tiny(), cell="simple_rnn")
    data = RECIPE.load(config)
    model = RECIPE.model(config, data)
    model.compile("adam", RECIPE.loss(config))
    batches = RECIPE.batches(data.train, config, training=True)
    callbacks = RECIPE.callbacks(config, data, tmp_path)
    options = {"callbacks": callbacks, "shuffle": False, "verbose": 0}
    model.fit(batches, epochs=2, initial_epoch=2, **options)
    assert not (tmp_path / "gradients.png").exists()
    model.fit(batches, epochs=1, **options)
    assert (tmp_path / "gradients.png").read_bytes().startswith(b"\x89PNG")
