"""What is searched: every recipe's space, and what is left of one when options are fixed."""

import dataclasses
import itertools

import keras_tuner
import pytest

from kerasrnn import recipes
from kerasrnn.recipes.base import search_space as space
from kerasrnn.recipes.base.config import ConfigError, from_dict

EVERY = [recipes.load(name) for name in recipes.NAMES]
every = pytest.mark.parametrize("recipe", EVERY, ids=lambda recipe: recipe.name)


def conditions_hold(kind, values):
    return all(values[parent] in allowed for parent, allowed in kind.given.items())


@every
def test_every_end_of_a_range_is_a_valid_configuration(recipe):
    """Whatever is searched can be; what is refused beside other values is not tried beside them."""
    defaults = dataclasses.asdict(recipe.Config())
    parents = sorted({parent for kind in recipe.search_space.values() for parent in kind.given})
    ends = [
        recipe.search_space[name].ends() if name in recipe.search_space else [defaults[name]]
        for name in parents
    ]
    tried = 0
    for chosen in itertools.product(*ends):
        base = {**defaults, **dict(zip(parents, chosen, strict=True))}
        for name, kind in recipe.search_space.items():
            if name in parents or not conditions_hold(kind, base):
                continue
            for value in kind.ends():
                from_dict(recipe.Config, {**base, name: value})
                tried += 1
    assert tried >= 2 * (len(recipe.search_space) - len(parents))
    assert {"cell", "units", "learning_rate", "clipping"} <= set(recipe.search_space)


@every
def test_the_defaults_can_be_found(recipe):
    """The first trial of a search is one of those that it might have drawn."""
    defaults = dataclasses.asdict(recipe.Config())
    hyperparameters = keras_tuner.HyperParameters()
    searched = space.narrowed(recipe.search_space, [], defaults)
    values = space.declare(hyperparameters, searched, defaults)
    for name, kind in recipe.search_space.items():
        if conditions_hold(kind, defaults):
            assert defaults[name] in kind, name
            assert values[name] == defaults[name]
        else:
            assert name not in values
    assert from_dict(recipe.Config, {**defaults, **values}) == recipe.Config()


@every
def test_random_values_are_valid_configurations(recipe):
    defaults = dataclasses.asdict(recipe.Config())
    hyperparameters = keras_tuner.HyperParameters()
    space.declare(hyperparameters, space.narrowed(recipe.search_space, [], defaults), defaults)
    oracle = keras_tuner.oracles.RandomSearchOracle(
        objective=keras_tuner.Objective("val_loss", "min"),
        hyperparameters=hyperparameters,
        seed=1,
    )
    for _ in range(20):
        values = oracle._random_values()
        rounded = {name: recipe.search_space[name].rounded(value) for name, value in values.items()}
        for name, value in rounded.items():
            kind = recipe.search_space[name]
            assert value in kind
            assert conditions_hold(kind, {**defaults, **rounded})
        from_dict(recipe.Config, {**defaults, **rounded})


@pytest.mark.parametrize(
    ("kind", "text", "inside", "outside"),
    [
        (space.choice("lstm", "gru"), "one of lstm, gru", ["gru"], ["mgu", 1]),
        (space.switch(), "yes or no", [True, False], ["no"]),
        (space.powers(32, 128), "32 to 128, times 2", [32, 64, 128], [16, 96, 256, True]),
        (space.integers(1, 3), "1 to 3", [1, 2, 3], [0, 4, "2"]),
        (space.integers(64, 192, step=64), "64 to 192, by 64", [64, 128], [65, 256]),
        (space.floats(0.0, 0.5), "0 to 0.5", [0.0, 0.123, 0.5], [-0.1, 0.6]),
        (space.floats(1e-4, 1e-2, log=True), "0.0001 to 0.01, by factors", [1e-3], [0.0]),
    ],
)
def test_kinds(kind, text, inside, outside):
    assert str(kind) == text
    assert all(value in kind for value in [*inside, *kind.ends()])
    assert not any(value in kind for value in outside)


def test_numbers_are_rounded():
    assert space.floats(0, 1).rounded(0.123456) == 0.123
    assert space.floats(1e-4, 1, log=True).rounded(0.000123456) == 0.000123
    assert space.powers(8, 64).rounded(32.0) == 32


SPACE = {
    "attention": space.choice("bahdanau", "luong"),
    "input_feeding": space.switch(given={"attention": ("luong",)}),
    "cell": space.choice("lstm", "gru", given={"reader": ("rows",)}),
    "units": space.powers(8, 32),
}
VALUES = {"attention": "bahdanau", "input_feeding": True, "reader": "rows", "units": 8}


def test_fixed_options_are_not_searched():
    left = space.narrowed(SPACE, ["units"], {**VALUES, "units": 100})
    assert list(left) == ["attention", "input_feeding", "cell"]
    assert left["input_feeding"].given == {"attention": ("luong",)}
    assert left["cell"].given == {}  # as it is decided


def test_options_without_effect_are_not_searched():
    assert list(space.narrowed(SPACE, ["attention"], VALUES)) == ["cell", "units"]
    left = space.narrowed(SPACE, ["attention"], {**VALUES, "attention": "luong"})
    assert list(left) == ["input_feeding", "cell", "units"]
    left = space.narrowed(SPACE, ["reader"], {**VALUES, "reader": "all"})
    assert "cell" not in left


def test_options_that_a_fixed_option_depends_on_are_restricted():
    left = space.narrowed(SPACE, ["input_feeding"], VALUES)
    assert left["attention"].values == ("luong",)
    for recipe in EVERY:
        config = recipe.Config(clip_at=2.0)
        left = space.narrowed(recipe.search_space, ["clip_at"], dataclasses.asdict(config))
        assert left["clipping"].values == ("global_norm",)
    with pytest.raises(ConfigError, match="clip_at"):
        recipe.Config(clipping="none", clip_at=2.0)


def test_description_of_a_search_space():
    assert space.described(SPACE).splitlines() == [
        "  attention         one of bahdanau, luong",
        "  input_feeding     yes or no (with attention luong)",
        "  cell              one of lstm, gru (with reader rows)",
        "  units             8 to 32, times 2",
    ]
