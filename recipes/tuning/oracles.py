"""Search algorithms: keras-tuner's oracles with a time budget and crash-safe files."""

import dataclasses
import json
import math
import time
import warnings
from pathlib import Path
from typing import Any

import keras_tuner

from kerasrnn.files import remove_strays, replacing
from kerasrnn.recipes.base import search_space as space
from kerasrnn.recipes.tuning.options import SearchOptions
from kerasrnn.recipes.tuning.search import Search

HOPELESS = 5
"""Number of failed trials, without a successful one, after which a search ends."""


def oracle(search: Search, options: SearchOptions) -> Any:
    """Create the oracle of a search."""
    hyperparameters = keras_tuner.HyperParameters()
    defaults = space.declare(hyperparameters, search.space, dataclasses.asdict(search.config))
    arguments = {
        "objective": keras_tuner.Objective(options.objective, direction(options.objective)),
        "hyperparameters": hyperparameters,
        "seed": options.search_seed + 1,  # 0 would mean any
        # Counted here, since keras-tuner would raise while holding its lock.
        "max_consecutive_failed_trials": 10**9,
    }
    if options.algorithm == "hyperband":
        result = _Hyperband(max_epochs=search.config.epochs, **arguments)
    elif options.algorithm == "bayesian":
        # The default would be three random trials per hyperparameter before using any result.
        initial = max(4, options.trials // 4) if options.trials else 8
        result = _Bayesian(max_trials=None, num_initial_points=initial, **arguments)
    else:
        result = _Random(max_trials=None, **arguments)
    result.verbose = 0
    result.options, result.defaults = options, defaults
    result.deadline = time.monotonic() + 60 * options.minutes if options.minutes else math.inf
    return result


def direction(objective: str) -> str:
    """The direction of an objective, in keras-tuner's terms."""
    return "max" if objective.endswith("accuracy") else "min"


class _Budgeted:
    """Mixin of all oracles: stop with the budget, start with the defaults, and write the state
    atomically."""

    options: SearchOptions
    deadline: float
    defaults: dict[str, Any]

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        statuses = [trial.status for trial in self.trials.values()]
        hopeless = "COMPLETED" not in statuses and statuses.count("FAILED") >= HOPELESS
        spent = 0 < self.options.trials <= len(self.trials) or time.monotonic() > self.deadline
        if hopeless or spent:
            return {"status": "STOPPED", "values": None}
        response = super().populate_space(trial_id)
        if response["status"] == "RUNNING" and not self.trials:
            of_algorithm = {k: v for k, v in response["values"].items() if k.startswith("tuner/")}
            response["values"] = {**self.defaults, **of_algorithm}
        return response

    def resume(self) -> None:
        """Resume from disk; interrupted trials come first."""
        folder = Path(self._project_dir)
        remove_strays(folder)
        if not Path(self._get_oracle_fname()).is_file():
            self.save()
            return
        self.reload()
        # Including trials that the state, written after them, does not know yet.
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
            # A Gaussian process whose scale is at its bound; its suggestion is still usable.
            warnings.simplefilter("ignore")
            response = super().populate_space(trial_id)
        # With few values, the best guess may already have been tried.
        if response["status"] == "RUNNING" and self._duplicate(response["values"]):
            return self._random_populate_space()
        return response
