"""A recipe, ready to take its first step."""

from dataclasses import dataclass
from typing import Any

from kerasrnn.recipes.recipe import Data, Recipe
from kerasrnn.recipes.training.batches import Batches
from kerasrnn.recipes.training.step import Trainee


@dataclass(frozen=True)
class Ready:
    """A recipe by its own configuration."""

    recipe: Recipe
    config: Any
    data: Data
    batches: Batches
    trainee: Trainee


def ready(name: str, data_dir: str | None, parts: int = 1) -> Ready:
    """Make a recipe ready.

    Args:
        name: the recipe's.
        data_dir: where TFDS keeps datasets.
        parts: that each batch is computed in.
    """
    import keras

    from kerasrnn import recipes
    from kerasrnn.recipes.training.optimizers import optimizer
    from kerasrnn.recipes.training.step import Signals

    recipe = recipes.load(name)
    config = recipe.Config()
    data = recipe.load(config, data_dir)
    keras.utils.set_random_seed(config.seed)
    batches = Batches(recipe, config, data)
    trainee = Trainee(recipe.model(config, data), Signals(), parts)
    trainee.compile(
        optimizer(config, batches.steps),
        recipe.loss(config),
        metrics=list(recipe.fit_metrics(config)),
    )
    trainee.prepare(batches.train())
    trainee.compile_loops()
    return Ready(recipe, config, data, batches, trainee)
