"""`kerasrnn tune`."""

import argparse
import dataclasses
from typing import Any

from kerasrnn.recipes.base.execution import Execution
from kerasrnn.recipes.base.recipe import Recipe
from kerasrnn.recipes.base.search_space import described
from kerasrnn.recipes.command.arguments import (
    add_command,
    add_options,
    add_place,
    add_sources,
    given_options,
)
from kerasrnn.recipes.tuning.options import SearchOptions


def add(commands: Any, recipe: Recipe | None) -> None:
    """Add the command to the parser."""
    command = add_command(
        commands,
        "tune",
        "tune the options of a recipe on validation data",
        act,
        _space(recipe),
    )
    add_place(command, "search", "runs/tune", "a progress bar and a line per trial, only lines")
    add_options(command, "search options", SearchOptions)
    add_options(command, "execution options", Execution)
    if recipe is not None:
        add_options(
            command,
            f"options of {recipe.name} (options given here are not searched)",
            recipe.Config,
        )
    add_sources(command)


def act(recipe: Recipe, arguments: argparse.Namespace) -> int:
    """Run the search and print the results."""
    from kerasrnn.recipes import tuning
    from kerasrnn.training.progress import Progress

    progress = Progress(arguments.progress)
    outcomes, search = tuning.tune(
        recipe,
        arguments.output,
        given_options(recipe.Config, arguments),
        given_options(SearchOptions, arguments),
        given_options(Execution, arguments),
        arguments.resume,
        arguments.data_dir,
        progress,
    )
    if search is None:  # a worker: the chief prints the results
        return 0
    best, picture = search.folder / "best.json", search.folder / "hyperparameters.png"
    progress.report(
        "end",
        f"\n{tuning.table(outcomes, list(search.space), search.options.objective)}\n\n"
        f"plot: {picture}\n"
        f"best: kerasrnn train {recipe.name} --config {best}",
        trials=[dataclasses.asdict(outcome) for outcome in outcomes],
        picture=str(picture),
        best=str(best),
    )
    return 0


def _space(recipe: Recipe | None) -> str:
    if recipe is None:
        return "For the search space: kerasrnn tune RECIPE --help"
    space = described(recipe.search_space)
    return f"search space, except for options given on the command line:\n{space}"
