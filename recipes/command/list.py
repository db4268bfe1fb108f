"""`kerasrnn list`."""

import argparse
from typing import Any

from kerasrnn import recipes


def add(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "list",
        help="list the recipes and their results",
        description="List the recipes and their results.",
    )
    command.set_defaults(action=act)


def act(arguments: argparse.Namespace) -> int:
    """Print the recipes."""
    for name in recipes.NAMES:
        recipe = recipes.load(name)
        print(f"{name}\n    {recipe.card.title}\n    {recipe.card.topology}; {recipe.card.result}")
        if recipe.published_variant:
            print("    pretrained model included: kerasrnn predict", name)
    return 0
