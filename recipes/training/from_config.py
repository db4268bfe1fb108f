"""Creates the batches and the optimizer of a training from a recipe and its configuration."""

from typing import TYPE_CHECKING

from kerasrnn.recipes.base.config import Config, ConfigError
from kerasrnn.recipes.base.recipe import Data, Recipe
from kerasrnn.training.optimizers import AdamW, adamw
from kerasrnn.wording import counted

if TYPE_CHECKING:
    from kerasrnn.training.batches import Batches


def batches(recipe: Recipe, config: Config, data: Data) -> "Batches":
    """The training and validation batches of a run.

    Args:
        recipe: the recipe.
        config: the configuration, with batch size, seed and validation fraction.
        data: as returned by `recipe.load`.

    Raises:
        ConfigError: a fraction is held out although the data has a validation split, or it leaves
            no examples on one side; or `keep` or `patience` needs a validation set, and there is
            none.
        BatchError: a batch is larger than the training data.
    """
    from kerasrnn.training.batches import Batches  # needs TensorFlow, as the optimizer does not

    held_out = round(config.validation * data.train_size)
    own = data.validation is not None
    if config.validation and not own and not 0 < held_out < data.train_size:
        raise ConfigError(
            f"validation={config.validation}: expected a fraction that holds out some of the "
            f"{counted(data.train_size, 'training example')}, but not all."
        )
    if own and config.validation:
        raise ConfigError(
            f"validation={config.validation}: expected 0.0, since {recipe.name} has a "
            f"validation set of its own, of {counted(data.validation_size, 'example')}."
        )
    for name, needed in (("keep", config.keep == "best"), ("patience", config.patience > 0)):
        if needed and not (own or held_out):
            raise ConfigError(
                f"{name}={getattr(config, name)!r}: expected a validation set; set validation to "
                "hold out a fraction of the training data."
            )
    return Batches(
        data.train,
        data.train_size,
        config.batch_size,
        batching=lambda dataset, training: recipe.batches(dataset, config, training),
        validation=data.validation,
        held_out=held_out,
        shuffle=recipe.shuffled,
        seed=config.seed,
    )


def optimizer(config: Config, steps: int) -> AdamW:
    """The configured optimizer for epochs of `steps` batches."""
    return adamw(
        config.epochs * steps,
        config.learning_rate,
        warmup=config.warmup,
        schedule=config.schedule,
        weight_decay=config.weight_decay,
        clipping=config.clipping,
        clip_at=config.clip_at,
    )
