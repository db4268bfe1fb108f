"""Training for several epochs, resumable at any step."""

import contextlib
import dataclasses
import functools
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from kerasrnn import validation
from kerasrnn.files import create_folder, locked, remove_strays, writing
from kerasrnn.keras_internals import graph_of
from kerasrnn.training import checkpoints, divergence, history, summary, watchdog
from kerasrnn.training.batches import Batches
from kerasrnn.training.errors import BatchError, DivergenceError
from kerasrnn.training.history import Row
from kerasrnn.training.interruption import Interrupted, Requests
from kerasrnn.training.loop import Loop, lost_workers
from kerasrnn.training.optimizers import AdamW, adamw
from kerasrnn.training.placement import Placement
from kerasrnn.training.progress import Progress
from kerasrnn.training.step import Signals, TrainingModel
from kerasrnn.validation import ArgumentError, NonNegativeNumber, PositiveInteger
from kerasrnn.wording import counted

CHECKPOINT, STOP = 1.0, 1e6
"""Requests of a worker; the sum of all requests is at least the strongest one."""

Build = Callable[[], keras.Model]
Metrics = Sequence[Any] | Mapping[str, Any]


def fit(
    build: Build,
    batches: Batches,
    loss: Any,
    folder: str | Path,
    epochs: int,
    *,
    placement: Placement | None = None,
    **options: Any,
) -> tuple[keras.Model, Sequence[Row]]:
    """Train a model, or resume its training.

    SIGINT (Ctrl-C) and SIGTERM stop the training after the current step, with a checkpoint. The
    same call then resumes it, as it does after a crash. For reproducible weights, call
    `keras.utils.set_random_seed` before, with the same seed each time.

    Args:
        build: builds the model, uncompiled: a functional or Sequential one.
        batches: the training and validation batches.
        loss: the loss, or its Keras name.
        folder: the folder for checkpoints and logs. A checkpoint in it is resumed.
        epochs: number of epochs.
        placement: the devices; default: one.
        **options: further arguments of `Training`: metrics, optimizer, callbacks, progress, ...

    Returns:
        The trained model, newly built and uncompiled, and the log: one row per epoch. With several
        workers, only the chief has the weights of the best epoch.

    Raises:
        BatchError: a batch cannot be split among the devices or into parts.
        CheckpointError: the checkpoint is damaged, or belongs to another model.
        DivergenceError: the loss or the gradients became infinite or NaN.
        ExecutionError: a worker was lost.
        Interrupted: a signal stopped the training.
        LockedError: another process trains in the folder.
        WriteError: the folder cannot be written.
        ValueError: another argument is invalid.

    Example:

        >>> import keras, numpy as np, tempfile, kerasrnn
        >>> x, y = np.ones((8, 5, 2), "float32"), np.ones((8, 1), "float32")
        >>> def build():
        ...     return keras.Sequential([keras.Input((5, 2)), kerasrnn.GRU(1)])
        >>> batches = kerasrnn.training.Batches.from_arrays((x, y), batch_size=4)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model, log = kerasrnn.training.fit(build, batches, "mse", folder, epochs=2)
        >>> len(log), model.output_shape
        (2, (None, 1))
    """
    placement = placement or Placement("one")
    with contextlib.ExitStack() as stack:
        stack.enter_context(writing(folder))
        if placement.is_chief:
            create_folder(folder)
            stack.enter_context(locked(folder, "training"))
        stack.enter_context(lost_workers(placement))
        training = Training(build, batches, loss, folder, epochs, placement=placement, **options)
        training.fit()
        return training.trained_model(), training.log


