"""Small stand-ins for the data and the model of `japanese_vowels`."""

import pytest

from kerasrnn import recipes
from kerasrnn.recipes.reporting import pictures
from tests.recipes import made_up


@pytest.fixture
def recipe(monkeypatch):
    recipe = recipes.load("japanese_vowels")
    data = made_up.data()
    monkeypatch.setattr(type(recipe), "load", lambda self, config, data_dir=None: data)
    return recipe


@pytest.fixture
def no_pictures(monkeypatch):
    """Training draws nothing, which takes a fifth of the time of a small run."""
    for name in ("learning_curves", "confusion_matrix"):
        monkeypatch.setattr(pictures, name, lambda *arguments: None)


@pytest.fixture
def light(recipe, no_pictures, monkeypatch):
    """The recipe with a model that is quick to trace, and without pictures."""
    monkeypatch.setattr(type(recipe), "model", made_up.light_model)
    return recipe
