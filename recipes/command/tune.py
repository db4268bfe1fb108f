"""`kerasrnn tune`."""

import argparse
import dataclasses
from typing import Any

from kerasrnn.recipes.command.arguments import (
    add_command,
    add_options,
    add_place,
    add_sources,
    given,
)
from kerasrnn.recipes.recipe import Recipe
from kerasrnn.recipes.space import described
from kerasrnn.recipes.training.execution import Execution
from kerasrnn.recipes.tuning.options import Searching


def add(commands: Any, recipe: Recipe | None) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "tune",
        "search for good options of a recipe, by validation",
        act,
        _space(recipe),
    )
    add_place(command, "search", "runs/tune", "a bar and a line a trial, lines alone")
    add_options(command, "how the search is carried out", Searching)
    add_options(command, "how training is carried out", Execution)
    if recipe is not None:
        add_options(
            command, f"options of {recipe.name}; what is given is not searched", recipe.Config
        )
    add_sources(command)


def act(recipe: Recipe, arguments: argparse.Namespace) -> int:
    """Search, and print what was found."""
    from kerasrnn.recipes import tuning
    from kerasrnn.recipes.training.progress import Progress

    progress = Progress(arguments.progress)
    outcomes, search = tuning.tune(
        recipe,
        arguments.output,
        given(recipe.Config, arguments),
        given(Searching, arguments),
        given(Execution, arguments),
        arguments.resume,
        arguments.data_dir,
        progress,
    )
    if search is None:  # a worker: the chief says what was found
        return 0
    best, picture = search.folder / "best.json", search.folder / "hyperparameters.png"
    progress.say(
        "end",
        f"\n{tuning.table(outcomes, list(search.space), search.asked.objective)}\n\n"
        f"picture: {picture}\n"
        f"best:    kerasrnn train {recipe.name} --config {best}",
        trials=[dataclasses.asdict(outcome) for outcome in outcomes],
        picture=str(picture),
        best=str(best),
    )
    return 0


def _space(recipe: Recipe | None) -> str:
    if recipe is None:
        return "What is searched: kerasrnn tune RECIPE --help"
    return f"what is searched, unless an option fixes it:\n{described(recipe.searched)}"
