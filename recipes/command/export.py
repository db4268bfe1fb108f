"""`kerasrnn export`."""

import argparse
import math
from pathlib import Path
from typing import Any

from kerasrnn.files import check_place
from kerasrnn.recipes import exporting
from kerasrnn.recipes.command.arguments import (
    add_command,
    add_run,
    add_sources,
    converted,
    opened,
)
from kerasrnn.recipes.recipe import Recipe


def add(commands: Any, recipe: Recipe | None) -> None:
    """Add the command."""
    command = add_command(
        commands, "export", "write a run's model as SavedModel, ONNX or LiteRT, and check it", act
    )
    add_run(command)
    command.add_argument(
        "--formats",
        nargs="+",
        choices=exporting.PACKAGES,
        default=["saved_model", "onnx"],
        metavar="FORMAT",
        help=f"some of: {', '.join(exporting.PACKAGES)} (default: saved_model onnx); onnx_int8 has "
        "weights in eight bits, and is judged beside the file of floats",
    )
    command.add_argument(
        "--step",
        action="store_true",
        help="also the model's step, for streams: of models that read forwards",
    )
    command.add_argument(
        "--output", metavar="DIR", help="where the files go (default: the run's export/)"
    )
    command.add_argument(
        "--tolerance",
        type=converted(float, "a finite number, at least 0", lambda value: 0 <= value < math.inf),
        help="largest difference that is accepted (default: 1e-5, more for half precision)",
    )
    add_sources(command)


def act(recipe: Recipe, arguments: argparse.Namespace) -> int:
    """Write the exports, and print how they compare."""
    run, config = opened(recipe, arguments)
    run.check_data(config)
    exporting.check_packages(arguments.formats)
    folder = run.path("export")
    if arguments.output:
        folder = Path(arguments.output)
    elif run.is_kept:
        folder = Path("export") / recipe.name
    check_place(folder / "file")  # whether anything can be written there
    model, data = run.load_model(), recipe.load(config, arguments.data_dir)
    for line in exporting.export(
        recipe, model, data, config, folder, arguments.formats, arguments.step, arguments.tolerance
    ):
        print(line)
    return 0
