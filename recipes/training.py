"""The only loop that trains."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

import kerasrnn
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

    The optimizer is AdamW (Loshchilov & Hutter 2019); the learning rate rises linearly over the
    `warmup` and then falls to zero along a cosine (Loshchilov & Hutter 2017) or stays; gradients
    are clipped (Pascanu et al. 2013) as the configuration says. The order of the data in each epoch
    follows from the seed, so that a resumed run sees it as an uninterrupted one would have.

    Args:
        recipe: what to train.
        config: its configuration.
        run: where everything is kept; a checkpoint in it is resumed.
        data: of `recipe.load`.
        verbose: of `keras.Model.fit`.

    Returns:
        The test metrics, with the time and the number of parameters; also in `metrics.json`.

    Raises:
        RunError: the run is finished, its checkpoint is damaged, it cannot be written, or a user's
            own data file is another than it was begun with.
        ConfigError: see `Batches`.
    """
    if run.finished:
        raise RunError(f"{run.folder} is finished: train into another --output.")
    run.check_data(config)
    keras.utils.set_random_seed(config.seed)
    batches = Batches(recipe, config, data)
    restored = checkpoints.restore(run)
    log = keras.callbacks.CSVLogger(run.path("log.csv"), append=True)
    try:
        if restored is None:
            model, first_epoch, seconds = recipe.model(config, data), 0, 0.0
            model.compile(
                optimizer(config, batches.steps),
                recipe.loss(config),
                metrics=list(recipe.fit_metrics(config)),
            )
            run.path("log.csv").unlink(missing_ok=True)
        else:
            model, first_epoch, seconds = restored
            checkpoints.trim_log(run.path("log.csv"), first_epoch)
        _compile_loops(model, True)
        run.write_json("environment.json", environment())
        run.write_json("facts.json", data.facts)
        checkpoint = checkpoints.Checkpoint(run, config.keep, seconds)
        model.fit(
            batches.train(first_epoch),
            validation_data=batches.validation,
            epochs=config.epochs,
            initial_epoch=first_epoch,
            steps_per_epoch=batches.steps,
            shuffle=False,  # the dataset shuffles
            verbose=verbose,
            callbacks=[
                keras.callbacks.TerminateOnNaN(),
                _FreshStates(),
                log,
                keras.callbacks.TensorBoard(run.path("tensorboard"), write_graph=False),
                *recipe.callbacks(config, data, run.folder),
                checkpoint,
            ],
        )
        if not all(np.all(np.isfinite(w)) for w in model.get_weights()):
            raise RunError(
                f"training {recipe.name} ended in numbers that are not finite; try a lower "
                f"learning_rate than {config.learning_rate}, or other clipping than "
                f"{config.clipping}."
            )
        kept_epoch = checkpoint.load_best(model) if config.keep == "best" else config.epochs
        _compile_loops(model, "auto")
        model = recipe.finished(model, config, data)
        run.save_model(model)
        pictures.learning_curves(run.path("log.csv"), run.path("learning_curves.png"))
        metrics = recipe.judge(model, data, config, run.folder)
        metrics |= recipe.baselines(data, config)
        metrics |= {
            "parameters": recipe.core(model).count_params(),
            "seconds": round(checkpoint.seconds, 1),
            "epochs": config.epochs,
            "kept_epoch": kept_epoch,
            "resumed_at_epoch": first_epoch,
        }
        run.write_json("metrics.json", metrics)
    except OSError as error:
        raise RunError(f"{run.folder} cannot be written: {error}.") from error
    finally:
        log.on_train_end()  # closes its file, also when training was cut short
    return metrics


class Batches:
    """The batches of a run: what it trains on, epoch after epoch, and what it validates on.

    Args:
        recipe: whose data it is.
        config: says the batch size, the seed and what is held out.
        data: of `recipe.load`.

    Raises:
        ConfigError: a batch is larger than the training data; a fraction is held out of data that
            has a validation set of its own, or it is none or all of it; or the best epoch is to be
            kept without validation.
    """

    def __init__(self, recipe: Recipe, config: Config, data: Data) -> None:
        held_out = round(config.validation * data.train_size)
        own = data.validation is not None
        if config.validation and not own and not 0 < held_out < data.train_size:
            raise ConfigError(
                f"validation={config.validation}: expected a fraction that leaves some of the "
                f"{data.train_size} training examples and holds out some."
            )
        if own and config.validation:
            raise ConfigError(
                f"validation={config.validation}: expected 0.0, since {recipe.name} has a "
                f"validation set of its own, of {data.validation_size} examples."
            )
        if config.keep == "best" and not (own or held_out):
            raise ConfigError(
                "keep='best': expected a validation set to choose by; hold out a fraction of the "
                "training data with validation."
            )
        self.size = data.train_size - held_out
        dataset = data.train.skip(held_out).cache()
        if recipe.shuffled:
            dataset = dataset.shuffle(self.size, seed=config.seed, reshuffle_each_iteration=True)
        self._train = recipe.batches(dataset, config, training=True)
        held = data.validation if own else data.train.take(held_out) if held_out else None
        self.validation = None if held is None else recipe.batches(held, config).cache()
        self.steps = int(self._train.cardinality())
        if self.steps < 1:
            raise ConfigError(
                f"batch_size={config.batch_size}: expected at most the {self.size} training "
                "examples."
            )

    def train(self, first_epoch: int = 0) -> tf.data.Dataset:
        """The batches from an epoch on, without end."""
        # The orders of the epochs follow one another from the seed: those behind the run are drawn
        # and passed over.
        passed = first_epoch * self.steps
        return self._train.repeat().skip(passed).prefetch(tf.data.AUTOTUNE)


def optimizer(config: Config, steps: int) -> keras.optimizers.Optimizer:
    """The optimizer that a configuration asks for, for epochs of `steps` batches."""
    total = config.epochs * steps
    warmup = round(config.warmup * total)
    if config.schedule == "cosine":
        rate: Any = keras.optimizers.schedules.CosineDecay(
            0.0 if warmup else config.learning_rate,
            max(total - warmup, 1),
            warmup_target=config.learning_rate if warmup else None,
            warmup_steps=warmup,
        )
    elif warmup:
        rate = keras.optimizers.schedules.PolynomialDecay(0.0, warmup, config.learning_rate)
    else:
        rate = config.learning_rate
    clipping = {"global_norm": "global_clipnorm", "norm": "clipnorm", "value": "clipvalue"}
    return keras.optimizers.AdamW(
        rate,
        weight_decay=config.weight_decay,
        **({} if config.clipping == "none" else {clipping[config.clipping]: config.clip_at}),
    )


def _compile_loops(model: keras.Model, jit_compile: bool | str) -> None:
    """Have XLA compile the time loops for each length that comes.

    By themselves they are compiled where the length is known beforehand, since who pads each batch
    to its own longest would wait for the compiler more than for the training; recipes pad to a few.
    """
    for layer in model._flatten_layers():  # has no public name
        if isinstance(layer, kerasrnn.RNN) and isinstance(layer.cell, kerasrnn.Cell):
            layer.jit_compile = jit_compile


class _FreshStates(keras.callbacks.Callback):
    """Each pass over the data starts from zero states, in layers that carry them along."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._reset()

    def on_test_begin(self, logs: Any = None) -> None:
        self._reset()

    def _reset(self) -> None:
        for layer in self.model.layers:
            if hasattr(layer, "reset_state"):
                layer.reset_state()
