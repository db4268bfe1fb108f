"""`kerasrnn evaluate`."""

import argparse
from pathlib import Path
from typing import Any

from kerasrnn.recipes.command.arguments import add_command, add_run, add_sources, lines_of, opened
from kerasrnn.recipes.recipe import Recipe


def add(commands: Any, recipe: Recipe | None) -> None:
    """Add the command."""
    command = add_command(commands, "evaluate", "judge a run's model on the test data again", act)
    add_run(command)
    add_sources(command)


def act(recipe: Recipe, arguments: argparse.Namespace) -> int:
    """Judge a model again."""
    run, config = opened(recipe, arguments)
    run.check_data(config)
    model, data = run.load_model(), recipe.load(config, arguments.data_dir)
    print(f"run folder: {run.folder}")
    folder = run.folder
    if run.is_kept:
        folder = Path("evaluation") / recipe.name
        folder.mkdir(parents=True, exist_ok=True)
    metrics = recipe.judge(model, data, config, folder)
    print("\n".join(lines_of(metrics | recipe.baselines(data, config))))
    for picture in sorted(folder.glob("*.png")):
        print(f"picture: {picture}")
    return 0
