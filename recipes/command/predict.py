"""`kerasrnn predict`."""

import argparse
from pathlib import Path
from typing import Any

from kerasrnn.recipes.command.arguments import (
    add_command,
    add_options,
    add_run,
    add_sources,
    fail,
    given,
    opened,
)
from kerasrnn.recipes.config import from_dict
from kerasrnn.recipes.recipe import Recipe


def add(commands: Any, recipe: Recipe | None) -> None:
    """Add the command."""
    command = add_command(
        commands, "predict", "what a run's model says of your inputs or of test examples", act
    )
    command.add_argument(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help=recipe.asks if recipe else "what the recipe reads: see RECIPE --help",
    )
    command.add_argument(
        "--test", type=int, nargs="+", metavar="N", help="numbers of test examples, from 0"
    )
    command.add_argument(
        "--output",
        metavar="DIR",
        default=".",
        help="where files go, of recipes that make some (default: here)",
    )
    if recipe is not None:
        add_options(command, f"options of {recipe.name}", recipe.Asking)
    add_run(command)
    add_sources(command)


def act(recipe: Recipe, arguments: argparse.Namespace) -> int:
    """Print what a model says."""
    if not arguments.inputs and arguments.test is None:
        return fail(f"nothing to predict: give {recipe.asks}, or test examples with --test.")
    asking = from_dict(recipe.Asking, given(recipe.Asking, arguments))
    names = list(arguments.inputs)
    inputs = [recipe.read(text) for text in names]
    run, config = opened(recipe, arguments)
    if arguments.test is not None:
        run.check_data(config)
        data = recipe.load(config, arguments.data_dir)
        for index in arguments.test:
            if not 0 <= index < data.test_size:
                return fail(f"--test {index}: expected 0 to {data.test_size - 1}.")
            names.append(f"test example {index}")
            inputs.append(recipe.example(data, index))
    folder = Path(arguments.output)
    folder.mkdir(parents=True, exist_ok=True)
    facts = run.read_json("facts.json")
    answers = recipe.answer(run.load_model(), facts, inputs, asking, folder)
    for name, answer in zip(names, answers, strict=True):
        print(f"{name}: {answer}")
    return 0
