"""The order in which `long_range` reads pixels."""

import json
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from kerasrnn import recipes
from kerasrnn.recipes.long_range import permutation
from kerasrnn.recipes.reporting import pictures

pytestmark = pytest.mark.tensorflow

RECIPE = recipes.load("long_range")
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1)).astype("uint8")


def config(**options):
    return RECIPE.Config(batch_size=3, **options)


def inputs(options):
    """What the model reads in training, and what it reads for a user's own images."""
    dataset = tf.data.Dataset.from_tensor_slices((IMAGES, [0, 1, 2]))
    x, labels = next(RECIPE.batches(dataset, options).as_numpy_iterator())
    assert labels.tolist() == [0, 1, 2]
    model = SimpleNamespace(predict=lambda pixels, verbose: pixels)
    return x, RECIPE.probabilities(model, list(IMAGES), RECIPE.metadata(options))


def test_pixels_come_row_by_row():
    for x in inputs(config()):
        assert x.shape == (3, 784, 1)
        for step in (0, 1, 28, 783):
            np.testing.assert_allclose(x[:, step], IMAGES[:, step // 28, step % 28] / 255)


def test_permuted_pixels_come_in_one_fixed_order():
    order = permutation(784)
    # Models trained with another order would be of no use.
    assert order[:5] == permutation(784)[:5]
    assert sorted(order) == list(range(784))
    assert np.corrcoef(order, range(784))[0, 1] == pytest.approx(0, abs=0.1)
    for x in inputs(config(order="permuted")):
        for step in (0, 1, 783):
            row, column = divmod(order[step], 28)
            np.testing.assert_allclose(x[:, step], IMAGES[:, row, column] / 255)


def test_averaged_squares_are_shorter_sequences():
    for x in inputs(config(average=7)):
        squares = (IMAGES[..., 0] / 255).reshape(3, 4, 7, 4, 7).mean(axis=(2, 4))
        np.testing.assert_allclose(x[..., 0], squares.reshape(3, 16), rtol=1e-5)


def test_every_variant_is_a_configuration():
    for name, overrides in RECIPE.variants.items():
        options = RECIPE.Config(**overrides)
        assert (options.order == "permuted") == ("permuted" in name)
        assert (options.dataset == "cazala_digits") == name.startswith("digits")


def test_the_picture_shows_what_is_measured(tmp_path):
    """A panel for each task with results, and a labelled point for each cell."""
    metrics = [{"seconds": 60.0, "test_accuracy": 0.5}, {"seconds": 180.0, "test_accuracy": 0.7}]
    variants = {name: {"metrics": metrics} for name in ("permuted, LSTM", "permuted, LRU")}
    (tmp_path / "results.json").write_text(json.dumps({"variants": variants}))
    with mock.patch.object(pictures, "save") as save:
        RECIPE.compare({}, tmp_path)
    (figure, path), _ = save.call_args
    (panel,) = figure.axes
    assert path == tmp_path / "by_time.png"
    assert (panel.get_title(), panel.get_ylabel()) == ("permuted", "test accuracy")
    assert {text.get_text(): text.xy for text in panel.texts} == {
        "LSTM": (2.0, pytest.approx(0.6)),
        "LRU": (2.0, pytest.approx(0.6)),
    }
