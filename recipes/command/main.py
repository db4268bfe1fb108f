"""The command line interface: list, train, tune, runs, evaluate, predict, export.

Help and usage errors are printed before TensorFlow is imported.
"""

import argparse
import contextlib
import dataclasses
import itertools
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from kerasrnn import recipes
from kerasrnn.files import disk_error_of
from kerasrnn.programs import cache_programs
from kerasrnn.recipes.base.config import ConfigError
from kerasrnn.recipes.base.errors import DatasetWarning
from kerasrnn.recipes.base.recipe import Recipe
from kerasrnn.recipes.command import evaluate, export, predict, runs, train, tune
from kerasrnn.recipes.command import list as list_
from kerasrnn.recipes.command.arguments import PATHS, dashed, fail
from kerasrnn.recipes.command.parser import Parser
from kerasrnn.recipes.command.quiet import quietly_import_tensorflow

OF_ALL = (list_, runs)
OF_A_RECIPE = (train, tune, evaluate, predict, export)

WIDTHS = ("units", "embedding", "depth")
"""Options that determine the size of a model."""

DESCRIPTION = """\
Recurrent networks for Keras 3: train, evaluate, use and export models on real data.

  kerasrnn list                                list the recipes
  kerasrnn predict g2p tensorflow              predict with a pretrained model
  kerasrnn train japanese_vowels --cell gru    train a model; results go to runs/
  kerasrnn tune japanese_vowels --minutes 10   tune the options on validation data
  kerasrnn evaluate japanese_vowels            evaluate the newest run on the test data
  kerasrnn predict japanese_vowels --test 3    predict a test example
  kerasrnn export japanese_vowels              export to SavedModel and ONNX, verified
  kerasrnn runs                                compare the runs
"""


def run(arguments: Sequence[str]) -> int:
    """Run a command.

    Returns:
        0 on success, 1 on failure, 2 for usage errors; 128 plus the signal's number if a signal
        stopped the command: 130 after Ctrl-C, 143 after SIGTERM. An interrupted training can be
        resumed.

    Raises:
        BrokenPipeError: the reader of the output has exited; `kerasrnn.__main__` exits with 141.
    """
    arguments = _parsed(arguments)
    if not hasattr(arguments, "recipe"):
        return arguments.action(arguments)
    if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
        return fail("recipes run on TensorFlow: unset KERAS_BACKEND, or set it to tensorflow.")
    if arguments.mirror is not None:
        if not Path(arguments.mirror).is_dir():
            return fail(f"--mirror {arguments.mirror}: expected a folder.")
        os.environ["KERASRNN_MIRROR"] = arguments.mirror
    data = getattr(arguments, "option_data", None)
    if data:
        try:
            Path(data).open("rb").close()
        except OSError as error:  # before the seconds in which TensorFlow is imported
            return fail(f"--data {data} cannot be read: {error.strerror}.")
    try:
        quietly_import_tensorflow()
        _cache_programs()
        with remarks_on_data():
            return arguments.action(recipes.load(arguments.recipe), arguments)
    except KeyboardInterrupt as stop:
        print(f"\nkerasrnn: {stop}" if stop.args else "\ninterrupted", file=sys.stderr)
        return 128 + getattr(stop, "number", signal.SIGINT)
    except BrokenPipeError:
        raise
    except Exception as error:
        if type(error).__module__.startswith("kerasrnn.") or isinstance(error, ConfigError):
            return fail(str(error))
        if isinstance(error, ModuleNotFoundError):
            return fail(
                f"{error}; install the recipes with "
                "`pip install 'kerasrnn[cpu,recipes,pieces,onnx]'`."
            )
        if isinstance(error, OSError) and error.filename is not None:
            return fail(f"{error.strerror}: {error.filename}.")
        if type(error).__name__ == "DataLossError":  # TensorFlow's, which names no file
            place = arguments.data_dir or "~/tensorflow_datasets"
            reason = str(error).splitlines()[0]
            return fail(
                f"a prepared dataset of {arguments.recipe} is damaged ({reason}): delete its "
                f"folder in {place} to prepare it again."
            )
        # TensorFlow reports a full disk as it reports a full memory.
        disk = disk_error_of(error, "a temporary file or the output")
        if disk is not None:
            return fail(str(disk))
        if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
            remedy = _memory_advice(arguments)
            return fail(f"{arguments.command}: out of memory{remedy}.")
        raise


def _cache_programs() -> None:
    """Use the programs that earlier commands have compiled, or compile everything again."""
    try:
        cache_programs()
    except (OSError, RuntimeError, ValueError) as error:
        print(f"kerasrnn: compiled programs are not cached: {error}", file=sys.stderr)


def _memory_advice(arguments: argparse.Namespace) -> str:
    """Suggest options that reduce memory use, as the end of a message."""
    if arguments.command not in ("train", "tune"):
        return ""
    fields = [field.name for field in dataclasses.fields(recipes.load(arguments.recipe).Config)]
    widths = [f"--{dashed(name)}" for name in WIDTHS if name in fields]
    model = f", or a smaller model ({', '.join(widths)})" if widths else ""
    return f"; try a smaller --batch-size, a higher --accumulate{model}"


@contextlib.contextmanager
def remarks_on_data() -> Iterator[None]:
    """Print warnings about the user's data as plain lines."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", DatasetWarning)
        show = warnings.showwarning

        def print_warning(message: Any, category: Any, *place: Any, **more: Any) -> None:
            if issubclass(category, DatasetWarning):
                print(f"kerasrnn: {message}", file=sys.stderr)
            else:
                show(message, category, *place, **more)

        warnings.showwarning = print_warning
        yield


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    parser = _parser(_recipe_named_in(argv))
    if not argv:
        parser.print_help(sys.stderr)
        sys.exit(2)
    arguments, rest = parser.parse_known_args(argv)
    # argparse takes positionals in one piece, but inputs may also follow options.
    unknown = [text for text in rest if text.startswith("-")]
    if rest and (unknown or arguments.command != "predict"):
        # Do not report the values of an unknown option.
        arguments.parser.refuse(unknown or rest, getattr(arguments, "recipe", None))
    if rest:
        arguments.inputs = [*arguments.inputs, *rest]
    _check_paths(arguments)
    return arguments


def _check_paths(arguments: argparse.Namespace) -> None:
    """Reject paths that are empty, like unset shell variables, or not valid text."""
    for option in PATHS:
        path = getattr(arguments, option.removeprefix("--").replace("-", "_"), None)
        if path == "":
            arguments.parser.error(f"{option} '': expected a path.")
        # TensorFlow accepts only such file names.
        if path is not None and os.fsencode(path).decode("utf-8", "replace") != path:
            arguments.parser.error(f"{option} {path!r}: expected a path in UTF-8.")
    if getattr(arguments, "folder", None) == "":
        arguments.parser.error("FOLDER '': expected a path.")


def _parser(recipe: Recipe | None) -> argparse.ArgumentParser:
    parser = Parser("kerasrnn", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"kerasrnn {_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in OF_ALL:
        command.add(commands)
    for command in OF_A_RECIPE:
        command.add(commands, recipe)
    for name, of_command in commands.choices.items():
        of_command.set_defaults(command=name, parser=of_command)
    return parser


def _recipe_named_in(arguments: Sequence[str]) -> Recipe | None:
    """The recipe whose options `train` needs, wherever its name occurs."""
    for before, argument in itertools.pairwise(["", *arguments]):
        if argument in recipes.NAMES and before not in PATHS:
            return recipes.load(argument)
    return None


def _version() -> str:
    try:
        return version("kerasrnn")
    except PackageNotFoundError:
        return "(not installed)"
