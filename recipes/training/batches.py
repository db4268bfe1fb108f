"""The batches of a run."""

import math

import tensorflow as tf

from kerasrnn.recipes.base.config import Config, ConfigError
from kerasrnn.recipes.base.recipe import Data, Recipe
from kerasrnn.wording import counted


class Batches:
    """The training and validation batches of a run.

    Args:
        recipe: the recipe.
        config: the configuration, with batch size, seed and validation fraction.
        data: as returned by `recipe.load`.

    Raises:
        ConfigError: a batch is larger than the training data; a fraction is held out although the
            data has a validation split, or it leaves no examples on one side; or the best epoch is
            to be kept without validation.
    """

    def __init__(self, recipe: Recipe, config: Config, data: Data) -> None:
        held_out = round(config.validation * data.train_size)
        own = data.validation is not None
        if config.validation and not own and not 0 < held_out < data.train_size:
            raise ConfigError(
                f"validation={config.validation}: expected a fraction that leaves some of the "
                f"{counted(data.train_size, 'training example')} and holds out some."
            )
        if own and config.validation:
            raise ConfigError(
                f"validation={config.validation}: expected 0.0, since {recipe.name} has a "
                f"validation set of its own, of {counted(data.validation_size, 'example')}."
            )
        if config.keep == "best" and not (own or held_out):
            raise ConfigError(
                "keep='best': expected a validation set to choose by; hold out a fraction of the "
                "training data with validation."
            )
        self.size = data.train_size - held_out
        self.batch_size = config.batch_size
        self._batches = lambda some: recipe.batches(data.train.take(some), config)
        dataset = data.train.skip(held_out).cache()
        if recipe.shuffled:
            dataset = dataset.shuffle(self.size, seed=config.seed, reshuffle_each_iteration=True)
        self._train = recipe.batches(dataset, config, training=True)
        held = data.validation if own else data.train.take(held_out) if held_out else None
        self.validation = None if held is None else recipe.batches(held, config).cache()
        self.steps = int(self._train.cardinality())
        if self.steps < 1:
            raise ConfigError(
                f"batch_size={config.batch_size}: expected at most the "
                f"{counted(self.size, 'training example')}."
            )

    def train(self, passed: int = 0) -> tf.data.Dataset:
        """The batches after those already seen, for an infinite number of epochs."""
        # The orders of the epochs follow one another from the seed: skip those of past epochs.
        return self._train.repeat().skip(passed).prefetch(tf.data.AUTOTUNE)

    def some(self, examples: int) -> tf.data.Dataset:
        """Batches of a part of the training examples; the last ones may be partial."""
        # A text is one example with many batches.
        return self._batches(examples).take(math.ceil(examples / self.batch_size))
