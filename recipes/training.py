"""The only loop that trains."""

import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasrnn.recipes import checkpoints, pictures
from kerasrnn.recipes.config import Config, ConfigError
from kerasrnn.recipes.recipe import Data, Recipe
from kerasrnn.recipes.runs import Run, RunError, environment


def train(
    recipe: Recipe,
    config: Config,
    run: Run,
    data: Data,
    verbose: int | str = "auto",
) -> dict[str, Any]:
    """Train a recipe's model, or go on training it, and judge it on the test data.

    The optimizer is AdamW (Loshchilov & Hutter 2019) with weight decay 0.01; gradients are clipped
    to a global norm of 1. The learning rate falls from `learning_rate` to zero along a
    cosine (Loshchilov & Hutter 2017). The order of the data in each epoch follows from the seed,
    so that a resumed run sees it as an uninterrupted one would have.

    Args:
        recipe: what to train.
        config: its configuration.
        run: where everything is kept; a checkpoint in it is resumed.
        data: of `recipe.load`.
        verbose: of `keras.Model.fit`.

    Returns:
        The test metrics, with the time and the number of parameters; also in `metrics.json`.

    Raises:
        RunError: the run is finished, its checkpoint is damaged, or it cannot be written.
        ConfigError: a batch is larger than the training data.
    """
    if run.finished:
        raise RunError(f"{run.folder} is finished: train into another --output.")
    keras.utils.set_random_seed(config.seed)
    steps = steps_per_epoch(config, data)
    held_out = _held_out(config, data)
    size = data.train_size - held_out
    batches = recipe.batches(
        data.train.skip(held_out)
        .cache()
        .shuffle(size, seed=config.seed, reshuffle_each_iteration=True),
        config,
        drop_remainder=True,
    )
    validation = recipe.batches(data.train.take(held_out), config) if held_out else None
    restored = checkpoints.restore(run)
    log = keras.callbacks.CSVLogger(run.path("log.csv"), append=True)
    try:
        if restored is None:
            model, first_epoch = recipe.model(config, data), 0
            schedule = keras.optimizers.schedules.CosineDecay(
                config.learning_rate, config.epochs * steps
            )
            optimizer = keras.optimizers.AdamW(schedule, weight_decay=1e-2, global_clipnorm=1.0)
            model.compile(optimizer, recipe.loss, metrics=["accuracy"])
            run.path("log.csv").unlink(missing_ok=True)
        else:
            model, first_epoch = restored
            checkpoints.trim_log(run.path("log.csv"), first_epoch)
        run.write_json("environment.json", environment())
        start = time.perf_counter()
        model.fit(
            # The orders of the epochs follow one another from the seed: those behind the run are
            # drawn and passed over.
            batches.repeat().skip(first_epoch * steps).prefetch(tf.data.AUTOTUNE),
            validation_data=validation,
            epochs=config.epochs,
            initial_epoch=first_epoch,
            steps_per_epoch=steps,
            shuffle=False,  # the dataset shuffles
            verbose=verbose,
            callbacks=[
                keras.callbacks.TerminateOnNaN(),
                log,
                keras.callbacks.TensorBoard(run.path("tensorboard"), write_graph=False),
                checkpoints.Checkpoint(run),
            ],
        )
        seconds = time.perf_counter() - start
        if not all(np.all(np.isfinite(w)) for w in model.get_weights()):
            raise RunError(
                f"training {recipe.name} ended in numbers that are not finite; try a lower "
                f"learning_rate than {config.learning_rate}."
            )
        run.save_model(model)
        pictures.learning_curves(run.path("log.csv"), run.path("learning_curves.png"))
        metrics = recipe.judge(model, data, config, run.folder)
        metrics |= {
            "parameters": model.count_params(),
            "seconds": round(seconds, 1),
            "epochs": config.epochs,
            "resumed_at_epoch": first_epoch,
        }
        run.write_json("metrics.json", metrics)
    except OSError as error:
        raise RunError(f"{run.folder} cannot be written: {error}.") from error
    finally:
        log.on_train_end()  # closes its file, also when training was cut short
    return metrics


def steps_per_epoch(config: Config, data: Data) -> int:
    """How many whole batches the training data has.

    Raises:
        ConfigError: none.
    """
    size = data.train_size - _held_out(config, data)
    if config.batch_size > size:
        raise ConfigError(
            f"batch_size={config.batch_size}: expected at most the {size} training examples."
        )
    return size // config.batch_size


def _held_out(config: Config, data: Data) -> int:
    return round(config.validation * data.train_size)