class Training:
    """A training that `fit` starts or resumes.

    Args:
        build: builds the model, uncompiled: a functional or Sequential one. It is called once for
            the training, with the precision and on the devices of `placement`, and once for the
            trained model.
        batches: the training and validation batches.
        loss: the loss, or its Keras name.
        folder: an existing folder for checkpoints and logs.
        epochs: number of epochs.
        metrics: metrics, or their Keras names; as in Keras's `compile`, for a model with several
            outputs, a list or dict of them for each output.
        optimizer: creates the optimizer. On several devices it must be a
            `kerasrnn.training.AdamW`. Default: `kerasrnn.training.adamw` with its defaults.
        keep: whether the model has the weights of the "last" epoch or of the "best" one, with the
            lowest validation loss.
        patience: the training ends early after so many epochs in a row without a lower validation
            loss (early stopping, Prechelt 1998). None: it never does.
        callbacks: Keras callbacks. They are called only by the chief, and may not stop the
            training.
        placement: the devices; default: one.
        progress: receives progress reports; default: none.
        steps_per_execution: number of steps per call of the compiled function.
        checkpoint_minutes: minutes between checkpoints within an epoch.
        tensorboard: whether to write the log for TensorBoard, too.

    Attributes:
        model: the `TrainingModel`.
        log: the completed epochs.
        ended: whether no epoch is left.
        best: the epoch (from 1) of the lowest validation loss, if `keep` is "best".
        seconds: the time spent training, over all sessions.
        resumed_at: the number of epochs that were already completed.

    Raises:
        BatchError, CheckpointError: see `fit`.
        ValueError: another argument is invalid.

    Example:

        >>> import keras, numpy as np, tempfile, kerasrnn
        >>> x, y = np.ones((8, 5, 2), "float32"), np.ones((8, 1), "float32")
        >>> def build():
        ...     return keras.Sequential([keras.Input((5, 2)), kerasrnn.GRU(1)])
        >>> batches = kerasrnn.training.Batches.from_arrays((x, y), batch_size=4)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     training = kerasrnn.training.Training(build, batches, "mse", folder, epochs=2)
        ...     training.fit()
        >>> len(training.log), training.resumed_at
        (2, 0)
    """

    @validation.checked
    def __init__(
        self,
        build: Build,
        batches: Batches,
        loss: Any,
        folder: str | Path,
        epochs: PositiveInteger,
        *,
        metrics: Metrics = (),
        optimizer: Callable[[], keras.optimizers.Optimizer] | None = None,
        keep: Literal["last", "best"] = "last",
        patience: PositiveInteger | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        placement: Placement | None = None,
        progress: Progress | None = None,
        steps_per_execution: PositiveInteger = 1,
        checkpoint_minutes: NonNegativeNumber = 10.0,
        tensorboard: bool = False,
    ) -> None:
        if not callable(build) or isinstance(build, keras.Model):
            raise ArgumentError("build", build, "a function that builds the model")
        if optimizer is not None and not callable(optimizer):
            raise ArgumentError("optimizer", optimizer, "a function that creates one", "None")
        for name, value, needed in (
            ("keep", keep, keep == "best"),
            ("patience", patience, patience is not None),
        ):
            if needed and batches.validation is None:
                raise BatchError(f"{name}={value!r}: expected batches with validation examples.")
        batches.check()
        self.build, self.batches, self.epochs = build, batches, epochs
        self.folder, self.keep, self.callbacks = Path(folder), keep, callbacks
        self.patience = patience
        self.placement = placement or Placement("one")
        self.placement.check(batches.batch_size)
        self.progress = progress or Progress()
        self.steps_per_execution = steps_per_execution
        self.checkpoint_minutes, self.tensorboard = checkpoint_minutes, tensorboard
        self.checkpoints = checkpoints.Checkpoints(self.folder / "checkpoint")
        if self.placement.is_chief:
            remove_strays(self.folder)
            self.checkpoints.clean()
        restored = self.checkpoints.restore()
        self.arrays, self.at = restored or (None, checkpoints.Position())
        self.resumed_at = self.at.epoch
        self.signals = Signals()
        self.requests = Requests()
        optimizer = optimizer or functools.partial(adamw, epochs * batches.steps)
        metrics = dict(metrics) if isinstance(metrics, Mapping) else list(metrics)
        self.model = self._model(loss, metrics, optimizer)

    @property
    def log(self) -> Sequence[Row]:
        return self.at.rows

    @property
    def best(self) -> int | None:
        return self.at.best["epoch"] if self.keep == "best" and self.at.best else None

    @property
    def seconds(self) -> float:
        return self.at.seconds

    @property
    def ended(self) -> bool:
        if self.patience is None or not self.at.rows:
            return self.at.epoch >= self.epochs
        losses = [_validation_loss(row) for row in self.at.rows]
        since = len(losses) - 1 - losses.index(min(losses))
        return since >= self.patience or self.at.epoch >= self.epochs

    def _model(
        self,
        loss: Any,
        metrics: list[Any] | dict[str, Any],
        optimizer: Callable[[], keras.optimizers.Optimizer],
    ) -> TrainingModel:
        placement = self.placement
        with placement.scope():
            model = self.build()
            if graph_of(model) is None:
                raise ValueError(
                    f"build returned {model!r}; expected a functional model, or a Sequential one "
                    "with an Input."
                )
            self._check_states(model)
            update = optimizer()
            if placement.replicas > 1 and not isinstance(update, AdamW):
                raise ValueError(
                    f"optimizer={type(update).__name__}: expected kerasrnn.training.AdamW on "
                    "several devices; other optimizers would sum the gradients again."
                )
            scaled = placement.precision == "float16"
            if scaled:
                update = keras.optimizers.LossScaleOptimizer(update)
            model = TrainingModel(
                model,
                self.signals,
                placement.accumulate,
                placement.compiles(model),
                watch_gradients=not scaled,
            )
            model.compile(update, loss, metrics=metrics, jit_compile=False)
        model.prepare(self.batches.train())
        model.compile_loops()
        return model

    def _check_states(self, model: keras.Model) -> None:
        parts = self.placement.replicas * self.placement.accumulate
        if parts > 1 and any(getattr(layer, "stateful", False) for layer in model.layers):
            raise BatchError(
                "the model is stateful: each row continues the same row of the previous batch, so "
                f"a batch cannot be split into {parts} parts; expected one device, and "
                "accumulate=1."
            )

    def fit(self) -> None:
        """Train for the remaining epochs. Afterwards the model has the weights selected by `keep`.

        Raises:
            CheckpointError, DivergenceError, Interrupted: see `kerasrnn.training.fit`.
        """
        board = None
        if self.placement.is_chief:
            # Including those of the last epoch, after which the process may have been killed.
            history.write(self.folder / "log.csv", self.at.rows)
            if self.tensorboard:
                board = history.Board(self.folder / "tensorboard", self.at.rows)
        try:
            if not self.ended:
                self._fit(board)
        finally:
            if board is not None:
                board.close()
        if self.arrays is not None:  # all epochs were already completed
            checkpoints.assign(self.model, self.arrays)
            self.arrays = None
        if self.keep == "best" and self.placement.is_chief:
            best = self.checkpoints.load_best(self.at.best)
            checkpoints.assign(self.model, best, weights_alone=True)

    def trained_model(self) -> keras.Model:
        """A newly built model with the trained weights, in the precision set globally."""
        model = self.build()
        for weight, trained in zip(model.weights, self.model.weights, strict=True):
            weight.assign(np.array(trained))
        return model

    def _fit(self, board: history.Board | None) -> None:
        steps, epochs = self.batches.steps, self.epochs
        callbacks = keras.callbacks.CallbackList(
            list(self.callbacks) if self.placement.is_chief else [],
            model=self.model,
            epochs=epochs,
            steps=steps,
        )
        self.loop = Loop(self.model, self.placement.strategy, self.steps_per_execution)
        if self.placement.is_chief:
            sizes = summary.of(self.model, self.batches, self.placement)
            self.progress.report("summary", str(sizes), **dataclasses.asdict(sizes))
        self.last_saved = self.last_watched = self.counted = time.perf_counter()
        passed = self.at.epoch * steps + self.at.step
        self.progress.begin(epochs, steps, passed)
        try:
            with (
                self.requests.handling(),
                watchdog.watched(self.placement.others),
                self.loop.source(self.batches.train(passed)) as batches,
            ):
                callbacks.on_train_begin()
                while not self.ended:
                    self._epoch(batches, callbacks)
                    if self.placement.is_chief:
                        history.write(self.folder / "log.csv", self.at.rows)
                    if board is not None:
                        board.add(self.at.rows[-1])
                    self.progress.epoch(self.at.rows[-1])
                if self.at.epoch < epochs:
                    self.progress.report(
                        "early_stop",
                        f"stopped early: no lower validation loss in {self.patience} epochs",
                        patience=self.patience,
                    )
                callbacks.on_train_end()
        finally:
            self.progress.end()

    def _epoch(self, batches: Iterator[Any], callbacks: keras.callbacks.CallbackList) -> None:
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
            traces = self.loop.traces
            done = self.loop.train(batches, steps - self.at.step)
            self.at = dataclasses.replace(self.at, step=self.at.step + done)
            callbacks.on_train_batch_end(self.at.step - 1, {})
            self.progress.step(
                done, epoch, lambda: self.loop.results()["loss"], self.loop.traces > traces
            )
            self._between_steps()
        self._watch()
        logs = self.loop.results()
        if self.batches.validation is not None:
            trained, traces = checkpoints.states(self.model), self.loop.traces

            def between() -> None:
                nonlocal traces
                self.progress.evaluated(self.loop.traces > traces)
                traces = self.loop.traces
                if self.requests.number is not None and self.placement.workers == 1:
                    self._stop(trained)

            _fresh_states(self.model)
            callbacks.on_test_begin()
            results = self.loop.evaluate(self.loop.batches(self.batches.validation), between)
            callbacks.on_test_end(results)
            logs |= {f"val_{name}": value for name, value in results.items()}
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
        due = now - self.last_saved > 60 * self.checkpoint_minutes
        stop = self.requests.number is not None
        if self.placement.workers > 1:
            # All workers must act after the same step, in which they have exchanged their requests.
            agreed = float(self.signals.agreed.numpy())
            request = STOP if stop else CHECKPOINT if due and self.placement.is_chief else 0.0
            self.signals.request.assign(request)
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
        loss = _validation_loss(logs)
        if (
            self.keep == "best"
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
        self.signals.request.assign(0.0)

    def _stop(self, arrays: checkpoints.Arrays) -> None:
        self._watch()
        self._save(arrays)
        number = self.requests.number or signal.SIGTERM  # another worker's
        raise Interrupted(
            number,
            f"stopped in epoch {self.at.epoch + 1} after {self.at.step} of its "
            f"{counted(self.batches.steps, 'step')}",
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
        batch = next(iter(self.batches.again().train(step)))
        raise DivergenceError(
            f"the loss or the gradients are not finite in step {step + 1} (epoch {epoch + 1}, "
            f"batch {within + 1}): {divergence.explain(self.model, batch)}."
        )


def _validation_loss(row: Row) -> float:
    loss = row.get("val_loss", math.inf)
    return math.inf if math.isnan(loss) else loss


def _fresh_states(model: keras.Model) -> None:
    """Reset the states of stateful layers at the start of each pass over the data."""
    for layer in model.layers:
        if hasattr(layer, "reset_state"):
            layer.reset_state()
