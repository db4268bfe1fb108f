"""Recipes on datasets of TFDS's own catalogue, which TFDS mocks: loaded, and a step of training."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow_datasets as tfds

from kerasrnn import recipes
from tests.recipes import stand_ins

pytestmark = pytest.mark.tensorflow


def load(name, tmp_path, **overrides):
    """The data of a tiny configuration without dropout."""
    recipe = recipes.load(name)
    config = dataclasses.replace(recipe.tiny(), dropout=0.0, **overrides)
    return recipe, config, recipe.load(config, str(tmp_path))


def served(name, tmp_path, overrides, facts):
    """`load` from the stand-in, in whose metadata there is `facts`."""
    with stand_ins.served():
        recipe, config, data = load(name, tmp_path, **overrides)
    names = data.metadata.get("classes") or data.metadata.get("vocabulary")
    assert facts in (names or data.metadata["source"]["symbols"])
    assert not list(tmp_path.iterdir())
    return recipe, config, data


def step(recipe, config, data):
    """The loss of a batch before and after a step, and what it was said to be beforehand."""
    model = recipe.model(config, data)
    model.compile("sgd", recipe.loss(config), jit_compile=False)
    x, y = next(recipe.batches(data.train, config, training=True).as_numpy_iterator())
    p = model.predict_on_batch(x)
    p = np.take_along_axis(p, y[..., None], axis=-1)
    if recipe.name == "translate":
        p = p[y > 0]  # what is padding does not count
    losses = []
    for measure in (model.train_on_batch, model.test_on_batch):
        for layer in model.layers:
            if hasattr(layer, "reset_state"):
                layer.reset_state()
        losses.append(float(measure(x, y)))
    return *losses, float(-np.log(p).mean())


def by_dataset(value):
    """The id of a test: the dataset."""
    return value.get("dataset") if isinstance(value, dict) else None


@pytest.mark.parametrize(
    ("name", "overrides", "facts"),
    [
        ("fashion_mnist", {"dataset": "fashion_mnist", "reader": "all"}, "Ankle boot"),
        ("movie_sentiment", {"dataset": "imdb_reviews", "longest": 8, "batch_size": 20}, "pos"),
        ("char_lm", {"dataset": "tiny_shakespeare"}, "T"),
        ("translate", {"dataset": "wmt14_translate/de-en", "label_smoothing": 0.0}, "katze"),
    ],
    ids=by_dataset,
)
def test_a_dataset_of_the_catalogue_trains(tmp_path, name, overrides, facts):
    recipe, config, data = served(name, tmp_path, overrides, facts)
    before, after, expected = step(recipe, config, data)
    assert before == pytest.approx(expected, rel=1e-4)
    assert after < before


@pytest.mark.parametrize(
    ("name", "overrides", "facts"),
    [
        ("fashion_mnist", {"dataset": "mnist"}, "7"),
        ("translate", {"dataset": "ted_hrlr_translate/pt_to_en", "source": "pt"}, "gato"),
    ],
    ids=by_dataset,
)
def test_another_dataset_for_the_same_model(tmp_path, name, overrides, facts):
    """Its batches have the shapes on which test_every_recipe.py trains the same models."""
    recipe, config, data = served(name, tmp_path, overrides, facts)
    batch = next(recipe.batches(data.train, config, training=True).as_numpy_iterator())
    shapes = [x.shape for x in keras.tree.flatten(batch)]
    expected = {"fashion_mnist": [(100, 28, 28), (100,)], "translate": [(16, 12)] * 3}
    assert shapes == expected[name]


def test_examples_drawn_by_tfds_are_loaded(tmp_path):
    """Examples drawn by TFDS from the catalogue's own features, whatever these are."""
    catalogue = {"dataset": "ted_hrlr_translate/pt_to_en", "source": "pt", "target": "en"}
    with tfds.testing.mock_data(num_examples=30):
        translate, config, talks = load("translate", tmp_path, **catalogue, vocabulary=9)
        _, _, garments = load("fashion_mnist", tmp_path, dataset="fashion_mnist")
        _, _, reviews = load("movie_sentiment", tmp_path, dataset="imdb_reviews")
        _, _, text = load("char_lm", tmp_path, dataset="tiny_shakespeare", batch_size=1)
    assert (garments.train_size, garments.test_size) == (30, 30)
    assert len(garments.metadata["classes"]) == 10
    assert reviews.metadata["classes"] == ["neg", "pos"]
    assert len(reviews.raw["test_texts"]) == 30
    assert set(text.metadata["vocabulary"]) == set(text.raw["train"])
    assert talks.train_size == 30
    assert translate.model(config, talks).output_shape == (None, None, 9 + 4)
