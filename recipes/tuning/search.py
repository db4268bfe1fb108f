"""A search: its folder and its plan."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kerasrnn.files import create_folder, locked
from kerasrnn.recipes.base import search_space as space
from kerasrnn.recipes.base.config import Config, ConfigError, from_dict
from kerasrnn.recipes.base.execution import Execution
from kerasrnn.recipes.base.recipe import Recipe
from kerasrnn.recipes.base.runs import Run, RunError, check_new, default_folder
from kerasrnn.recipes.training.from_config import batches
from kerasrnn.recipes.tuning.options import SearchOptions

HELD_OUT = 0.15
"""Fraction of the training data held out if the dataset has no validation split."""


class TuningError(RuntimeError):
    """A search cannot continue."""


class Search:
    """A search: its folder and its plan.

    Args:
        recipe: the recipe to train.
        folder: the folder of the search.
        plan: the content of `search.json`.

    Attributes:
        config: the configuration that the trials modify.
        space: the search space.
    """

    def __init__(self, recipe: Recipe, folder: Path, plan: Mapping[str, Any]) -> None:
        self.recipe, self.folder, self.plan = recipe, folder, plan
        self.options = from_dict(SearchOptions, plan["search"])
        self.fixed = dict(plan["fixed"])
        self.config: Config = from_dict(recipe.Config, plan["config"])
        self.execution = from_dict(Execution, plan["execution"])
        # Hyperband decides how long each trial is trained.
        fixed = {*self.fixed, *(["epochs"] if self.options.algorithm == "hyperband" else [])}
        self.space = space.narrowed(recipe.search_space, fixed, dataclasses.asdict(self.config))

    @classmethod
    def create(
        cls,
        recipe: Recipe,
        folder: Path | None,
        fixed: Mapping[str, Any],
        options: SearchOptions,
        execution: Execution,
        data_dir: str | None,
    ) -> "Search":
        """Create a search.

        The data is loaded once, so that it is prepared before any worker needs it.

        Raises:
            RunError: the folder is not empty.
            WriteError: the folder cannot be written.
            ConfigError: a fixed option has an invalid value, nothing is left to search, or the
                recipe lacks the objective.
            BatchError: a batch is larger than the training data.
        """
        config = from_dict(recipe.Config, dict(fixed))
        if execution.strategy == "multiworker":
            raise ConfigError(
                "strategy='multiworker': expected another strategy; each trial is one process."
            )
        measures = ("loss", *(_name(metric) for metric in recipe.fit_metrics(config)))
        if options.objective not in (f"val_{name}" for name in measures):
            raise ConfigError(
                f"objective={options.objective!r}: expected one of "
                f"{', '.join(f'val_{name}' for name in measures)}."
            )
        folder = folder or default_folder(recipe, "runs/tune")
        check_new(folder, "search")  # before the data is prepared
        data = recipe.load(config, data_dir)
        holds_out = data.validation is None and not config.validation
        base = dataclasses.replace(config, validation=HELD_OUT) if holds_out else config
        batches(recipe, base, data)  # rejects invalid values
        plan = {
            "recipe": recipe.name,
            "search": dataclasses.asdict(options),
            "fixed": dict(fixed),
            "config": dataclasses.asdict(base),
            "held_out_to_search": holds_out,
            "execution": dataclasses.asdict(execution),
        }
        search = cls(recipe, folder, plan)
        if not search.space:
            raise ConfigError(
                "all options of the search space are fixed: there is nothing to search."
            )
        plan["space"] = {name: str(kind) for name, kind in search.space.items()}
        create_folder(folder)
        with locked(folder, "searching"):
            check_new(folder, "search")
            Run(folder).write_json("search.json", plan)
        return search

    @classmethod
    def open(cls, recipe: Recipe, folder: Path) -> "Search":
        """Open an existing search.

        Raises:
            RunError: the folder has no search, or it belongs to another recipe or is damaged.
        """
        if not (folder / "search.json").is_file():
            raise RunError(f"{folder} is not a search's folder: it has no search.json.")
        plan = Run(folder).read_json("search.json")
        if not isinstance(plan, dict) or plan.get("recipe") != recipe.name:
            raise RunError(f"{folder / 'search.json'} is not a search of the recipe {recipe.name}.")
        try:
            return cls(recipe, folder, plan)
        except (ConfigError, TypeError, KeyError) as error:
            raise RunError(f"{folder / 'search.json'} is damaged: {error}.") from None

    def trial_folder(self, trial_id: str) -> Path:
        """The folder of a trial.

        Raises:
            TuningError: the id is not a valid name of a trial, for example a path.
        """
        if not re.fullmatch(r"\w{1,100}", trial_id, re.ASCII):
            raise TuningError(f"trial_id={trial_id[:40]!r}: expected letters and digits.")
        return self.folder / "trials" / trial_id

    def config_of(self, values: Mapping[str, Any]) -> Config:
        """The configuration of a trial.

        Raises:
            ConfigError: the configuration is invalid.
        """
        chosen = self.chosen(values)
        if "tuner/epochs" in values:
            chosen["epochs"] = int(values["tuner/epochs"])
        return from_dict(self.recipe.Config, {**dataclasses.asdict(self.config), **chosen})

    def chosen(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The searched hyperparameters among keras-tuner's values."""
        return {
            name: kind.rounded(values[name]) for name, kind in self.space.items() if name in values
        }

    def final(self, config: Config) -> Config:
        """A trial's configuration for the final training: on all training data, unless the best
        epoch is chosen on a held-out part."""
        if self.plan["held_out_to_search"] and config.keep != "best":
            return dataclasses.replace(config, validation=0.0)
        return config


def _name(metric: Any) -> str:
    return metric if isinstance(metric, str) else metric.name
