"""Trainings on several devices, in processes that test_devices.py starts."""

import functools
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.config import is_op_determinism_enabled

from kerasrnn import losses, training
from kerasrnn.recipes import training as recipe_training
from kerasrnn.recipes.base.execution import Execution
from kerasrnn.recipes.base.runs import Run
from kerasrnn.training.optimizers import adamw
from kerasrnn.training.placement import Placement
from tests.recipes import made_up

EPOCHS = 3


class Plan(NamedTuple):
    """One training."""

    model: str
    """`recurrent` or `light`: `japanese_vowels` with one of its models. `tokens`: see `tokens`."""

    strategy: str
    accumulate: int = 1
    steps_per_execution: int = 1
    deterministic: bool = False

    @property
    def folder(self) -> str:
        return f"{self.model}-{self.strategy}"


def main(folder: str, *plans: tuple) -> None:
    """Carry out plans, each in `folder/MODEL-STRATEGY`."""
    made_up.slow_down()
    asked = [Plan(*plan) for plan in plans]
    if any(plan.strategy == "mirrored" for plan in asked):
        cpu = tf.config.list_physical_devices("CPU")[0]
        two = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, two)
    for plan in asked:
        _, strategy, accumulate, steps_per_execution, deterministic = plan
        execution = Execution(
            strategy=strategy,
            accumulate=accumulate,
            steps_per_execution=steps_per_execution,
            deterministic=deterministic,
        )
        # First of all: a cluster must be known before anything is computed.
        placement = execution.placement()
        assert is_op_determinism_enabled() == deterministic
        place = Path(folder) / plan.folder
        if plan.model == "tokens":
            tokens(place, placement, steps_per_execution)
        else:
            recipe(plan.model == "light", place, execution, placement)


def recipe(light: bool, place: Path, execution: Execution, placement: Placement) -> None:
    """Train `japanese_vowels`."""
    found = made_up.recipe(light)
    # Three validation examples, of which two devices have different shares.
    options = {"batch_size": 12, "dropout": 0.0, "validation": 0.05, "epochs": EPOCHS}
    config = made_up.small(cell="simple_rnn", **options)
    data = found.load(config)
    if placement.is_chief and not (place / "config.json").is_file():
        run = Run.create(found, config, place, execution)
    else:
        run = Run(place)
    recipe_training.fit(found, config, run, data, execution, placement=placement)


def tokens(place: Path, placement: Placement, steps_per_execution: int) -> None:
    """Train on a class for each token of sequences of very different lengths."""
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    ids = random.integers(1, 9, (24, 6))
    lengths = np.sort(random.integers(1, 7, (3, 8)), axis=1).reshape(24, 1)
    ids[np.arange(6) >= lengths] = 0
    batches = training.Batches.from_arrays((ids, np.where(ids > 0, ids % 4 + 1, 0)), 8)

    def build() -> keras.Model:
        embedding = keras.layers.Embedding(9, 4, mask_zero=True)
        outputs = keras.layers.Dense(5, activation="softmax")
        return keras.Sequential([keras.Input((None,), dtype="int32"), embedding, outputs])

    training.fit(
        build,
        batches,
        losses.SequenceCrossentropy(ignore_class=0),
        place,
        EPOCHS,
        metrics=["accuracy"],
        optimizer=functools.partial(adamw, EPOCHS * batches.steps, 0.01, clip_at=0.1),
        placement=placement,
        steps_per_execution=steps_per_execution,
    )


def twice(folder: str, *plan: object) -> None:
    """Carry out a plan in `folder/0` and in `folder/1`."""
    for number in range(2):
        main(str(Path(folder) / str(number)), plan)
