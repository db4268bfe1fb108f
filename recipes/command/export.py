"""`kerasrnn export`."""

import argparse
import math
from pathlib import Path
from typing import Any

from kerasrnn.export.formats import FORMATS
from kerasrnn.files import check_place
from kerasrnn.recipes.base.recipe import Recipe
from kerasrnn.recipes.command.arguments import (
    add_command,
    add_run,
    add_sources,
    converted,
    opened,
)
from kerasrnn.recipes.reporting import exporting


def add(commands: Any, recipe: Recipe | None) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "export",
        "export a trained model as SavedModel, ONNX or LiteRT, and verify it",
        act,
    )
    add_run(command)
    command.add_argument(
        "--formats",
        nargs="+",
        choices=FORMATS,
        default=["saved_model", "onnx"],
        metavar="FORMAT",
        help="; ".join(
            [
                f"one or more of: {', '.join(FORMATS)} (default: saved_model onnx)",
                *(f"{name} {format.remark}" for name, format in FORMATS.items() if format.remark),
            ]
        ),
    )
    command.add_argument(
        "--step",
        action="store_true",
        help="also export the single-step model for streaming; only for unidirectional models",
    )
    command.add_argument(
        "--output", metavar="DIR", help="output folder (default: export/ in the run's folder)"
    )
    command.add_argument(
        "--tolerance",
        type=converted(float, "a finite number, at least 0", lambda value: 0 <= value < math.inf),
        help="largest accepted difference from the Keras model (default: 1e-5, more for half "
        "precision)",
    )
    add_sources(command)


def act(recipe: Recipe, arguments: argparse.Namespace) -> int:
    """Export the model and print how the files compare with it."""
    run, config = opened(recipe, arguments)
    run.check_data(config)
    for name in arguments.formats:
        FORMATS[name].require()
    folder = run.path("export")
    if arguments.output:
        folder = Path(arguments.output)
    elif run.is_kept:
        folder = Path("export") / recipe.name
    check_place(folder / "file")  # fail early if the folder is not writable
    model, data = run.load_model(), recipe.load(config, arguments.data_dir)
    for line in exporting.export(
        recipe, model, data, config, folder, arguments.formats, arguments.step, arguments.tolerance
    ):
        print(line)
    return 0
