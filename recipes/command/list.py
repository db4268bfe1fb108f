"""`kerasrnn list`."""

import argparse
from typing import Any

from kerasrnn import recipes


def add(commands: Any) -> None:
    """Add the command."""
    command = commands.add_parser(
        "list",
        help="the recipes there are, with the results they reached",
        description="The recipes there are, with the results they reached.",
    )
    command.set_defaults(action=act)


def act(arguments: argparse.Namespace) -> int:
    """Print the recipes."""
    for name in recipes.NAMES:
        recipe = recipes.load(name)
        print(f"{name}\n    {recipe.title}\n    {recipe.topology}; {recipe.result}")
        if recipe.kept:
            print("    a trained model comes with the library: kerasrnn predict", name)
    return 0
