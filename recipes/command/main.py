"""The command line: list, train, tune, runs, evaluate, predict, export.

Help and refusals come before TensorFlow is loaded.
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
from kerasrnn.files import of_the_disk
from kerasrnn.recipes.command import evaluate, export, predict, runs, train, tune
from kerasrnn.recipes.command import list as list_
from kerasrnn.recipes.command.arguments import PATHS, dashed, fail
from kerasrnn.recipes.command.parser import Parser
from kerasrnn.recipes.command.quiet import quietly_import_tensorflow
from kerasrnn.recipes.config import ConfigError
from kerasrnn.recipes.errors import DatasetWarning
from kerasrnn.recipes.recipe import Recipe

OF_ALL = (list_, runs)
OF_A_RECIPE = (train, tune, evaluate, predict, export)

WIDTHS = ("units", "embedding", "depth")
"""Options that say how large a model is."""

DESCRIPTION = """\
Recurrent networks in Keras 3: train a recipe on real data, judge it, use it, ship it.

  kerasrnn list                                what there is
  kerasrnn predict g2p tensorflow              the answers of a trained model, at once
  kerasrnn train japanese_vowels --cell gru    train; the results go to runs/
  kerasrnn tune japanese_vowels --minutes 10   look for better options by validation
  kerasrnn evaluate japanese_vowels            judge the newest run again
  kerasrnn predict japanese_vowels --test 3    its answer to a test example
  kerasrnn export japanese_vowels              SavedModel and ONNX, checked
  kerasrnn runs                                compare what was trained
"""


def run(arguments: Sequence[str]) -> int:
    """Run a command.

    Returns:
        0 if it did its work, 1 if it could not, 2 if it was not understood; 128 and the signal's
        number if one has stopped it: 130 after Ctrl-C, 143 after SIGTERM. A training that was
        stopped can be resumed.

    Raises:
        BrokenPipeError: nobody reads what it prints any more; `kerasrnn.__main__` ends with 141.
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
    try:
        quietly_import_tensorflow()
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
                "`pip install kerasrnn[cpu,recipes,pieces,onnx]`."
            )
        if isinstance(error, OSError) and error.filename is not None:
            return fail(f"{error.strerror}: {error.filename}.")
        if type(error).__name__ == "DataLossError":  # TensorFlow's, which names no file
            place = arguments.data_dir or "~/tensorflow_datasets"
            reason = str(error).splitlines()[0]
            return fail(
                f"a prepared dataset of {arguments.recipe} is damaged ({reason}): delete its "
                f"folder in {place}, and it is prepared anew."
            )
        if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
            remedy = _takes_less(arguments)
            return fail(f"{arguments.command}: the memory of the machine is too small{remedy}.")
        disk = of_the_disk(error, "a temporary file or the output")
        if disk is not None:
            return fail(str(disk))
        raise


def _takes_less(arguments: argparse.Namespace) -> str:
    """What takes less memory, as the end of a message: of the batches and of the model."""
    if arguments.command not in ("train", "tune"):
        return ""
    fields = [field.name for field in dataclasses.fields(recipes.load(arguments.recipe).Config)]
    widths = [f"--{dashed(name)}" for name in WIDTHS if name in fields]
    model = f", or a smaller model ({', '.join(widths)})" if widths else ""
    return f"; less is taken by a smaller --batch-size, a higher --accumulate{model}"


@contextlib.contextmanager
def remarks_on_data() -> Iterator[None]:
    """What warnings say of a user's data, as lines of their own."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", DatasetWarning)
        show = warnings.showwarning

        def told(message: Any, category: Any, *place: Any, **more: Any) -> None:
            if issubclass(category, DatasetWarning):
                print(f"kerasrnn: {message}", file=sys.stderr)
            else:
                show(message, category, *place, **more)

        warnings.showwarning = told
        yield


def _parsed(given: Sequence[str]) -> argparse.Namespace:
    parser = _parser(_recipe_named_in(given))
    if not given:
        parser.print_help(sys.stderr)
        sys.exit(2)
    arguments, rest = parser.parse_known_args(given)
    # argparse takes positionals in one piece; inputs may stand behind options all the same.
    unknown = [text for text in rest if text.startswith("-")]
    if rest and (unknown or arguments.command != "predict"):
        # The values of an unknown option are not what is wrong.
        arguments.parser.refuse(unknown or rest, getattr(arguments, "recipe", None))
    if rest:
        arguments.inputs = [*arguments.inputs, *rest]
    _check_paths(arguments)
    return arguments


def _check_paths(arguments: argparse.Namespace) -> None:
    """Refuse paths that are empty, as unset variables of a shell are, or that are no text."""
    for option in PATHS:
        path = getattr(arguments, option.removeprefix("--").replace("-", "_"), None)
        if path == "":
            arguments.parser.error(f"{option} '': expected a path.")
        # TensorFlow takes no other names of files.
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
    """The recipe whose options `train` must know, wherever its name stands."""
    for before, argument in itertools.pairwise(["", *arguments]):
        if argument in recipes.NAMES and before not in PATHS:
            return recipes.load(argument)
    return None


def _version() -> str:
    try:
        return version("kerasrnn")
    except PackageNotFoundError:
        return "(not installed)"
