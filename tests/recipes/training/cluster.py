"""Trainings on several devices, begun by test_devices.py in processes of their own."""

import contextlib
import dataclasses
from pathlib import Path

import tensorflow as tf
from tensorflow.python.framework.config import is_op_determinism_enabled

from kerasrnn import recipes
from kerasrnn.recipes import training
from kerasrnn.recipes.base.execution import Execution
from kerasrnn.recipes.base.runs import Run
from kerasrnn.training.step import TrainingModel
from tests.recipes import made_up


def main(
    folder: Path, name: str, *plans: str, deterministic: bool = False, cell: str = "lstm"
) -> None:
    """Train a recipe by each of some plans.

    Args:
        folder: a training goes into folder/RECIPE-STRATEGY-ACCUMULATE-STEPS.
        name: the recipe's.
        plans: STRATEGY:ACCUMULATE:STEPS_PER_EXECUTION each.
        deterministic: as the option.
        cell: the option of `japanese_vowels`.
    """
    cpu = tf.config.list_physical_devices("CPU")[0]
    asked = [plan.split(":") for plan in plans]
    if any(strategy == "mirrored" for strategy, *_ in asked):
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * 2
        )
    for strategy, accumulate, steps in asked:
        execution = Execution(
            strategy=strategy,
            accumulate=int(accumulate),
            steps_per_execution=int(steps),
            deterministic=deterministic,
        )
        # First of all: a cluster must be known before anything is computed.
        placement = execution.placement()
        assert is_op_determinism_enabled() == deterministic
        with contextlib.ExitStack() as stack:
            if name != "japanese_vowels" or strategy == "multiworker":
                # That would take most of the time; two devices have the loops compiled.
                TrainingModel.compile_loops = lambda self: None
            if name == "japanese_vowels":
                recipe = made_up.recipe()
                options = {"batch_size": 12, "dropout": 0.0, "validation": 0.25, "epochs": 3}
                config = made_up.small(cell=cell, **options)
            else:
                from tests.recipes import stand_ins

                stack.enter_context(stand_ins.served())
                recipe = recipes.load(name)
                config = dataclasses.replace(recipe.tiny(), learning_rate=0.01)
                fields = [field.name for field in dataclasses.fields(config)]
                still = {name: 0.0 for name in fields if name.endswith("dropout")}
                config = dataclasses.replace(config, **still)
                if config.batch_size % 4:
                    config = dataclasses.replace(config, batch_size=4)
            data = recipe.load(config, str(folder / "tfds"))
            place = folder / f"{name}-{strategy}-{accumulate}-{steps}"
            if placement.is_chief and not (place / "config.json").is_file():
                run = Run.create(recipe, config, place, execution)
            else:
                run = Run(place)
            training.fit(recipe, config, run, data, execution, placement=placement)
