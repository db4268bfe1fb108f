"""`kerasrnn list`."""

import argparse
from typing import Any

from kerasrnn import catalogue, recipes


def add(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "list",
        help="list the recipes and their results, or the cells",
        description="List the recipes and their results, or the cells.",
    )
    command.add_argument(
        "--cells", action="store_true", help="list the cells, by the names that --cell takes"
    )
    command.set_defaults(action=act)


def act(arguments: argparse.Namespace) -> int:
    """Print the recipes, or the cells by family."""
    if arguments.cells:
        width = max(len(entry.module) for entry in catalogue.CELLS)
        for family in catalogue.FAMILIES:
            print(f"{family.name}: {family.summary}")
            for entry in family.cells:
                print(f"    {entry.module:{width}}  {entry.summary}")
        return 0
    for name in recipes.NAMES:
        recipe = recipes.load(name)
        print(f"{name}\n    {recipe.card.title}\n    {recipe.card.topology}; {recipe.card.result}")
        if recipe.published_variant:
            print("    pretrained model included: kerasrnn predict", name)
    return 0
