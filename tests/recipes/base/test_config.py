"""Options: what they may be, and what is said when they are not."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasrnn import recipes, zoo
from kerasrnn.recipes.base.config import CELLS, Config, ConfigError, default, from_dict

EVERY = [recipes.load(name) for name in recipes.NAMES]
every = pytest.mark.parametrize("recipe", EVERY, ids=lambda recipe: recipe.name)


@every
def test_configurations_round_trip(recipe):
    config = recipe.Config()
    assert from_dict(recipe.Config, dataclasses.asdict(config)) == config
    assert recipe.tiny().epochs <= 2
    for overrides in recipe.variants.values():
        dataclasses.replace(config, **overrides)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.epochs = 3


@every
def test_unknown_options_are_errors_that_list_the_known_ones(recipe):
    with pytest.raises(
        ConfigError, match=r"option 'epoch' does not exist; expected one of: epochs, "
    ):
        from_dict(recipe.Config, {"epoch": 3})


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("epochs", 0, "an integer, at least 1"),
        ("epochs", 2.5, "an integer, at least 1"),
        ("epochs", "3", "an integer, at least 1"),
        ("epochs", True, "an integer, at least 1"),
        ("learning_rate", float("nan"), "a finite number, at least 1e-06"),
        ("learning_rate", -1.0, "a finite number, at least 1e-06"),
        ("dropout", 1.0, "a finite number, at least 0.0 and below 1.0"),
        ("cell", "lstmm", "lstm, gru or another cell of `kerasrnn list --cells`"),
        ("bidirectional", 1, "true or false"),
    ],
)
def test_invalid_values_are_errors_that_name_the_expected_ones(name, value, expected):
    config_class = recipes.load("japanese_vowels").Config
    with pytest.raises(ConfigError, match=f"{name}={value!r}: expected {expected}"):
        config_class(**{name: value})


@given(st.integers(1, 10**6), st.floats(0, 0.999), st.integers(0, 2**31))
def test_valid_values_are_accepted(epochs, dropout, seed):
    config_class = recipes.load("japanese_vowels").Config
    config = config_class(epochs=epochs, dropout=dropout, seed=seed)
    assert from_dict(config_class, dataclasses.asdict(config)) == config


def test_the_names_of_cells_are_those_of_the_zoo():
    with pytest.raises(ValueError, match=r"cell='\?': expected one of ") as refused:
        zoo.layer_class("?")
    names = str(refused.value).removesuffix(".").split(" one of ")[1].split(", ")
    assert sorted(CELLS) == sorted(names)
    for recipe in EVERY:
        for field in dataclasses.fields(recipe.Config):
            assert field.name != "cell" or field.metadata["choices"] == CELLS


def test_unknown_recipes_are_errors_that_list_the_known_ones():
    with pytest.raises(ValueError, match=r"recipe 'vowels' does not exist; .*japanese_vowels"):
        recipes.load("vowels")


@pytest.mark.parametrize(
    ("name", "options", "ignored"),
    [
        ("japanese_vowels", {"clipping": "none", "clip_at": 2.0}, "clip_at=2.0: expected 1.0"),
        ("fashion_mnist", {"reader": "all", "cell": "lstm"}, "cell='lstm': expected 'gru'"),
        ("char_lm", {"data": "a.txt", "dataset": "tiny_shakespeare"}, "dataset='tiny_shakesp"),
        ("movie_sentiment", {"data": "a.tsv", "dataset": "imdb_reviews"}, "dataset='imdb_rev"),
        ("word_segmentation", {"bigrams": 0, "bigram_embedding": 3}, "bigram_embedding=3"),
        ("word_segmentation", {"bigrams": 0, "bigram_dropout": 0.1}, "bigram_dropout=0.1"),
    ],
)
def test_options_without_effect_are_errors(name, options, ignored):
    with pytest.raises(ConfigError, match=f"{ignored}.*would be ignored"):
        recipes.load(name).Config(**options)


def test_greedy_decoding_takes_no_seed():
    with pytest.raises(ConfigError, match=r"seed=3: expected 0; with greedy it would be ignored"):
        recipes.load("char_lm").PredictOptions(greedy=True, seed=3)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("clipping", "norms", "one of global_norm, norm, value, none"),
        ("clip_at", 0.0, "a finite number, at least 1e-06"),
        ("schedule", "linear", "one of cosine, constant"),
        ("keep", "first", "one of last, best"),
        ("warmup", 1.0, "a finite number, at least 0.0 and below 1.0"),
        ("validation", 1.0, "a finite number, at least 0.0 and below 1.0"),
        ("weight_decay", -0.1, "a finite number, at least 0.0"),
        ("seed", 2**32, "an integer, at least 0 and at most 4294967295"),
    ],
)
def test_invalid_options_of_every_recipe(name, value, expected):
    with pytest.raises(ConfigError, match=f"{name}={value!r}: expected {expected}"):
        Config(**{name: value})


def test_another_default_keeps_help_and_range():
    @dataclasses.dataclass(frozen=True)
    class Slow(Config):
        warmup: float = default("warmup", 0.1)

    (ours,) = (field for field in dataclasses.fields(Slow) if field.name == "warmup")
    (theirs,) = (field for field in dataclasses.fields(Config) if field.name == "warmup")
    assert (ours.default, theirs.default) == (0.1, 0.0)
    assert ours.metadata == theirs.metadata
    with pytest.raises(ConfigError, match=r"warmup=1\.0: expected a finite number, at least"):
        Slow(warmup=1.0)
