"""Which epoch is kept, which examples are held out, and how each pass over the data starts."""

import dataclasses
import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasrnn import recipes
from kerasrnn.recipes.base.config import ConfigError
from kerasrnn.recipes.base.recipe import Data
from kerasrnn.recipes.base.runs import Run
from kerasrnn.recipes.training import batches, train
from kerasrnn.training.errors import BatchError, CheckpointError
from kerasrnn.training.loop import Loop
from tests.recipes import stand_ins

pytestmark = pytest.mark.tensorflow


class Crafted(keras.callbacks.Callback):
    """Sets the validation losses, records the weights of each epoch, and interrupts a run."""

    def __init__(self, losses, interrupted_after=None):
        super().__init__()
        self.losses, self.interrupted_after, self.weights = losses, interrupted_after, {}

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        if epoch == self.interrupted_after:
            raise KeyboardInterrupt

    def on_epoch_end(self, epoch, logs=None):
        self.weights[epoch + 1] = self.model.get_weights()

    def evaluate(self, batches, between):
        return {"loss": self.losses[self.epoch]}


@pytest.fixture
def watched(light, monkeypatch):
    """The recipe with a light model, and a function `watch` that sets its callback."""
    monkeypatch.setattr(type(light), "evaluate", lambda *arguments: {"test_accuracy": 0.5})

    def watch(watcher):
        monkeypatch.setattr(type(light), "callbacks", lambda self, config, data, folder: [watcher])
        monkeypatch.setattr(Loop, "evaluate", lambda self, *given: watcher.evaluate(*given))
        return watcher

    light.watch = watch
    yield light
    del light.watch


def start(recipe, folder, **overrides):
    config = dataclasses.replace(recipe.Config(), epochs=4, batch_size=15, **overrides)
    return config, Run.create(recipe, config, folder)


def assert_weights(model, expected):
    for a, b in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("losses", "best"),
    [([3.0, 1.0, 2.0, 1.0], 2), ([math.nan, 5.0, 4.0, 6.0], 3), ([2.0, 2.0, 2.0, 2.0], 1)],
)
def test_the_best_epoch_is_kept(watched, tmp_path, losses, best):
    watcher = watched.watch(Crafted(losses))
    config, run = start(watched, tmp_path / "run", keep="best", validation=0.25)
    metrics = train(watched, config, run, watched.load(None))
    assert metrics["kept_epoch"] == best
    assert_weights(run.load_model(), watcher.weights[best])
    assert np.abs(watcher.weights[best][0] - watcher.weights[4][0]).max() > 1e-4
    kept = sorted(path.name for path in run.path("checkpoint").iterdir())
    assert kept == [f"best-{best}.npz", "epoch-4-step-0.npz", "index.json"]


def test_the_last_epoch_is_kept_unless_the_best_is_asked_for(watched, tmp_path):
    watcher = watched.watch(Crafted([1.0, 2.0, 3.0, 4.0]))
    config, run = start(watched, tmp_path / "run", validation=0.25)
    assert train(watched, config, run, watched.load(None))["kept_epoch"] == 4
    assert_weights(run.load_model(), watcher.weights[4])


@pytest.mark.parametrize(("losses", "best"), [([2, 1, 5, 3], 2), ([2, 3, 5, 1], 4)])
def test_the_best_epoch_before_an_interruption_counts(watched, tmp_path, losses, best):
    before = watched.watch(Crafted(losses, interrupted_after=3))
    config, run = start(watched, tmp_path / "run", keep="best", validation=0.25)
    with pytest.raises(KeyboardInterrupt):
        train(watched, config, run, watched.load(None))
    after = watched.watch(Crafted(losses))
    metrics = train(watched, config, run, watched.load(None))
    assert (metrics["resumed_at_epoch"], metrics["kept_epoch"]) == (3, best)
    assert (list(before.weights), list(after.weights)) == ([1, 2, 3], [4])
    assert_weights(run.load_model(), {**before.weights, **after.weights}[best])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "best-1.npz is missing. Delete"),
        (lambda path: path.write_bytes(b"no"), "best-1.npz is damaged"),
    ],
)
def test_a_damaged_best_epoch_is_refused(watched, tmp_path, damage, message):
    watched.watch(Crafted([1, 2, 3, 4], interrupted_after=2))
    config, run = start(watched, tmp_path / "run", keep="best", validation=0.25)
    with pytest.raises(KeyboardInterrupt):
        train(watched, config, run, watched.load(None))
    damage(run.path("checkpoint") / "best-1.npz")
    with pytest.raises(CheckpointError, match=message):
        train(watched, config, run, watched.load(None))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"keep": "best"}, "keep='best': expected a validation set; set validation"),
        (
            {"validation": 0.001},
            "validation=0.001: expected a fraction that holds out some of the 60",
        ),
        (
            {"validation": 0.999},
            "validation=0.999: expected a fraction that holds out some of the 60",
        ),
        ({"validation": 0.9}, "batch_size=15: expected at most the 6 training examples"),
    ],
)
def test_impossible_validation_sets_are_refused(recipe, overrides, message):
    config = dataclasses.replace(recipe.Config(), batch_size=15, **overrides)
    with pytest.raises((ConfigError, BatchError), match=message):
        batches(recipe, config, recipe.load(None))


