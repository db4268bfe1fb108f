"""`kerasrnn evaluate`."""

import argparse
import contextlib
import tempfile
from pathlib import Path
from typing import Any

from kerasrnn.recipes.base.recipe import Recipe
from kerasrnn.recipes.command.arguments import (
    add_command,
    add_run,
    add_sources,
    below_baselines,
    empty_folder,
    lines_of,
    opened,
)


def add(commands: Any, recipe: Recipe | None) -> None:
    """Add the command to the parser."""
    command = add_command(commands, "evaluate", "evaluate a trained model on the test data", act)
    command.add_argument(
        "--output", metavar="DIR", help="folder for plots (default: no plots are written)"
    )
    add_run(command)
    add_sources(command)


def act(recipe: Recipe, arguments: argparse.Namespace) -> int:
    """Evaluate a model."""
    run, config = opened(recipe, arguments)
    run.check_data(config)
    if arguments.output is not None:
        empty_folder("--output", Path(arguments.output))
    model, data = run.load_model(), recipe.load(config, arguments.data_dir)
    with contextlib.ExitStack() as stack:
        folder = Path(arguments.output or stack.enter_context(tempfile.TemporaryDirectory()))
        metrics = recipe.evaluate(model, data, config, folder)
        metrics |= recipe.baselines(data, config)
        print("\n".join([*lines_of(metrics), *below_baselines(recipe, metrics)]))
        if arguments.output is not None:
            for path in sorted(folder.iterdir()):
                print(f"{'plot' if path.suffix == '.png' else 'file'}:  {path}")
    return 0
