"""Training of a recipe's model in a run folder."""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from kerasrnn.files import writing
from kerasrnn.recipes.base.config import Config
from kerasrnn.recipes.base.execution import Execution
from kerasrnn.recipes.base.recipe import Data, Recipe
from kerasrnn.recipes.base.runs import Run, RunError
from kerasrnn.recipes.reporting import pictures
from kerasrnn.recipes.training.from_config import batches, optimizer
from kerasrnn.training import summary
from kerasrnn.training.errors import DivergenceError
from kerasrnn.training.fitting import Training
from kerasrnn.training.history import Row
from kerasrnn.training.interruption import Interrupted
from kerasrnn.training.loop import lost_workers
from kerasrnn.training.placement import Placement
from kerasrnn.training.progress import Progress


def train(
    recipe: Recipe,
    config: Config,
    run: Run,
    data: Data,
    execution: Execution | None = None,
    progress: Progress | None = None,
    placement: Placement | None = None,
) -> dict[str, Any]:
    """Train a recipe's model, or resume its training, and evaluate it on the test data.

    The optimizer is `kerasrnn.training.adamw`. The order of the data in each epoch follows from the
    seed, so a resumed run has the same batches as an uninterrupted one.

    SIGINT (Ctrl-C) and SIGTERM stop the training after the current step, with a checkpoint.

    Args:
        recipe: the recipe to train.
        config: its configuration.
        run: the run folder; a checkpoint in it is resumed.
        data: as returned by `recipe.load`.
        execution: the execution options; default: one device.
        progress: receives progress reports; default: none.
        placement: the devices, if they were set up before the data was loaded, as several workers
            and TPUs require; default: those of `execution`.

    Returns:
        The test metrics, with the time and the number of parameters, which are also written to
        `metrics.json`. With several workers, only the chief returns and writes them.

    Raises:
        RunError: the run is finished, or the user's data file has changed.
        CheckpointError: the checkpoint is damaged or belongs to another model.
        LockedError: another process trains in the run's folder.
        WriteError: the folder cannot be written.
        BatchError, ConfigError: see `batches`; or a batch cannot be split as requested.
        DivergenceError: the loss or the gradients became infinite or NaN.
        ExecutionError: a worker was lost.
        Interrupted: a signal stopped the training.
    """
    with _started(recipe, config, run, data, execution, progress, placement) as training:
        training.fit()
        if not training.placement.is_chief:
            return {}
        return _finish(training, recipe, config, run, data)


def fit(
    recipe: Recipe,
    config: Config,
    run: Run,
    data: Data,
    execution: Execution | None = None,
    progress: Progress | None = None,
    placement: Placement | None = None,
) -> Sequence[Row]:
    """`train` without the evaluation on the test data, for model selection by validation.

    Returns:
        The log: the metrics of each epoch.
    """
    with _started(recipe, config, run, data, execution, progress, placement) as training:
        training.fit()
        return training.log


@contextlib.contextmanager
def _started(
    recipe: Recipe,
    config: Config,
    run: Run,
    data: Data,
    execution: Execution | None,
    progress: Progress | None,
    placement: Placement | None,
) -> Iterator[Training]:
    execution = execution or Execution(strategy="one")
    placement = placement or execution.placement()
    progress = progress or Progress()
    with contextlib.ExitStack() as stack:
        stack.enter_context(writing(run.folder))
        if placement.is_chief:  # other workers may get here before the folder exists
            stack.enter_context(run.locked())
            run.check_data(config)
        if run.finished:
            raise RunError(f"{run.folder} is finished: choose another --output.")
        stack.enter_context(lost_workers(placement))
        keras.utils.set_random_seed(config.seed)
        run_batches = batches(recipe, config, data)
        training = Training(
            lambda: recipe.model(config, data),
            run_batches,
            recipe.loss(config),
            run.folder,
            config.epochs,
            metrics=recipe.fit_metrics(config),
            optimizer=functools.partial(optimizer, config, run_batches.steps),
            keep=config.keep,
            patience=config.patience or None,
            callbacks=recipe.callbacks(config, data, run.folder),
            placement=placement,
            progress=progress,
            steps_per_execution=execution.steps_per_execution,
            checkpoint_minutes=execution.checkpoint_minutes,
            tensorboard=True,
        )
        if placement.is_chief:
            _report_versions(run, progress)
            stack.enter_context(run.session(placement.described()))
            run.write_json("metadata.json", data.metadata)
        stack.enter_context(_explained(recipe, config, run))
        yield training


def _report_versions(run: Run, progress: Progress) -> None:
    """Warn if a run is resumed with other package versions."""
    changed = run.changed_versions()
    if changed:
        text = ", ".join(f"{name} {old} (now {new})" for name, (old, new) in changed.items())
        progress.report(
            "versions",
            f"resumed with other versions than it was started with: {text}; its results may differ "
            "from those of an uninterrupted run",
            versions=changed,
        )


@contextlib.contextmanager
def _explained(recipe: Recipe, config: Config, run: Run) -> Iterator[None]:
    """Add the name of the run, and how to resume it, to the errors of a training."""
    try:
        yield
    except Interrupted as stop:
        raise Interrupted(
            stop.number,
            f"{stop}; resume with: kerasrnn train {recipe.name} --resume --output {run.folder}",
        ) from None
    except DivergenceError as error:
        raise DivergenceError(
            f"training {recipe.name} with learning_rate {config.learning_rate}: {error}"
        ) from None


def _finish(
    training: Training, recipe: Recipe, config: Config, run: Run, data: Data
) -> dict[str, Any]:
    """Save the trained model and evaluate it."""
    model = recipe.bundle(training.trained_model(), config, data)
    run.save_model(model)
    pictures.learning_curves(run.path("log.csv"), run.path("learning_curves.png"))
    metrics = recipe.evaluate(model, data, config, run.folder)
    metrics |= recipe.baselines(data, config)
    metrics |= {
        "parameters": recipe.trained_model(model).count_params(),
        **{f"peak_memory_of_{name}": count for name, count in summary.peak().items()},
        "seconds": round(training.seconds, 1),
        "epochs": len(training.log),
        "kept_epoch": training.best or len(training.log),
        "resumed_at_epoch": training.resumed_at,
    }
    run.write_json("metrics.json", metrics)
    return metrics
