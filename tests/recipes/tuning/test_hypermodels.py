"""Hypermodels: search spaces for models of the user's own data."""

import sys

import keras_tuner
import numpy as np
import pytest

from kerasrnn import recipes, zoo
from kerasrnn.recipes.base import search_space as space
from kerasrnn.recipes.tuning import hypermodels

pytestmark = pytest.mark.tensorflow


def test_stacked_layers_return_sequences():
    for topology, pooling, last in (
        ("many_to_one", "last", False),
        ("many_to_one", "max", True),
        ("many_to_many", None, True),
    ):
        fixed = {"pooling": pooling} if pooling else {}
        model = recipes.hypermodel(
            zoo.Tokens(20, 4), zoo.Classes(3), topology, cell="gru", units=4, depth=3, **fixed
        ).build(keras_tuner.HyperParameters())
        returned = [layer.return_sequences for layer in model.get_layer("recurrent").layers]
        assert returned == [True, True, last]
        expected = (None, None, 3) if topology == "many_to_many" else (None, 3)
        assert model.output_shape == expected


def test_every_topology_has_its_search_space():
    for topology in hypermodels.TOPOLOGIES:
        made = recipes.hypermodel(
            zoo.Vectors(2), zoo.MultiLabel(3), topology, units=space.powers(2, 4)
        )
        hyperparameters = keras_tuner.HyperParameters()
        made.build(hyperparameters)
        names = {hp.name for hp in hyperparameters.space}
        searched = {"cell", "units", "depth", "bidirectional", "dropout", "learning_rate"}
        searched |= {"clipping", "clip_at"} | ({"pooling"} if topology == "many_to_one" else set())
        assert names == searched
        hyperparameters.values |= {"units": 4, "depth": 2, "bidirectional": True}
        model = made.build(hyperparameters)
        assert model.get_layer("recurrent").layers[0].forward_layer.units == 4
        assert model.optimizer.global_clipnorm == pytest.approx(0.1)
        hyperparameters.values["clipping"] = "none"
        assert made.build(hyperparameters).optimizer.global_clipnorm is None


def test_a_tuner_searches_hypermodels(there):
    random = np.random.default_rng(0)
    x = random.standard_normal((32, 5, 2)).astype("float32")
    y = x.sum(axis=(1, 2), keepdims=False)[:, None]
    fixed = {
        "cell": "simple_rnn",
        "units": 2,
        "depth": 1,
        "bidirectional": False,
        "pooling": "last",
    }
    made = recipes.hypermodel(zoo.Vectors(2), zoo.Values(1), clipping="value", **fixed)
    tuner = keras_tuner.RandomSearch(
        made, objective="val_loss", max_trials=1, seed=1, directory=there, project_name="mine"
    )
    tuner.search(x, y, validation_data=(x, y), epochs=1, verbose=0)
    best = tuner.get_best_hyperparameters()[0].values
    assert set(best) == {"dropout", "learning_rate", "clip_at"}
    assert made.build(tuner.get_best_hyperparameters()[0]).optimizer.clipvalue == pytest.approx(
        best["clip_at"], rel=0.01
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"topology": "one_to_one"}, "topology='one_to_one': expected one of many_to_one, many"),
        ({"width": 3}, "width: expected names among cell, units, depth, "),
        ({"topology": "many_to_many", "pooling": "max"}, "pooling: expected names among cell, "),
    ],
)
def test_unknown_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        recipes.hypermodel(zoo.Vectors(2), zoo.Classes(2), **arguments)


def test_without_keras_tuner(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_tuner", None)
    with pytest.raises(ModuleNotFoundError, match="needs keras-tuner; install it with"):
        recipes.hypermodel(zoo.Vectors(2), zoo.Classes(2))