def test_no_fraction_is_held_out_beside_a_validation_set(recipe):
    data = recipe.load(None)
    data = dataclasses.replace(data, validation=data.test, validation_size=31)
    config = dataclasses.replace(recipe.Config(), validation=0.25)
    with pytest.raises(
        ConfigError,
        match=r"validation=0.25: expected 0.0, since japanese_vowels has a validation set of its "
        "own, of 31 examples",
    ):
        batches(recipe, config, data)
    config = dataclasses.replace(recipe.Config(), keep="best")
    made = batches(recipe, config, data)
    assert made.size == 60
    assert sum(len(y) for _, y in made.validation.as_numpy_iterator()) == 31


def test_held_out_examples_are_not_trained_on(recipe):
    config = dataclasses.replace(recipe.Config(), batch_size=15, validation=0.25)
    made = batches(recipe, config, recipe.load(None))
    assert (made.size, made.steps) == (45, 3)

    def utterances(dataset):
        return {x.tobytes() for batch, _ in dataset.as_numpy_iterator() for x in batch}

    held, trained = utterances(made.validation), utterances(made.train().take(6))
    assert (len(held), len(trained)) == (15, 45)
    assert not held & trained


def test_batches_of_some_examples(recipe):
    config = dataclasses.replace(recipe.Config(), batch_size=16)
    made = batches(recipe, config, recipe.load(None))
    assert [len(y) for _, y in made.some(40).as_numpy_iterator()] == [16, 16, 8]
    assert [len(y) for _, y in made.some(10_000).as_numpy_iterator()] == [16, 16, 16, 12]


def test_some_batches_of_a_long_text():
    recipe = recipes.load("char_lm")
    config = dataclasses.replace(recipe.tiny(), batch_size=4, segment=5)
    text = tf.data.Dataset.from_tensors(tf.range(1000))
    data = Data(train=text, test=text, train_size=1, test_size=1, metadata={})
    found = list(batches(recipe, config, data).some(9).as_numpy_iterator())
    assert [x.shape for x, _ in found] == [(4, 5)] * 3


def test_lengths_with_less_than_a_batch_are_merged():
    """Batches of four, of three examples each of two lengths."""
    recipe = recipes.load("word_segmentation")

    def pairs():
        for length in (3, 20, 4, 21, 5, 22):
            yield np.ones(length), np.zeros(length)

    spec = tf.TensorSpec((None,), tf.int32)
    dataset = tf.data.Dataset.from_generator(pairs, output_signature=(spec, spec))
    data = Data(train=dataset, test=dataset, train_size=6, test_size=6, metadata={})
    config = dataclasses.replace(recipe.tiny(), batch_size=4)
    (x, _), *_ = batches(recipe, config, data).train().take(1).as_numpy_iterator()
    assert x.shape == (4, 32)
    assert batches(recipe, config, data).steps == 1
    assert batches(recipe, dataclasses.replace(config, batch_size=3), data).steps == 2
    with pytest.raises(BatchError, match="batch_size=7: expected at most the 6 training examples"):
        batches(recipe, dataclasses.replace(config, batch_size=7), data)


class States(keras.callbacks.Callback):
    """Records the largest state of a stateful decoder where a pass begins and ends."""

    def __init__(self):
        super().__init__()
        self.largest = {"epoch begin": [], "test begin": [], "test end": []}

    def _note(self, when):
        states = self.model.get_layer("decoder").states
        self.largest[when].append(max(np.abs(state.numpy()).max() for state in states))

    def on_epoch_begin(self, epoch, logs=None):
        self._note("epoch begin")

    def on_test_begin(self, logs=None):
        self._note("test begin")

    def on_test_end(self, logs=None):
        self._note("test end")


@pytest.mark.usefixtures("no_pictures")
def test_each_pass_of_a_stateful_model_starts_from_zeros(tmp_path, monkeypatch):
    """The validation loss is that of whole streams, which start from zeros."""
    recipe = recipes.load("char_lm")
    states = States()
    monkeypatch.setattr(type(recipe), "callbacks", lambda *arguments: [states])
    config = dataclasses.replace(recipe.tiny(), cell="simple_rnn", units=4)
    with stand_ins.served():
        data = recipe.load(config)
    run = Run.create(recipe, config, tmp_path / "run")
    metrics = train(recipe, config, run, data)
    assert states.largest["epoch begin"] == states.largest["test begin"] == [0.0, 0.0]
    assert min(states.largest["test end"]) > 0.01
    # The kept model is stateless, with the trained weights.
    trained = recipe.trained_model(run.load_model())
    assert not trained.non_trainable_weights
    assert metrics["parameters"] == trained.count_params()

    ids = next(data.test.as_numpy_iterator())
    width = (len(ids) - 1) // (4 * 16) * 16
    streams = np.stack([ids[n * width : (n + 1) * width + 1] for n in range(4)])
    probabilities = np.asarray(trained(streams[:, :-1]))
    right = np.take_along_axis(probabilities, streams[:, 1:, None], axis=-1)
    log = [line.split(",") for line in run.path("log.csv").read_text().splitlines()]
    last = dict(zip(log[0], log[-1], strict=True))
    assert float(last["val_loss"]) == pytest.approx(-np.log(right).mean(), rel=1e-4)
    assert json.loads(run.path("metadata.json").read_text()) == data.metadata
