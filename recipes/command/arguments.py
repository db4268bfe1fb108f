"""Shared parts of the commands: options, selection of the run, formatting of metrics."""

import argparse
import dataclasses
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kerasrnn import recipes
from kerasrnn.files import create_folder
from kerasrnn.recipes.base.config import Config, ConfigError, Options, check, expectation, shown
from kerasrnn.recipes.base.recipe import Recipe
from kerasrnn.recipes.command.parser import closest
from kerasrnn.training.progress import MODES, size

Action = Callable[[Recipe, argparse.Namespace], int]
"""The function that runs a command and returns the exit status."""

PATHS = ("--config", "--data", "--data-dir", "--mirror", "--output", "--run")
"""Options that take a path. A path may have the same name as a recipe."""


def add_command(
    commands: Any, name: str, text: str, action: Action, epilog: str | None = None
) -> argparse.ArgumentParser:
    """Add a command that takes a recipe."""
    command = commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=epilog,
    )
    command.set_defaults(action=action)
    command.add_argument(
        "recipe",
        choices=recipes.NAMES,
        metavar="RECIPE",
        help=f"one of: {', '.join(recipes.NAMES)}",
    )
    return command


def add_sources(command: argparse.ArgumentParser) -> None:
    """Add the options that locate datasets and their sources."""
    command.add_argument(
        "--data-dir",
        metavar="DIR",
        help="the TFDS data directory (default: ~/tensorflow_datasets)",
    )
    command.add_argument(
        "--mirror",
        metavar="DIR",
        help="a folder of downloaded source archives, searched before anything is downloaded",
    )


def add_place(command: argparse.ArgumentParser, kind: str, where: str, lines: str) -> None:
    """Add the options for the output folder, resuming and progress reports."""
    command.add_argument(
        "--output", metavar="DIR", help=f"the {kind}'s folder (default: {where}/RECIPE/TIME)"
    )
    command.add_argument("--resume", action="store_true", help=f"continue the {kind} in --output")
    command.add_argument(
        "--progress",
        choices=MODES,
        default="auto",
        help=f"{lines}, one line of JSON per event, or nothing (default: a bar in a terminal, "
        "lines elsewhere)",
    )


def add_run(command: argparse.ArgumentParser) -> None:
    """Add the options that select the model."""
    of = command.add_mutually_exclusive_group()
    of.add_argument(
        "--run",
        metavar="DIR",
        help="the run's folder (default: the recipe's newest finished run under runs/; if there is "
        "none, the pretrained model included in the library)",
    )
    of.add_argument(
        "--zoo",
        action="store_true",
        help="use the pretrained model included in the library, even if there are runs",
    )


def add_options(command: argparse.ArgumentParser, title: str, options: type[Options]) -> None:
    group = command.add_argument_group(title)
    for field in dataclasses.fields(options):
        name = f"--{dashed(field.name)}"
        text = f"{field.metadata['help']}; {expectation(field)} (default: {field.default})"
        keywords: dict[str, Any] = {"dest": f"option_{field.name}", "default": None}
        if isinstance(field.default, bool):
            text = f"{field.metadata['help']} (default: {'yes' if field.default else 'no'})"
            group.add_argument(name, action=argparse.BooleanOptionalAction, help=text, **keywords)
        else:
            metavar = field.name.upper() if field.metadata["choices"] is None else None
            group.add_argument(
                name, type=_checked(field), metavar=metavar or "NAME", help=text, **keywords
            )


def _checked(field: dataclasses.Field) -> Any:
    """Return an argparse converter that rejects values the field does not accept."""
    kind = type(field.default)

    def convert(text: str) -> Any:
        try:
            value = kind(text)
            check(field, value)
        except ValueError:  # a ConfigError is one
            choices = field.metadata["choices"]
            hint = "." if choices is None else closest(text, map(str, choices))
            raise argparse.ArgumentTypeError(
                f"{shown(text)}: expected {expectation(field)}{hint}"
            ) from None
        return value

    return convert


def converted(kind: type, expected: str, allowed: Callable[[Any], bool]) -> Any:
    """Return an argparse converter for values that are not part of an `Options` class."""

    def convert(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not allowed(value):
            raise argparse.ArgumentTypeError(f"{shown(text)}: expected {expected}.")
        return value

    return convert


def given_options(options: type[Options], arguments: argparse.Namespace) -> dict[str, Any]:
    values = {
        field.name: getattr(arguments, f"option_{field.name}")
        for field in dataclasses.fields(options)
    }
    return {name: value for name, value in values.items() if value is not None}


def opened(recipe: Recipe, arguments: argparse.Namespace) -> tuple[Any, Config]:
    """Return the selected run and its configuration, and print its folder to standard error."""
    from kerasrnn.recipes.base.runs import RUNS, Run

    run, origin = None, ""
    if arguments.run is not None:
        run = Run(arguments.run)
    elif not arguments.zoo:
        run, origin = Run.latest(recipe), f" (the newest finished run under {RUNS}/)"
    if run is None:
        from kerasrnn import zoo

        if recipe.name not in zoo.trained():
            raise ConfigError(
                f"{recipe.name} has no finished run under {RUNS}/, and the library includes no "
                f"pretrained model for it: train one with `kerasrnn train {recipe.name}`, or pass "
                "its folder with --run."
            )
        run, origin = Run(zoo.folder(recipe.name)), " (included in the library)"
    result = Run.open(recipe, run.folder)
    print(f"model: {run.folder}{origin}", file=sys.stderr)
    return result


def empty_folder(option: str, folder: Path) -> None:
    """Create the output folder.

    Raises:
        ConfigError: the folder is not empty.
    """
    create_folder(folder)
    if any(folder.iterdir()):
        raise ConfigError(f"{option} {folder}: expected a new or an empty folder.")


def lines_of(metrics: dict[str, Any]) -> list[str]:
    from kerasrnn.recipes.reporting.cards import figure

    lines = []
    for name, value in metrics.items():
        if name == "resumed_at_epoch" and value == 0:
            continue
        if name == "seconds":
            text = f"{value:.1f}"
        elif name.startswith("peak_memory"):
            text = size(value)
        else:
            text = figure(value) if isinstance(value, float) else str(value)
        lines.append(f"{name.replace('_', ' ')}: {text}")
    return lines


def below_baselines(recipe: Recipe, metrics: dict[str, Any]) -> list[str]:
    """Return a warning for each baseline that beats the model on the recipe's first metric."""
    from kerasrnn.recipes.reporting.cards import figure

    metric = recipe.card.metrics[0]
    if metric not in metrics:
        return []
    reached, warnings = metrics[metric], []
    for name, value in metrics.items():
        if not (name.startswith("baseline_") and name.endswith(f"_{metric}")):
            continue
        worse = reached > value if recipe.card.lower_is_better else reached < value
        if worse or math.isnan(reached):
            baseline = name.removeprefix("baseline_").removesuffix(f"_{metric}").replace("_", " ")
            warnings.append(
                f"warning: {metric.replace('_', ' ')} {figure(reached)} is worse than that of the "
                f"baseline {baseline}, {figure(value)}."
            )
    return warnings


def dashed(name: str) -> str:
    return name.replace("_", "-")


def fail(message: str) -> int:
    print(f"kerasrnn: {message}", file=sys.stderr)
    return 1
