"""Runs the trials of a search: trainings evaluated on validation data."""

import dataclasses
import math
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
from keras_tuner.engine import base_tuner

from kerasrnn.files import (
    LockedError,
    WriteError,
    create_folder,
    remove,
    remove_strays,
    replacing,
)
from kerasrnn.recipes import training
from kerasrnn.recipes.base.config import Config
from kerasrnn.recipes.base.errors import SourceError
from kerasrnn.recipes.base.runs import Run, RunError
from kerasrnn.recipes.reporting import pictures
from kerasrnn.recipes.tuning.options import SearchOptions
from kerasrnn.recipes.tuning.oracles import direction, oracle
from kerasrnn.recipes.tuning.results import (
    Outcome,
    in_words,
    read_outcome,
    write_outcome,
    write_tables,
)
from kerasrnn.recipes.tuning.search import Search
from kerasrnn.training.errors import CheckpointError
from kerasrnn.training.history import Row
from kerasrnn.training.progress import Progress, duration


class TrialFailedError(RuntimeError):
    """A trial has no result."""


class Tuner(base_tuner.BaseTuner):
    """Runs trials: all of them or, in a worker, those from the chief.

    Args:
        search: the search.
        options: the search options of this session; a search can be resumed with another budget.
        data_dir: the TFDS data directory.
        progress: receives progress reports.
    """

    def __init__(
        self, search: Search, options: SearchOptions, data_dir: str | None, progress: Progress
    ) -> None:
        self.task, self.options = search, options
        self.data_dir, self.progress = data_dir, progress
        self.own_oracle = oracle(search, options)
        """The oracle itself; workers only have a connection to it."""

        self.running = ""
        """The current trial."""

        super().__init__(self.own_oracle, directory=str(search.folder), project_name="oracle")
        if not self._is_worker():
            self.own_oracle.resume()

    def search(self) -> None:
        """Run trials until there are no more."""
        while True:
            trial = self.oracle.create_trial(self.tuner_id)
            if trial.status == "STOPPED":
                return
            if trial.status == "IDLE":  # the next trial depends on running ones
                time.sleep(0.5)
                continue
            self.running = trial.trial_id
            outcome = self.run_trial(trial)
            if outcome.value is not None:
                metrics = {self.options.objective: outcome.value}
                self.oracle.update_trial(trial.trial_id, metrics, step=outcome.epoch)
            trial.status = outcome.status.upper()
            trial.message = outcome.reason or None
            self.oracle.end_trial(trial)
            self.running = ""
            if not self._is_worker():
                self.own_oracle.save()  # keras-tuner's is from before the trial ended
            self.report_trial(outcome)

    def run_trial(self, trial: Any) -> Outcome:
        """Train with a trial's configuration, or resume it.

        An error is the trial's outcome, unless it would occur in every trial.
        """
        search, name = self.task, trial.trial_id
        folder = search.trial_folder(name)
        outcome = read_outcome(folder)
        if outcome is not None:  # killed after the result was written and before it was reported
            return outcome
        values = search.chosen(trial.hyperparameters.values)
        outcome = Outcome(name, "running", values)
        self.progress.report(
            "trial", f"trial {name}: {in_words(values)}", trial=name, values=values
        )
        began = time.perf_counter()
        try:
            config = search.config_of(trial.hyperparameters.values)
            outcome = dataclasses.replace(outcome, epochs=config.epochs)
            rows = self._fit(config, folder)
            value, epoch = measured(rows, self.options.objective, config.keep)
            outcome = dataclasses.replace(
                outcome,
                status="completed",
                value=value,
                epoch=epoch,
                seconds=float(rows[-1]["seconds"]),
            )
        except (RunError, CheckpointError, SourceError, LockedError, WriteError):
            raise
        except Exception as error:
            seconds = round(time.perf_counter() - began, 1)
            reason = f"{type(error).__name__}: {error}".strip(": ").splitlines()[0]
            outcome = dataclasses.replace(outcome, status="failed", seconds=seconds, reason=reason)
            create_folder(folder)
            with replacing(folder / "error.txt") as scratch:
                scratch.write_text(traceback.format_exc(), encoding="utf-8")
        write_outcome(folder, outcome)
        remove(folder / "checkpoint")
        # Free memory for the next trial: Keras keeps the graphs of all layers until then.
        keras.utils.clear_session()
        return outcome

    def _fit(self, config: Config, folder: Path) -> Sequence[Row]:
        recipe, execution = self.task.recipe, self.task.execution
        if (folder / "config.json").is_file():
            run, config = Run.open(recipe, folder)
        else:
            if folder.is_dir():
                remove_strays(folder)
            run = Run.create(recipe, config, folder, execution)
        placement = execution.placement()
        data = recipe.load(config, self.data_dir)
        progress = _TrialBar(self.progress.mode)
        return training.fit(recipe, config, run, data, execution, progress, placement)

    def report_trial(self, outcome: Outcome) -> None:
        """Report the result of a trial, and update the tables."""
        facts = {"trial": outcome.trial, "status": outcome.status, "value": outcome.value}
        text = f"trial {outcome.trial} failed: {outcome.reason}"
        if outcome.status == "completed":
            text = (
                f"trial {outcome.trial}: {self.options.objective} {outcome.value:.4f} in epoch "
                f"{outcome.epoch} of {outcome.epochs}, {duration(outcome.seconds)}"
            )
        if not self._is_worker():
            best = self.outcomes()[0]
            if best.status == "completed":
                text += f" (best: trial {best.trial}, {best.value:.4f})"
            write_tables(self.task, self.outcomes(), self.options.objective)
        self.progress.report("trial_end", text, **facts, reason=outcome.reason)

    def outcomes(self) -> list[Outcome]:
        """The trials so far: successful ones first, best first; then the others."""
        search, outcomes = self.task, []
        for name, trial in sorted(self.own_oracle.trials.items()):
            values = search.chosen(trial.hyperparameters.values)
            outcome = read_outcome(search.trial_folder(name)) or Outcome(name, "running", values)
            outcomes.append(dataclasses.replace(outcome, values=values))
        sign = -1 if direction(self.options.objective) == "max" else 1
        order = ("completed", "running", "failed")
        return sorted(
            outcomes, key=lambda o: (order.index(o.status), sign * (o.value or 0.0), o.trial)
        )

    def report(self) -> list[Outcome]:
        """Write tables, plot and the best configuration; returns the trials, best first."""
        outcomes = self.outcomes()
        write_tables(self.task, outcomes, self.options.objective)
        done = [outcome for outcome in outcomes if outcome.status == "completed"]
        if done:
            pictures.hyperparameters(
                [(outcome.values, outcome.value) for outcome in done],
                self.task.space,
                self.options.objective.removeprefix("val_").replace("_", " ") + " (validation)",
                done[0].values,
                self.task.folder / "hyperparameters.png",
            )
        return outcomes


class _TrialBar(Progress):
    """A bar for a trial's steps, if bars are shown, instead of its many epochs."""

    def __init__(self, mode: str) -> None:
        super().__init__("bar" if mode == "bar" else "none")

    def report(self, event: str, text: str, **facts: Any) -> None:
        pass


def measured(rows: Sequence[Row], objective: str, keep: str) -> tuple[float, int]:
    """The objective of a training, and its epoch (from 1): the one whose weights are kept.

    Args:
        rows: the log.
        objective: its name in the log.
        keep: "last", or "best": the epoch of the lowest validation loss.

    Raises:
        TrialFailedError: the objective is not finite.
    """
    row = rows[-1]
    if keep == "best":
        row = min(
            rows,
            key=lambda row: row["val_loss"] if row["val_loss"] == row["val_loss"] else math.inf,
        )
    value, epoch = float(row[objective]), int(row["epoch"]) + 1
    if not math.isfinite(value):
        raise TrialFailedError(f"{objective} is {value} in epoch {epoch}")
    return value, epoch
