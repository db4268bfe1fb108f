"""`kerasrnn predict`."""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kerasrnn.files import check_place, create_folder
from kerasrnn.recipes.base.config import from_dict
from kerasrnn.recipes.base.recipe import Recipe
from kerasrnn.recipes.command.arguments import (
    add_command,
    add_options,
    add_run,
    add_sources,
    converted,
    fail,
    given_options,
    opened,
)
from kerasrnn.recipes.tasks import text

LONGEST = 60  # characters of a file name


def add(commands: Any, recipe: Recipe | None) -> None:
    """Add the command."""
    command = add_command(
        commands, "predict", "run a trained model on your own inputs or on test examples", act
    )
    command.add_argument(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help=recipe.input_help
        if recipe
        else "depends on the recipe: see kerasrnn predict RECIPE --help",
    )
    command.add_argument(
        "--test",
        type=converted(int, "the number of a test example, at least 0", lambda value: value >= 0),
        nargs="+",
        metavar="N",
        help="indices of test examples, starting at 0",
    )
    command.add_argument(
        "--output",
        metavar="DIR",
        help="folder for the files that some recipes make, named after the inputs (default: no "
        "files are written)",
    )
    if recipe is not None:
        add_options(command, f"options of {recipe.name}", recipe.PredictOptions)
    add_run(command)
    add_sources(command)


def act(recipe: Recipe, arguments: argparse.Namespace) -> int:
    """Print a model's predictions."""
    if not arguments.inputs and arguments.test is None:
        return fail(f"nothing to predict: expected INPUT ({recipe.input_help}) or --test N.")
    if arguments.output is not None and not recipe.makes:
        return fail(f"--output {arguments.output}: the recipe {recipe.name} writes no files.")
    predict_options = from_dict(
        recipe.PredictOptions, given_options(recipe.PredictOptions, arguments)
    )
    names = list(arguments.inputs)
    inputs = [recipe.parse_input(name) for name in names]
    expected: list[str | None] = [None for _ in names]
    run, config = opened(recipe, arguments)
    folder = None if arguments.output is None else Path(arguments.output)
    if folder is not None:
        check_place(folder / "file")  # fail early if the folder is not writable
    if arguments.test is not None:
        run.check_data(config)
        data = recipe.load(config, arguments.data_dir)
        for index in arguments.test:
            if not 0 <= index < data.test_size:
                return fail(f"--test {index}: expected 0 to {data.test_size - 1}.")
            names.append(f"test example {index}")
            inputs.append(recipe.example(data, index))
            expected.append(recipe.expected(data, index, predict_options))
    metadata = run.read_json("metadata.json")
    model = run.load_model()
    layer = recipe.numbering(model)
    if layer is not None:
        unknown = text.unknown_symbols(layer, inputs)
        if unknown:
            print(f"kerasrnn: {text.remark_on_unknown(unknown)}", file=sys.stderr)
    places = None
    if folder is not None:
        create_folder(folder)
        places = places_of(names, folder, recipe.makes)
    answers = recipe.predict(model, metadata, inputs, predict_options, places)
    for name, answer, true in zip(names, answers, expected, strict=True):
        if true is not None:  # some answers have further lines
            first, *rest = answer.split("\n")
            answer = "\n".join([f"{first} (expected {true})", *rest])
        # The bytes of a file name need not be valid text.
        print(f"{os.fsencode(name).decode('utf-8', 'replace')}: {answer}")
    return 0


def places_of(names: Sequence[str], folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Return the path of each input's files, without suffix. None of the files exists yet.

    A file is named after its input, and numbered if the name is taken.
    """
    places: list[Path] = []
    # Some file systems do not distinguish upper and lower case.
    taken: set[str] = set()
    for name in names:
        stem = re.sub(r"[^\w-]+", "_", name).strip("_")[:LONGEST] or "input"
        number, numbered = 1, stem
        while numbered.lower() in taken or any(
            (folder / f"{numbered}{suffix}").exists() for suffix in suffixes
        ):
            number += 1
            numbered = f"{stem}-{number}"
        taken.add(numbered.lower())
        places.append(folder / numbered)
    return places
