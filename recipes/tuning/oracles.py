"""Who says what is tried next: keras-tuner's oracles, with a budget, and files that survive."""

import dataclasses
import json
import math
import time
import warnings
from pathlib import Path
from typing import Any

import keras_tuner

from kerasrnn.files import remove_strays, replacing
from kerasrnn.recipes import space
from kerasrnn.recipes.tuning.options import Searching
from kerasrnn.recipes.tuning.search import Search

HOPELESS = 5
"""Failed trials, and none that succeeded, after which a search ends."""


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
        remove_strays(folder)
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
        with replacing(Path(self._get_oracle_fname())) as scratch:
            scratch.write_text(json.dumps(self.get_state()), encoding="utf-8")

    def _save_trial(self, trial: Any) -> None:
        with replacing(Path(self._get_trial_dir(trial.trial_id)) / "trial.json") as scratch:
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
