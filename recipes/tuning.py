"""The search for a good configuration: trials, each of them a run that is judged by validation.

A search's folder:

search.json          what is searched and how; what is fixed
oracle/              keras-tuner's state of the search
trials/ID/           a run folder for each trial, without a model; result.json says what came of it
workers/ID.log       what each worker said, where there are some
results.csv, .json   the trials, best first
hyperparameters.png  the measure against each hyperparameter
best.json            the best configuration, for `kerasrnn train --config`

Everything is written whole or not at all, and what happened stands in the files before anything
follows from it: killed at any moment, a search goes on with the trials that were cut off.
"""

import csv
import dataclasses
import json
import logging
import math
import shutil
import signal
import time
import traceback
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import keras
import keras_tuner
from keras_tuner.engine import base_tuner

from kerasrnn.recipes import pictures, space, training
from kerasrnn.recipes.config import Config, ConfigError, from_dict
from kerasrnn.recipes.errors import SourceError
from kerasrnn.recipes.execution import Execution, Placement
from kerasrnn.recipes.history import Row
from kerasrnn.recipes.interruption import Interrupted
from kerasrnn.recipes.progress import Progress, duration
from kerasrnn.recipes.recipe import Recipe
from kerasrnn.recipes.runs import Run, RunError, atomic, remove_scratch
from kerasrnn.recipes.searching import Searching

HELD_OUT = 0.15
"""Of the training data, to choose by, where it has no validation set of its own."""

HOPELESS = 5
"""Failed trials, and none that succeeded, after which a search ends."""


class TuningError(RuntimeError):
    """A search cannot go on."""


