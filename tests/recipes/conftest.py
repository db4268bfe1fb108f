"""A small stand-in for the data of `japanese_vowels`."""

import pytest

from kerasrnn import recipes
from tests.recipes import made_up


@pytest.fixture
def recipe(monkeypatch):
    recipe = recipes.load("japanese_vowels")
    data = made_up.data()
    monkeypatch.setattr(type(recipe), "load", lambda self, config, data_dir=None: data)
    return recipe
