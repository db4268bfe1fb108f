"""`kerasrnn runs`."""

import argparse
import dataclasses
import itertools
import json
import sys
from pathlib import Path
from typing import Any

from kerasrnn.files import OccupiedError, WriteError
from kerasrnn.recipes.command.arguments import fail


def add(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "runs",
        help="compare the options, metrics and learning curves of runs",
        description="Compare the runs in a folder and its subfolders: the options in which they "
        "differ,\ntheir metrics, and a plot of their learning curves.",
    )
    command.add_argument(
        "folder", nargs="?", default="runs", metavar="FOLDER", help="default: runs"
    )
    command.add_argument("--json", action="store_true", help="print one line of JSON per run")
    command.add_argument(
        "--output", metavar="DIR", help="folder for the plots, RECIPE.png (default: FOLDER)"
    )
    command.set_defaults(action=act)


def act(arguments: argparse.Namespace) -> int:
    """Compare runs."""
    from kerasrnn.recipes.base.runs import RunError
    from kerasrnn.recipes.reporting import comparison

    folder = Path(arguments.folder)
    try:
        by_recipe = comparison.collect(folder)
    except RunError as error:
        return fail(str(error))
    if arguments.json:
        for summary in itertools.chain(*by_recipe.values()):
            print(json.dumps(dataclasses.asdict(summary), ensure_ascii=False))
        return 0
    from rich.console import Console

    # Do not wrap the table when the output is not a terminal.
    console = Console(width=None if sys.stdout.isatty() else 1000)
    for recipe, summaries in by_recipe.items():
        console.print(comparison.table(summaries))
        picture = Path(arguments.output or folder) / f"{recipe}.png"
        try:
            if comparison.draw(summaries, picture):
                print(f"plot: {picture}\n")
        except (OccupiedError, WriteError) as error:
            return fail(f"{error} Choose another --output.")
    return 0