class Search:
    """A search's folder, and what it is a search for.

    Args:
        recipe: what is trained.
        folder: where everything is kept.
        plan: what `search.json` holds.

    Attributes:
        config: the configuration that the trials vary.
        space: what they vary.
    """

    def __init__(self, recipe: Recipe, folder: Path, plan: Mapping[str, Any]) -> None:
        self.recipe, self.folder, self.plan = recipe, folder, plan
        self.asked = from_dict(Searching, plan["search"])
        self.fixed = dict(plan["fixed"])
        self.config: Config = from_dict(recipe.Config, plan["config"])
        self.execution = from_dict(Execution, plan["execution"])
        # Hyperband says itself how long each trial is trained.
        fixed = {*self.fixed, *(["epochs"] if self.asked.algorithm == "hyperband" else [])}
        self.space = space.narrowed(recipe.searched, fixed, dataclasses.asdict(self.config))

    @classmethod
    def create(
        cls,
        recipe: Recipe,
        folder: Path | None,
        fixed: Mapping[str, Any],
        asked: Searching,
        execution: Execution,
        data_dir: str | None,
    ) -> "Search":
        """A new search.

        The data is loaded once, so that it is there, and prepared, before any worker needs it.

        Raises:
            RunError: the folder holds something, or cannot be written.
            ConfigError: a fixed option has a value that it cannot have, nothing is left to search,
                or the measure is none that the recipe has.
        """
        config = from_dict(recipe.Config, dict(fixed))
        if execution.strategy == "multiworker":
            raise ConfigError(
                "strategy='multiworker': expected another; each trial is one process."
            )
        measures = ("loss", *(_name(metric) for metric in recipe.fit_metrics(config)))
        if asked.objective not in (f"val_{name}" for name in measures):
            raise ConfigError(
                f"objective={asked.objective!r}: expected one of "
                f"{', '.join(f'val_{name}' for name in measures)}."
            )
        data = recipe.load(config, data_dir)
        holds_out = data.validation is None and not config.validation
        base = dataclasses.replace(config, validation=HELD_OUT) if holds_out else config
        training.Batches(recipe, base, data)  # refuses what cannot be
        folder = folder or Path("runs/tune") / recipe.name / f"{datetime.now():%Y%m%d-%H%M%S}"
        plan = {
            "recipe": recipe.name,
            "search": dataclasses.asdict(asked),
            "fixed": dict(fixed),
            "config": dataclasses.asdict(base),
            "held_out_to_search": holds_out,
            "execution": dataclasses.asdict(execution),
        }
        search = cls(recipe, folder, plan)
        if not search.space:
            raise ConfigError("every option that is searched has been fixed: nothing is left.")
        plan["space"] = {name: str(kind) for name, kind in search.space.items()}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if any(folder.iterdir()):
                raise RunError(
                    f"{folder} is not empty: choose another --output, or go on with a search that "
                    "was interrupted with --resume."
                )
            Run(folder).write_json("search.json", plan)
        except OSError as error:
            raise RunError(f"{folder} cannot be written: {error}.") from None
        return search

    @classmethod
    def open(cls, recipe: Recipe, folder: Path) -> "Search":
        """A search that was begun.

        Raises:
            RunError: there is none in the folder, or it is another recipe's, or damaged.
        """
        if not (folder / "search.json").is_file():
            raise RunError(f"{folder} is not a search's folder: it has no search.json.")
        plan = Run(folder).read_json("search.json")
        if not isinstance(plan, dict) or plan.get("recipe") != recipe.name:
            raise RunError(f"{folder / 'search.json'} is no search of the recipe {recipe.name}.")
        try:
            return cls(recipe, folder, plan)
        except (ConfigError, TypeError, KeyError) as error:
            raise RunError(f"{folder / 'search.json'} is damaged: {error}.") from None

    def trial_folder(self, trial_id: str) -> Path:
        return self.folder / "trials" / trial_id

    def config_of(self, values: Mapping[str, Any]) -> Config:
        """The configuration of a trial.

        Raises:
            ConfigError: it is none that can be.
        """
        chosen = self.chosen(values)
        if "tuner/epochs" in values:
            chosen["epochs"] = int(values["tuner/epochs"])
        return from_dict(self.recipe.Config, {**dataclasses.asdict(self.config), **chosen})

    def chosen(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What was searched, of keras-tuner's values."""
        return {
            name: kind.rounded(values[name]) for name, kind in self.space.items() if name in values
        }

    def final(self, config: Config) -> Config:
        """A trial's configuration as it is trained in the end: on all of the training data, unless
        the best epoch is chosen by what is held out."""
        if self.plan["held_out_to_search"] and config.keep != "best":
            return dataclasses.replace(config, validation=0.0)
        return config


@dataclass(frozen=True)
class Outcome:
    """What came of a trial; what `result.json` holds."""

    trial: str
    status: str
    """completed, failed, or running: also one that was cut off, and is to be taken up again."""

    values: Mapping[str, Any]
    """What was searched."""

    value: float | None = None
    """The measure."""

    epoch: int | None = None
    """The epoch (from 1) that it is of."""

    epochs: int | None = None
    """How many there were."""

    seconds: float | None = None
    reason: str = ""
    """Why it failed."""


class TrialFailedError(RuntimeError):
    """A trial came to no measure."""


def tune(
    recipe: Recipe,
    folder: str | Path | None = None,
    fixed: Mapping[str, Any] | None = None,
    asked: Mapping[str, Any] | None = None,
    execution: Mapping[str, Any] | None = None,
    resume: bool = False,
    data_dir: str | None = None,
    progress: Progress | None = None,
) -> tuple[Sequence[Outcome], Search | None]:
    """Search for a good configuration, by the validation data; the test data is not looked at.

    The first trial is the configuration as it is without a search. A process that keras-tuner's
    environment variables make a chief or a worker of a search over several machines does its part
    of it: see docs/tuning.md.

    Args:
        recipe: what to train.
        folder: where everything is kept; default: one below `runs/tune/`, named by the time.
        fixed: options of the recipe that are not searched.
        asked: options of `Searching`.
        execution: options of `Execution`.
        resume: whether to go on with the search in `folder`.
        data_dir: where TFDS keeps datasets.
        progress: what is told; default: nothing.

    Returns:
        The trials, best first, and the search. A worker of several machines has none to return.

    Raises:
        RunError: the folder cannot be used.
        ConfigError: what is asked for cannot be.
        TuningError: all trials fail, or a worker cannot begin.
        Interrupted: a signal has stopped it; it can be resumed.
    """
    from kerasrnn.recipes import chief

    fixed, asked, execution = dict(fixed or {}), dict(asked or {}), dict(execution or {})
    progress = progress or Progress()
    folder = Path(folder) if folder else None
    role = chief.role()
    if role == "worker":
        search = chief.awaited(recipe, folder)
        _refuse_others(search, fixed, asked, execution)
        chief.work(Tuner(search, search.asked, data_dir, progress))
        return (), None
    if resume:
        if folder is None:
            raise ConfigError("--resume: name the search's folder with --output.")
        search = Search.open(recipe, folder)
        _refuse_others(search, fixed, asked, execution)
    else:
        if "minutes" in asked or asked.get("algorithm") == "hyperband":
            asked.setdefault("trials", 0)
        if role == "chief" and folder is None:
            raise ConfigError("--output: expected a folder that chief and workers share.")
        search = Search.create(
            recipe,
            folder,
            fixed,
            from_dict(Searching, asked),
            from_dict(Execution, execution),
            data_dir,
        )
    now = dataclasses.replace(
        search.asked,
        **{name: value for name, value in asked.items() if name in Searching.RESUMABLE},
    )
    progress.say(
        "search",
        f"{recipe.title}: {now.algorithm} search, by {now.objective}\n"
        f"{space.described(search.space)}\nsearch folder: {search.folder}",
        recipe=recipe.name,
        search=dataclasses.asdict(now),
        space=search.plan["space"],
        folder=str(search.folder),
    )
    tuner = Tuner(search, now, data_dir, progress)
    try:
        if role == "chief" or now.workers > 1:
            chief.serve(tuner, 0 if role == "chief" else now.workers, data_dir)
        else:
            tuner.search()
    except KeyboardInterrupt as stop:
        outcomes = tuner.report()
        number = getattr(stop, "number", signal.SIGINT)
        done = sum(outcome.status != "running" for outcome in outcomes)
        raise Interrupted(
            number,
            f"stopped with {done} trials done; go on with: kerasrnn tune {recipe.name} --resume "
            f"--output {search.folder}",
        ) from None
    outcomes = tuner.report()
    if not any(outcome.status == "completed" for outcome in outcomes):
        raise TuningError(
            f"no trial succeeded, of {len(outcomes)}; the last one's reason: "
            f"{outcomes[-1].reason if outcomes else 'there was none'} (see {search.folder})"
        )
    return outcomes, search


def measured(rows: Sequence[Row], objective: str, keep: str) -> tuple[float, int]:
    """The measure of a training, and the epoch (from 1) that it is of: that whose weights are kept.

    Args:
        rows: the log.
        objective: its name in the log.
        keep: "last", or "best": the epoch of the lowest validation loss.

    Raises:
        TrialFailedError: the measure is not finite.
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


class Tuner(base_tuner.BaseTuner):
    """Runs trials: all of them, or, in a worker, those that the chief hands out.

    Args:
        search: what is searched.
        asked: how, this time: a search can be resumed with another budget.
        data_dir: where TFDS keeps datasets.
        progress: what is told.
    """

    def __init__(
        self, search: Search, asked: Searching, data_dir: str | None, progress: Progress
    ) -> None:
        self.task, self.asked = search, asked
        self.data_dir, self.progress = data_dir, progress
        self.kept = oracle(search, asked)
        """The oracle itself, of which workers have none but a way to ask it."""

        self.running = ""
        """The trial that is being run."""

        super().__init__(self.kept, directory=str(search.folder), project_name="oracle")
        if not self._is_worker():
            self.kept.take_up()

    def search(self) -> None:
        """Run trials until there are no more."""
        # Every trial traces a step of its own, which TensorFlow takes for an oversight.
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        while True:
            trial = self.oracle.create_trial(self.tuner_id)
            if trial.status == "STOPPED":
                return
            if trial.status == "IDLE":  # others must end before it is known what comes next
                time.sleep(0.5)
                continue
            self.running = trial.trial_id
            outcome = self.run_trial(trial)
            if outcome.value is not None:
                metrics = {self.asked.objective: outcome.value}
                self.oracle.update_trial(trial.trial_id, metrics, step=outcome.epoch)
            trial.status = outcome.status.upper()
            trial.message = outcome.reason or None
            self.oracle.end_trial(trial)
            self.running = ""
            if not self._is_worker():
                self.kept.save()  # keras-tuner's is of the moment before the trial ended
            self.told(outcome)

    def run_trial(self, trial: Any) -> Outcome:
        """Train with a trial's configuration, or go on with it.

        What goes wrong is the trial's outcome, unless it would go wrong in every other one too.
        """
        search, name = self.task, trial.trial_id
        folder = search.trial_folder(name)
        outcome = read_outcome(folder)
        if outcome is not None:  # killed after it was known, and before it was told
            return outcome
        values = search.chosen(trial.hyperparameters.values)
        outcome = Outcome(name, "running", values)
        self.progress.say("trial", f"trial {name}: {_in_words(values)}", trial=name, values=values)
        began = time.perf_counter()
        try:
            config = search.config_of(trial.hyperparameters.values)
            outcome = dataclasses.replace(outcome, epochs=config.epochs)
            rows = self._fit(config, folder)
            value, epoch = measured(rows, self.asked.objective, config.keep)
            outcome = dataclasses.replace(
                outcome,
                status="completed",
                value=value,
                epoch=epoch,
                seconds=float(rows[-1]["seconds"]),
            )
        except (RunError, SourceError):
            raise
        except Exception as error:
            seconds = round(time.perf_counter() - began, 1)
            reason = f"{type(error).__name__}: {error}".strip(": ").splitlines()[0]
            outcome = dataclasses.replace(outcome, status="failed", seconds=seconds, reason=reason)
            folder.mkdir(parents=True, exist_ok=True)
            with atomic(folder / "error.txt") as scratch:
                scratch.write_text(traceback.format_exc(), encoding="utf-8")
        write_outcome(folder, outcome)
        shutil.rmtree(folder / "checkpoint", ignore_errors=True)
        # The next one begins with empty memory: Keras keeps every layer's graph until then.
        keras.utils.clear_session()
        return outcome

    def _fit(self, config: Config, folder: Path) -> Sequence[Row]:
        recipe, execution = self.task.recipe, self.task.execution
        if (folder / "config.json").is_file():
            run, config = Run.open(recipe, folder)
        else:
            if folder.is_dir():
                remove_scratch(folder)
            run = Run.create(recipe, config, folder, execution)
        placement = Placement(execution)
        data = recipe.load(config, self.data_dir)
        return training.fit(recipe, config, run, data, placement, _BarAlone(self.progress.mode))

    def told(self, outcome: Outcome) -> None:
        """Say what came of a trial, and write the tables anew."""
        facts = {"trial": outcome.trial, "status": outcome.status, "value": outcome.value}
        text = f"trial {outcome.trial} failed: {outcome.reason}"
        if outcome.status == "completed":
            text = (
                f"trial {outcome.trial}: {self.asked.objective} {outcome.value:.4f} in epoch "
                f"{outcome.epoch} of {outcome.epochs}, {duration(outcome.seconds)}"
            )
        if not self._is_worker():
            best = self.outcomes()[0]
            if best.status == "completed":
                text += f" (best: trial {best.trial}, {best.value:.4f})"
            write_tables(self.task, self.outcomes(), self.asked.objective)
        self.progress.say("trial_end", text, **facts, reason=outcome.reason)

    def outcomes(self) -> list[Outcome]:
        """The trials so far: those that succeeded, best first; then the others."""
        search, found = self.task, []
        for name, trial in sorted(self.kept.trials.items()):
            values = search.chosen(trial.hyperparameters.values)
            outcome = read_outcome(search.trial_folder(name)) or Outcome(name, "running", values)
            found.append(dataclasses.replace(outcome, values=values))
        sign = -1 if direction(self.asked.objective) == "max" else 1
        order = ("completed", "running", "failed")
        return sorted(
            found, key=lambda o: (order.index(o.status), sign * (o.value or 0.0), o.trial)
        )

    def report(self) -> list[Outcome]:
        """Write tables, picture and the best configuration; returns the trials, best first."""
        outcomes = self.outcomes()
        write_tables(self.task, outcomes, self.asked.objective)
        done = [outcome for outcome in outcomes if outcome.status == "completed"]
        if done:
            pictures.hyperparameters(
                [(outcome.values, outcome.value) for outcome in done],
                self.task.space,
                self.asked.objective.removeprefix("val_").replace("_", " ") + " (validation)",
                done[0].values,
                self.task.folder / "hyperparameters.png",
            )
        return outcomes


class _BarAlone(Progress):
    """A bar for a trial's steps, if bars are shown, and not its epochs, of which there are many."""

    def __init__(self, mode: str) -> None:
        super().__init__("bar" if mode == "bar" else "none")

    def say(self, event: str, text: str, **facts: Any) -> None:
        pass


class _Budgeted:
    """What every oracle does here besides: it ends with the budget, begins with the defaults, and
    writes its state whole or not at all."""

    asked: Searching
    deadline: float
    defaults: dict[str, Any]

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        statuses = [trial.status for trial in self.trials.values()]
        hopeless = "COMPLETED" not in statuses and statuses.count("FAILED") >= HOPELESS
        spent = 0 < self.asked.trials <= len(self.trials) or time.monotonic() > self.deadline
        if hopeless or spent:
            return {"status": "STOPPED", "values": None}
        response = super().populate_space(trial_id)
        if response["status"] == "RUNNING" and not self.trials:
            of_algorithm = {k: v for k, v in response["values"].items() if k.startswith("tuner/")}
            response["values"] = {**self.defaults, **of_algorithm}
        return response

    def take_up(self) -> None:
        """Go on from what is on the disk; trials that were cut off come first."""
        folder = Path(self._project_dir)
        remove_scratch(folder)
        if not Path(self._get_oracle_fname()).is_file():
            self.save()
            return
        self.reload()
        # Also those of which the state, that is written after them, does not know yet.
        self._retry_queue = []
        for name, trial in sorted(self.trials.items(), reverse=True):
            self._record_values(trial)
            if trial.status == "RUNNING":
                self._retry_queue.append(name)

    def save(self) -> None:
        with atomic(Path(self._get_oracle_fname())) as scratch:
            scratch.write_text(json.dumps(self.get_state()), encoding="utf-8")

    def _save_trial(self, trial: Any) -> None:
        with atomic(Path(self._get_trial_dir(trial.trial_id)) / "trial.json") as scratch:
            scratch.write_text(json.dumps(trial.get_state()), encoding="utf-8")


class _Random(_Budgeted, keras_tuner.oracles.RandomSearchOracle):
    pass


class _Hyperband(_Budgeted, keras_tuner.oracles.HyperbandOracle):
    pass


class _Bayesian(_Budgeted, keras_tuner.oracles.BayesianOptimizationOracle):
    def populate_space(self, trial_id: str) -> dict[str, Any]:
        with warnings.catch_warnings():
            # Of a Gaussian process whose scale is at its bound: the suggestion is as good as any.
            warnings.simplefilter("ignore")
            response = super().populate_space(trial_id)
        # Among few values the best guess may be one that was tried.
        if response["status"] == "RUNNING" and self._duplicate(response["values"]):
            return self._random_populate_space()
        return response


def oracle(search: Search, asked: Searching) -> Any:
    """Who says what is tried next."""
    hyperparameters = keras_tuner.HyperParameters()
    defaults = space.declare(hyperparameters, search.space, dataclasses.asdict(search.config))
    options = {
        "objective": keras_tuner.Objective(asked.objective, direction(asked.objective)),
        "hyperparameters": hyperparameters,
        "seed": asked.search_seed + 1,  # 0 would be any
        # They are counted here: keras-tuner would raise with its lock held.
        "max_consecutive_failed_trials": 10**9,
    }
    if asked.algorithm == "hyperband":
        found = _Hyperband(max_epochs=search.config.epochs, **options)
    elif asked.algorithm == "bayesian":
        # By itself it would draw three for each hyperparameter before it looks at any result.
        initial = max(4, asked.trials // 4) if asked.trials else 8
        found = _Bayesian(max_trials=None, num_initial_points=initial, **options)
    else:
        found = _Random(max_trials=None, **options)
    found.verbose = 0
    found.asked, found.defaults = asked, defaults
    found.deadline = time.monotonic() + 60 * asked.minutes if asked.minutes else math.inf
    return found


def direction(objective: str) -> str:
    """Whether more or less of a measure is better, as keras-tuner says it."""
    return "max" if objective.endswith("accuracy") else "min"


def read_outcome(folder: Path) -> Outcome | None:
    """What came of a trial; None: nothing yet."""
    if not (folder / "result.json").is_file():
        return None
    return Outcome(**Run(folder).read_json("result.json"))


def write_outcome(folder: Path, outcome: Outcome) -> None:
    """Write down what came of a trial."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        Run(folder).write_json("result.json", dataclasses.asdict(outcome))
    except OSError as error:
        raise RunError(f"{folder} cannot be written: {error}.") from None


def write_tables(search: Search, outcomes: Sequence[Outcome], objective: str) -> None:
    """`results.csv`, `results.json`, and, once a trial has succeeded, `best.json`."""
    run = Run(search.folder)
    try:
        run.write_json(
            "results.json",
            {
                "objective": objective,
                "trials": [dataclasses.asdict(outcome) for outcome in outcomes],
            },
        )
        with atomic(run.path("results.csv")) as scratch, scratch.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            facts = ("trial", "status", objective, "epoch", "epochs", "seconds", "reason")
            writer.writerow([*facts, *search.space])
            for o in outcomes:
                known = (o.trial, o.status, o.value, o.epoch, o.epochs, o.seconds, o.reason)
                writer.writerow([*known, *(o.values.get(name) for name in search.space)])
        best = outcomes[0] if outcomes else None
        if best is not None and best.status == "completed":
            trained = dataclasses.replace(search.config_of(best.values), epochs=best.epochs)
            run.write_json(
                "best.json",
                {
                    "recipe": search.recipe.name,
                    "config": dataclasses.asdict(search.final(trained)),
                    "found": {"trial": best.trial, objective: best.value},
                },
            )
    except OSError as error:
        raise RunError(f"{search.folder} cannot be written: {error}.") from None


def table(outcomes: Sequence[Outcome], names: Sequence[str], objective: str) -> str:
    """The trials as lines of text: the best first; at the end those that failed, and why."""
    rows = [["trial", objective, "epoch", "time", *names]]
    for o in outcomes:
        if o.status == "failed":
            continue
        known = ["-", "-", "-"]
        if o.status == "completed":
            known = [f"{o.value:.4f}", f"{o.epoch}/{o.epochs}", duration(o.seconds)]
        rows.append([o.trial, *known, *(_shown(o.values.get(name, "-")) for name in names)])
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines += [
        f"{o.trial}  failed: {o.reason} ({_in_words(o.values)})"
        for o in outcomes
        if o.status == "failed"
    ]
    return "\n".join(lines)


def _refuse_others(
    search: Search, fixed: Mapping[str, Any], asked: Mapping[str, Any], execution: Mapping[str, Any]
) -> None:
    """Raise ConfigError where a search is asked to go on as another one than was begun."""
    begun = {
        **dataclasses.asdict(search.asked),
        **dataclasses.asdict(search.execution),
        **search.fixed,
    }
    for name, value in {**fixed, **asked, **execution}.items():
        if name not in Searching.RESUMABLE and begun.get(name) != value:
            before = begun.get(name, "no fixed one")
            raise ConfigError(
                f"{name}={value}: the search in {search.folder} has {before}, and a search is "
                "resumed as it was started."
            )


def _name(metric: Any) -> str:
    return metric if isinstance(metric, str) else metric.name


def _in_words(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_shown(value)}" for name, value in values.items())


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
