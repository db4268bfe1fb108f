"""The training loop of all recipes."""

import contextlib
import dataclasses
import math
import signal
import time
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from kerasrnn.files import writing
from kerasrnn.recipes.base.config import Config, ConfigError
from kerasrnn.recipes.base.execution import Execution
from kerasrnn.recipes.base.recipe import Data, Recipe
from kerasrnn.recipes.base.runs import Run, RunError
from kerasrnn.recipes.reporting import pictures
from kerasrnn.recipes.training import checkpoints, divergence, history, summary, watchdog
from kerasrnn.recipes.training.batches import Batches
from kerasrnn.recipes.training.history import Row
from kerasrnn.recipes.training.interruption import Interrupted, Requests
from kerasrnn.recipes.training.loop import Loop, lost_workers
from kerasrnn.recipes.training.optimizers import optimizer
from kerasrnn.recipes.training.placement import Placement
from kerasrnn.recipes.training.progress import Progress
from kerasrnn.recipes.training.step import Signals, TrainingModel
from kerasrnn.wording import counted

CHECKPOINT, STOP = 1.0, 1e6
"""Requests of a worker; the sum of all requests is at least the strongest one."""


def train(
    recipe: Recipe,
    config: Config,
    run: Run,
    data: Data,
    placement: Placement | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train a recipe's model, or resume its training, and evaluate it on the test data.

    The optimizer is AdamW (Loshchilov & Hutter 2019). The learning rate rises linearly over the
    `warmup` and then decays to zero along a cosine (Loshchilov & Hutter 2017) or stays constant.
    Gradients are clipped (Pascanu et al. 2013) as configured. The order of the data in each epoch
    follows from the seed, so a resumed run sees the same batches as an uninterrupted one.

    SIGINT (Ctrl-C) and SIGTERM stop the training after the current step, with a checkpoint.

    Args:
        recipe: the recipe to train.
        config: its configuration.
        run: the run folder; a checkpoint in it is resumed.
        data: as returned by `recipe.load`.
        placement: the devices; default: one.
        progress: receives progress reports; default: none.

    Returns:
        The test metrics, with the time and the number of parameters, which are also written to
        `metrics.json`. With several workers, only the chief returns and writes them.

    Raises:
        RunError: the run is finished, its checkpoint is damaged or belongs to another model, or the
            user's data file has changed.
        LockedError: another process trains in the run's folder.
        WriteError: the folder cannot be written.
        ConfigError: see `Batches`; or a batch cannot be split as asked.
        DivergenceError: the loss or the gradients became infinite or NaN.
        ExecutionError: a worker was lost.
        Interrupted: a signal stopped the training.
    """
    with _begun(recipe, config, run, data, placement, progress) as training:
        training.fit()
        return training.finish() if training.placement.is_chief else {}


def fit(
    recipe: Recipe,
    config: Config,
    run: Run,
    data: Data,
    placement: Placement | None = None,
    progress: Progress | None = None,
) -> Sequence[Row]:
    """`train` without the evaluation on the test data, for model selection by validation.

    Returns:
        The log: the metrics of each epoch.
    """
    with _begun(recipe, config, run, data, placement, progress) as training:
        training.fit()
        return training.at.rows


@contextlib.contextmanager
def _begun(
    recipe: Recipe,
    config: Config,
    run: Run,
    data: Data,
    placement: Placement | None,
    progress: Progress | None,
) -> "Iterator[_Training]":
    placement = placement or Placement(Execution(strategy="one"))
    placement.check(config.batch_size)
    progress = progress or Progress()
    with contextlib.ExitStack() as stack:
        stack.enter_context(writing(run.folder))
        if placement.is_chief:  # other workers may get here before the folder exists
            stack.enter_context(run.locked())
            run.check_data(config)
        if run.finished:
            raise RunError(f"{run.folder} is finished: train into another --output.")
        stack.enter_context(lost_workers(placement))
        training = _Training(recipe, config, run, data, placement, progress)
        if placement.is_chief:
            _tell_versions(run, progress)
            stack.enter_context(run.session(placement.described()))
        yield training


def _tell_versions(run: Run, progress: Progress) -> None:
    """Warn if a run is resumed with other package versions."""
    changed = run.changed_versions()
    if changed:
        text = ", ".join(f"{name} {old} (now {new})" for name, (old, new) in changed.items())
        progress.say(
            "versions",
            f"resumed with other versions than it was begun with: {text}; it may end with other "
            "numbers than without the interruption",
            versions=changed,
        )


class _Training:
    """The remainder of one run."""

    def __init__(
        self,
        recipe: Recipe,
        config: Config,
        run: Run,
        data: Data,
        placement: Placement,
        progress: Progress,
    ) -> None:
        self.recipe, self.config, self.run, self.data = recipe, config, run, data
        self.placement, self.progress = placement, progress
        self.execution = placement.execution
        keras.utils.set_random_seed(config.seed)
        self.batches = Batches(recipe, config, data)
        self.checkpoints = checkpoints.Checkpoints(run)
        if placement.is_chief:
            self.checkpoints.clean()
        restored = self.checkpoints.restore()
        self.arrays, self.at = restored or (None, checkpoints.Progress())
        self.first = self.at
        self.signals = Signals()
        self.requests = Requests()
        self.model = self._model()

    def _model(self) -> TrainingModel:
        with self.placement.scope():
            model = self.recipe.model(self.config, self.data)
            self._check_states(model)
            update = optimizer(self.config, self.batches.steps)
            scaled = self.execution.precision == "float16"
            if scaled:
                update = keras.optimizers.LossScaleOptimizer(update)
            model = TrainingModel(
                model,
                self.signals,
                self.execution.accumulate,
                self.placement.compiles(model),
                watch_gradients=not scaled,
            )
            model.compile(
                update,
                self.recipe.loss(self.config),
                metrics=list(self.recipe.fit_metrics(self.config)),
                jit_compile=False,
            )
        model.prepare(self.batches.train())
        model.compile_loops()
        return model

    def _check_states(self, model: keras.Model) -> None:
        parts = self.placement.replicas * self.execution.accumulate
        if parts > 1 and any(getattr(layer, "stateful", False) for layer in model.layers):
            raise ConfigError(
                f"{self.recipe.name} carries its states from batch to batch, each row its own, so "
                f"that a batch cannot be split in {parts}: expected one device, and accumulate=1."
            )

    def fit(self) -> None:
        """Train for the remaining epochs."""
        board = None
        if self.placement.is_chief:
            self.run.write_json("metadata.json", self.data.metadata)
            # Including those of the last epoch, after which the process may have been killed.
            history.write(self.run, self.at.rows)
            board = history.Board(self.run, self.at.rows)
        try:
            if self.at.epoch < self.config.epochs:
                self._fit(board)
        finally:
            if board is not None:
                board.close()

    def _fit(self, board: history.Board | None) -> None:
        steps, epochs = self.batches.steps, self.config.epochs
        watching = self.recipe.callbacks(self.config, self.data, self.run.folder)
        callbacks = keras.callbacks.CallbackList(
            list(watching) if self.placement.is_chief else [],
            model=self.model,
            epochs=epochs,
            steps=steps,
        )
        self.loop = Loop(self.model, self.placement.strategy, self.execution.steps_per_execution)
        if self.placement.is_chief:
            sizes = summary.of(self.model, self.batches, self.placement)
            self.progress.say("summary", str(sizes), **dataclasses.asdict(sizes))
        self.last_saved = self.last_watched = self.counted = time.perf_counter()
        self.progress.begin(epochs, steps, self.at.epoch * steps + self.at.step)
        try:
            passed = self.at.epoch * steps + self.at.step
            with (
                self.requests.heard(),
                watchdog.watched(self.placement.others),
                self.loop.source(self.batches.train(passed)) as batches,
            ):
                callbacks.on_train_begin()
                while self.at.epoch < epochs:
                    self._epoch(batches, callbacks)
                    if board is not None:
                        history.write(self.run, self.at.rows)
                        board.add(self.at.rows[-1])
                    self.progress.epoch(self.at.rows[-1])
                callbacks.on_train_end()
        finally:
            self.progress.end()

    def _epoch(self, batches: Any, callbacks: keras.callbacks.CallbackList) -> None:
        if self.arrays is not None:
            checkpoints.assign(self.model, self.arrays)
            self.arrays = None
        if self.at.step == 0:
            _fresh_states(self.model)
            self.model.reset_metrics()
        epoch, steps = self.at.epoch, self.batches.steps
        callbacks.on_epoch_begin(epoch)
        while self.at.step < steps:
            callbacks.on_train_batch_begin(self.at.step)
            done = self.loop.train(batches, steps - self.at.step)
            self.at = dataclasses.replace(self.at, step=self.at.step + done)
            callbacks.on_train_batch_end(self.at.step - 1, {})
            self.progress.step(done, epoch, lambda: self.loop.results()["loss"])
            self._between_steps()
        self._watch()
        logs = self.loop.results()
        if self.batches.validation is not None:
            trained = checkpoints.states(self.model)

            def between() -> None:
                if self.requests.number is not None and self.placement.workers == 1:
                    self._stop(trained)

            _fresh_states(self.model)
            callbacks.on_test_begin()
            found = self.loop.evaluate(self.loop.batches(self.batches.validation), between)
            callbacks.on_test_end(found)
            logs |= {f"val_{name}": value for name, value in found.items()}
        callbacks.on_epoch_end(epoch, logs)
        self._end_epoch(logs)

    def _between_steps(self) -> None:
        """Handle side tasks once per second, since doing so after each step would stall the
        device."""
        now = time.perf_counter()
        if (
            now - self.last_watched > 1 or self.placement.workers > 1
        ):  # where all workers report the reason
            self._watch()
            self.last_watched = now
        due = now - self.last_saved > 60 * self.execution.checkpoint_minutes
        stop = self.requests.number is not None
        if self.placement.workers > 1:
            # All workers must act after the same step, in which they have exchanged their requests.
            agreed = float(self.signals.agreed.numpy())
            wish = STOP if stop else CHECKPOINT if due and self.placement.is_chief else 0.0
            self.signals.wish.assign(wish)
            due, stop = 0 < agreed < STOP, agreed >= STOP
        if stop:
            self._stop(checkpoints.states(self.model))
        elif due:
            self._watch()
            self._save(checkpoints.states(self.model))

    def _end_epoch(self, logs: dict[str, float]) -> None:
        self._count_time()
        rate = float(np.array(self.model.optimizer.learning_rate))
        row = {
            "epoch": self.at.epoch,
            **logs,
            "learning_rate": rate,
            "seconds": round(self.at.seconds, 3),
        }
        number = self.at.epoch + 1
        best = self.at.best
        loss = logs.get("val_loss", math.inf)
        loss = math.inf if math.isnan(loss) else loss
        if (
            self.config.keep == "best"
            and self.placement.is_chief
            and (best is None or loss < best["loss"])
        ):
            best = self.checkpoints.save_best(checkpoints.weights(self.model), number, loss)
        rows = [*self.at.rows, row]
        self.at = dataclasses.replace(self.at, epoch=number, step=0, rows=rows, best=best)
        self._save(checkpoints.states(self.model))

    def _save(self, arrays: checkpoints.Arrays) -> None:
        self._count_time()
        if self.placement.is_chief:
            self.checkpoints.save(arrays, self.at)
        self.last_saved = time.perf_counter()
        self.signals.wish.assign(0.0)

    def _stop(self, arrays: checkpoints.Arrays) -> None:
        self._watch()
        self._save(arrays)
        number = self.requests.number or signal.SIGTERM  # another worker's
        raise Interrupted(
            number,
            f"stopped in epoch {self.at.epoch + 1} after {self.at.step} of its "
            f"{counted(self.batches.steps, 'step')}; resume with: kerasrnn train "
            f"{self.recipe.name} --resume --output {self.run.folder}",
        )

    def _count_time(self) -> None:
        now = time.perf_counter()
        seconds = self.at.seconds + now - self.counted
        self.at, self.counted = dataclasses.replace(self.at, seconds=seconds), now

    def _watch(self) -> None:
        """Check that all values so far are finite."""
        step = int(self.signals.diverged_at.numpy())
        if step < 0:
            return
        epoch, within = divmod(step, self.batches.steps)
        # Created anew, since a second pass over the current batches would have another order.
        batches = Batches(self.recipe, self.config, self.data)
        batch = next(iter(batches.train(step)))
        place = f"step {step + 1} (epoch {epoch + 1}, batch {within + 1})"
        raise divergence.DivergenceError(
            f"training {self.recipe.name} came to a loss or to gradients that are not finite in "
            f"{place}, with learning_rate {self.config.learning_rate}: "
            f"{divergence.explain(self.model, batch)}."
        )

    def finish(self) -> dict[str, Any]:
        """Save the model and evaluate it."""
        recipe, config, data, run = self.recipe, self.config, self.data, self.run
        if self.arrays is not None:  # all epochs were already completed
            checkpoints.assign(self.model, self.arrays)
        if config.keep == "best":
            best = self.checkpoints.load_best(self.at.best)
            checkpoints.assign(self.model, best, weights_alone=True)
        model = recipe.model(config, data)
        for weight, trained in zip(model.weights, self.model.weights, strict=True):
            weight.assign(np.array(trained))
        model = recipe.bundle(model, config, data)
        run.save_model(model)
        pictures.learning_curves(run.path("log.csv"), run.path("learning_curves.png"))
        metrics = recipe.evaluate(model, data, config, run.folder)
        metrics |= recipe.baselines(data, config)
        metrics |= {
            "parameters": recipe.trained_model(model).count_params(),
            **{f"peak_memory_of_{name}": count for name, count in summary.peak().items()},
            "seconds": round(self.at.seconds, 1),
            "epochs": config.epochs,
            "kept_epoch": self.at.best["epoch"] if config.keep == "best" else config.epochs,
            "resumed_at_epoch": self.first.epoch,
        }
        run.write_json("metrics.json", metrics)
        return metrics


def _fresh_states(model: keras.Model) -> None:
    """Reset the states of stateful layers at the start of each pass over the data."""
    for layer in model.layers:
        if hasattr(layer, "reset_state"):
            layer.reset_state()
