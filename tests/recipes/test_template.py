"""A recipe made from the template, with the names filled in, is complete and trains."""

import dataclasses
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from kerasrnn import recipes
from kerasrnn.__main__ import main
from kerasrnn.recipes.base.recipe import Recipe
from tests.measure import op_by_op
from tests.recipes import quick, stand_ins

pytestmark = pytest.mark.tensorflow
ROOT = Path(__file__).parents[2]
NAMES = {"my_recipe": "toy_vowels", "my_dataset": "japanese_vowels", "MyRecipe": "ToyVowels"}


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """The recipe `toy_vowels`, in the folder of recipes as far as Python can tell."""
    source = (ROOT / "docs" / "templates" / "recipe.py").read_text(encoding="utf-8")
    for name, ours in NAMES.items():
        assert name in source
        source = source.replace(name, ours)
    path = tmp_path / "toy_vowels.py"
    path.write_text(source, encoding="utf-8")
    name = "kerasrnn.recipes.toy_vowels"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(recipes, "NAMES", (*recipes.NAMES, "toy_vowels"))
    return module.RECIPE


def test_the_template_declares_all_attributes_of_a_recipe(recipe):
    assert recipes.load("toy_vowels") is recipe
    for name in Recipe.__annotations__:
        assert getattr(recipe, name) is not None, name
    assert recipe.card.title
    for overrides in recipe.variants.values():
        dataclasses.replace(recipe.Config(), **overrides)
    fields = {field.name for field in dataclasses.fields(recipe.Config)}
    assert set(recipe.search_space) <= fields


def test_a_step_lowers_the_loss(recipe):
    config = dataclasses.replace(recipe.tiny(), dropout=0.0, units=8)
    with stand_ins.served():
        data = recipe.load(config)
    model = recipe.model(config, data)
    model.compile("sgd", recipe.loss(config), jit_compile=False)
    x, y = next(recipe.batches(data.train, config, training=True).as_numpy_iterator())
    p = model.predict_on_batch(x)
    expected = -np.log(p[np.arange(len(y)), y]).mean()
    with op_by_op():
        before, after = float(model.train_on_batch(x, y)), float(model.test_on_batch(x, y))
    assert before == pytest.approx(expected, rel=1e-4)
    assert after < before


def test_the_template_runs_from_the_command_line(recipe, tmp_path, capsys):
    run = str(tmp_path / "run")
    np.savetxt(tmp_path / "one.csv", np.ones((9, 12)), delimiter=",")
    sizes = ["--epochs", "1", "--units", "4", "--batch-size", "128"]
    with stand_ins.served(), quick.untraced():
        assert main(["train", "toy_vowels", *sizes, "--output", run]) == 0
        metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
        capsys.readouterr()
        inputs = [str(tmp_path / "one.csv"), "--test", "0"]
        assert main(["predict", "toy_vowels", *inputs, "--run", run]) == 0
    assert 0 <= metrics["test_accuracy"] <= 1
    assert metrics["baseline_majority_test_accuracy"] == pytest.approx(2 / 16)
    answers = capsys.readouterr().out.splitlines()
    # Three classes, and the true one of the test example.
    assert [answer.count("speaker_") for answer in answers] == [3, 4]
