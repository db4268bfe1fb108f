"""Prepare a recipe up to its first training step."""

from dataclasses import dataclass
from typing import Any

from kerasrnn.recipes.base.recipe import Data, Recipe
from kerasrnn.training.batches import Batches
from kerasrnn.training.step import TrainingModel


@dataclass(frozen=True)
class Prepared:
    """A prepared recipe with its default configuration."""

    recipe: Recipe
    config: Any
    data: Data
    batches: Batches
    model: TrainingModel


def prepared(name: str, data_dir: str | None, parts: int = 1) -> Prepared:
    """Load the data and build the model of a recipe.

    Args:
        name: the name of the recipe.
        data_dir: the TFDS data directory.
        parts: the number of gradient accumulation steps per batch.
    """
    import keras

    from kerasrnn import recipes
    from kerasrnn.recipes.training import from_config
    from kerasrnn.training.step import Signals

    recipe = recipes.load(name)
    config = recipe.Config()
    data = recipe.load(config, data_dir)
    keras.utils.set_random_seed(config.seed)
    batches = from_config.batches(recipe, config, data)
    model = TrainingModel(recipe.model(config, data), Signals(), parts)
    model.compile(
        from_config.optimizer(config, batches.steps),
        recipe.loss(config),
        metrics=list(recipe.fit_metrics(config)),
    )
    model.prepare(batches.train())
    model.compile_loops()
    return Prepared(recipe, config, data, batches, model)
