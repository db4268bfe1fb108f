"""The command line: list, train, tune, runs, evaluate, predict, export.

Help and refusals come before TensorFlow is loaded.
"""

import argparse
import dataclasses
import itertools
import json
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from kerasrnn import recipes
from kerasrnn.recipes import exporting
from kerasrnn.recipes.config import Config, ConfigError, Options, check, expectation, from_dict
from kerasrnn.recipes.execution import Execution
from kerasrnn.recipes.progress import MODES, size
from kerasrnn.recipes.recipe import Recipe
from kerasrnn.recipes.searching import Searching
from kerasrnn.recipes.space import described

DESCRIPTION = """\
Recurrent networks in Keras 3: train a recipe on real data, judge it, use it, ship it.

  kerasrnn list                                what there is
  kerasrnn predict g2p tensorflow              what a trained model says, at once
  kerasrnn train japanese_vowels --cell gru    train; the results stand in runs/
  kerasrnn tune japanese_vowels --minutes 10   look for better options by validation
  kerasrnn evaluate japanese_vowels            judge the newest run again
  kerasrnn predict japanese_vowels --test 3    what it says of a test example
  kerasrnn export japanese_vowels              SavedModel and ONNX, checked
  kerasrnn runs                                compare what was trained
"""


def run(arguments: Sequence[str]) -> int:
    """Run a command.

    Returns:
        0 if it did its work, 1 if it could not, 2 if it was not understood; 128 and the signal's
        number if one has stopped it: 130 after Ctrl-C, 143 after SIGTERM. A training that was
        stopped can be resumed.
    """
    arguments = _parsed(arguments)
    if arguments.command == "list":
        return _list(arguments)
    if arguments.command == "runs":
        return _runs(arguments)
    if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
        return _fail("recipes run on TensorFlow: unset KERAS_BACKEND, or set it to tensorflow.")
    if arguments.mirror is not None:
        if not Path(arguments.mirror).is_dir():
            return _fail(f"--mirror {arguments.mirror}: expected a folder.")
        os.environ["KERASRNN_MIRROR"] = arguments.mirror
    try:
        quietly_import_tensorflow()
        return arguments.action(recipes.load(arguments.recipe), arguments)
    except KeyboardInterrupt as stop:
        print(f"\nkerasrnn: {stop}" if stop.args else "\ninterrupted", file=sys.stderr)
        return 128 + getattr(stop, "number", signal.SIGINT)
    except Exception as error:
        if type(error).__module__.startswith("kerasrnn.") or isinstance(error, ConfigError):
            return _fail(str(error))
        if isinstance(error, ModuleNotFoundError):
            return _fail(
                f"{error}; install the recipes with "
                "`pip install kerasrnn[cpu,recipes,pieces,onnx]`."
            )
        if isinstance(error, OSError) and error.filename is not None:
            return _fail(f"{error.strerror}: {error.filename}.")
        raise


def _parsed(given: Sequence[str]) -> argparse.Namespace:
    parser = _parser(_recipe_named_in(given))
    arguments, rest = parser.parse_known_args(given)
    # argparse takes positionals in one piece; inputs may stand behind options all the same.
    if rest and not (
        arguments.command == "predict" and not any(text.startswith("-") for text in rest)
    ):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        arguments.inputs = [*arguments.inputs, *rest]
    return arguments


def quietly_import_tensorflow() -> None:
    """Import TensorFlow without its remarks on oneDNN, processor flags and absent CUDA drivers.

    The first of them are written before any setting of TensorFlow's is read, so that they can only
    be held back at the file descriptor. They are shown if the import fails.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("absl").setLevel(logging.ERROR)  # TFDS, of datasets not yet prepared
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as remarks:
        os.dup2(remarks.fileno(), 2)
        try:
            import tensorflow  # noqa: F401
        except BaseException:
            remarks.seek(0)
            os.write(kept, remarks.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _list(arguments: argparse.Namespace) -> int:
    for name in recipes.NAMES:
        recipe = recipes.load(name)
        print(f"{name}\n    {recipe.title}\n    {recipe.topology}; {recipe.result}")
        if recipe.kept:
            print("    a trained model comes with the library: kerasrnn predict", name)
    return 0


def _runs(arguments: argparse.Namespace) -> int:
    from kerasrnn.recipes import comparison
    from kerasrnn.recipes.runs import RunError

    folder = Path(arguments.folder)
    try:
        by_recipe = comparison.found(folder)
    except RunError as error:
        return _fail(str(error))
    if arguments.json:
        for summary in itertools.chain(*by_recipe.values()):
            print(json.dumps(dataclasses.asdict(summary), ensure_ascii=False))
        return 0
    from rich.console import Console

    # As wide as it must be where nobody looks.
    console = Console(width=None if sys.stdout.isatty() else 1000)
    for recipe, summaries in by_recipe.items():
        console.print(comparison.table(summaries))
        picture = Path(arguments.output or folder) / f"{recipe}.png"
        try:
            if comparison.draw(summaries, picture):
                print(f"picture: {picture}\n")
        except OSError as error:
            return _fail(f"{picture} cannot be written: {error}; choose another --output.")
    return 0


def _train(recipe: Recipe, arguments: argparse.Namespace) -> int:
    from kerasrnn.recipes.execution import Placement
    from kerasrnn.recipes.progress import Progress
    from kerasrnn.recipes.runs import Run
    from kerasrnn.recipes.training import Batches, train

    given, asked = _given(recipe.Config, arguments), _given(Execution, arguments)
    run: Run | None = None
    if arguments.config and arguments.resume:
        return _fail("--config: a run is resumed as it was started; expected no --resume.")
    if arguments.config:
        given = {**_read_config(recipe, Path(arguments.config)), **given}
    if arguments.resume:
        if arguments.output is None:
            return _fail("--resume: name the run's folder with --output.")
        run, config = Run.open(recipe, arguments.output)
        run.check_data(config)
        execution = dataclasses.replace(run.execution(), **asked)
        begun = {**dataclasses.asdict(config), **dataclasses.asdict(run.execution())}
        for name, value in {**given, **asked}.items():
            if begun[name] != value and name not in execution.RESUMABLE:
                return _fail(
                    f"--{_dashed(name)} {value}: the run in {run.folder} has "
                    f"{begun[name]}, and a run is resumed as it was started."
                )
    else:
        config, execution = from_dict(recipe.Config, given), from_dict(Execution, asked)
    # First of all: TensorFlow must know the workers before it computes anything.
    placement = Placement(execution)
    placement.check(config.batch_size)
    progress = Progress(arguments.progress if placement.is_chief else "none")
    progress.say(
        "begin",
        f"{recipe.title}\n{_described(config)}",
        recipe=recipe.name,
        config=dataclasses.asdict(config),
        execution=dataclasses.asdict(execution),
    )
    data = recipe.load(config, arguments.data_dir)
    size = Batches(recipe, config, data).size
    # Made last, so that nothing is left behind by what was refused above.
    if run is None and placement.is_chief:
        run = Run.create(recipe, config, arguments.output, execution)
    elif run is None:
        run = Run(arguments.output or "")
    progress.say(
        "data",
        f"{size} examples to train on, {data.test_size} to be judged on\nrun folder: {run.folder}",
        training=size,
        test=data.test_size,
        folder=str(run.folder),
    )
    metrics = train(recipe, config, run, data, placement, progress)
    pictures = [str(path) for path in sorted(run.folder.glob("*.png"))] if metrics else []
    text = [*_lines_of(metrics), *(f"picture: {path}" for path in pictures)]
    text.append(f"model:   {run.path('model.keras')}")
    progress.say(
        "end",
        "\n".join(text),
        metrics=metrics,
        pictures=pictures,
        model=str(run.path("model.keras")),
    )
    return 0


def _read_config(recipe: Recipe, path: Path) -> dict[str, Any]:
    """The options in a file: a search's best.json, or a run's config.json.

    Raises:
        ConfigError: it is none of them, or another recipe's.
    """
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"--config {path}: expected JSON; {error}.") from None
    if not isinstance(saved, dict) or not isinstance(saved.get("config"), dict):
        raise ConfigError(
            f"--config {path}: expected a search's best.json or a run's config.json, with a recipe "
            "and its config."
        )
    if saved.get("recipe") != recipe.name:
        raise ConfigError(
            f"--config {path}: it is of the recipe {saved.get('recipe')}; expected {recipe.name}."
        )
    try:
        from_dict(recipe.Config, saved["config"])
    except ConfigError as error:
        raise ConfigError(f"--config {path}: {error}") from None
    return saved["config"]


def _tune(recipe: Recipe, arguments: argparse.Namespace) -> int:
    from kerasrnn.recipes import tuning
    from kerasrnn.recipes.progress import Progress

    progress = Progress(arguments.progress)
    outcomes, search = tuning.tune(
        recipe,
        arguments.output,
        _given(recipe.Config, arguments),
        _given(Searching, arguments),
        _given(Execution, arguments),
        arguments.resume,
        arguments.data_dir,
        progress,
    )
    if search is None:  # a worker: the chief says what was found
        return 0
    best, picture = search.folder / "best.json", search.folder / "hyperparameters.png"
    progress.say(
        "end",
        f"\n{tuning.table(outcomes, list(search.space), search.asked.objective)}\n\n"
        f"picture: {picture}\n"
        f"best:    kerasrnn train {recipe.name} --config {best}",
        trials=[dataclasses.asdict(outcome) for outcome in outcomes],
        picture=str(picture),
        best=str(best),
    )
    return 0


def _evaluate(recipe: Recipe, arguments: argparse.Namespace) -> int:
    run, config = _opened(recipe, arguments)
    run.check_data(config)
    model, data = run.load_model(), recipe.load(config, arguments.data_dir)
    print(f"run folder: {run.folder}")
    folder = run.folder
    if run.is_kept:
        folder = Path("evaluation") / recipe.name
        folder.mkdir(parents=True, exist_ok=True)
    metrics = recipe.judge(model, data, config, folder)
    print("\n".join(_lines_of(metrics | recipe.baselines(data, config))))
    for picture in sorted(folder.glob("*.png")):
        print(f"picture: {picture}")
    return 0


def _predict(recipe: Recipe, arguments: argparse.Namespace) -> int:
    if not arguments.inputs and arguments.test is None:
        return _fail(f"nothing to predict: give {recipe.asks}, or test examples with --test.")
    asking = from_dict(recipe.Asking, _given(recipe.Asking, arguments))
    names = list(arguments.inputs)
    inputs = [recipe.read(text) for text in names]
    run, config = _opened(recipe, arguments)
    if arguments.test is not None:
        run.check_data(config)
        data = recipe.load(config, arguments.data_dir)
        for index in arguments.test:
            if not 0 <= index < data.test_size:
                return _fail(f"--test {index}: expected 0 to {data.test_size - 1}.")
            names.append(f"test example {index}")
            inputs.append(recipe.example(data, index))
    folder = Path(arguments.output)
    folder.mkdir(parents=True, exist_ok=True)
    facts = run.read_json("facts.json")
    answers = recipe.answer(run.load_model(), facts, inputs, asking, folder)
    for name, answer in zip(names, answers, strict=True):
        print(f"{name}: {answer}")
    return 0


def _export(recipe: Recipe, arguments: argparse.Namespace) -> int:
    run, config = _opened(recipe, arguments)
    run.check_data(config)
    exporting.check_packages(arguments.formats)
    model, data = run.load_model(), recipe.load(config, arguments.data_dir)
    folder = run.path("export")
    if arguments.output:
        folder = Path(arguments.output)
    elif run.is_kept:
        folder = Path("export") / recipe.name
    for line in exporting.export(
        recipe, model, data, config, folder, arguments.formats, arguments.step, arguments.tolerance
    ):
        print(line, flush=True)
    return 0


def _parser(recipe: Recipe | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "kerasrnn",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"kerasrnn {_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    commands.add_parser("list", help="the recipes there are, with the results they reached")
    command = commands.add_parser(
        "runs",
        help="compare runs: their options, metrics and curves",
        description="Compare the runs in a folder and below it: what differs in their options, "
        "their metrics, and a picture of their curves.",
        allow_abbrev=False,
    )
    command.add_argument(
        "folder", nargs="?", default="runs", metavar="FOLDER", help="default: runs"
    )
    command.add_argument("--json", action="store_true", help="a line of JSON for each run")
    command.add_argument(
        "--output", metavar="DIR", help="where the pictures go, RECIPE.png (default: FOLDER)"
    )
    for name, action, text in (
        ("train", _train, "train a recipe's model and judge it on the test data"),
        ("tune", _tune, "search for good options of a recipe, by validation"),
        ("evaluate", _evaluate, "judge a run's model on the test data again"),
        ("predict", _predict, "what a run's model says of your inputs or of test examples"),
        ("export", _export, "write a run's model as SavedModel, ONNX or LiteRT, and check it"),
    ):
        command = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog={"train": _epilog, "tune": _space}.get(name, lambda recipe: None)(recipe),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.set_defaults(action=action)
        command.add_argument(
            "recipe",
            choices=recipes.NAMES,
            metavar="RECIPE",
            help=f"one of: {', '.join(recipes.NAMES)}",
        )
        if name == "predict":
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
                _add_options(command, f"options of {recipe.name}", recipe.Asking)
        if name in ("train", "tune"):
            kind, where = ("run", "runs") if name == "train" else ("search", "runs/tune")
            command.add_argument(
                "--output",
                metavar="DIR",
                help=f"the {kind}'s folder (default: {where}/RECIPE/TIME)",
            )
            command.add_argument(
                "--resume", action="store_true", help=f"go on with the {kind} in --output"
            )
            command.add_argument(
                "--progress",
                choices=MODES,
                default="auto",
                help="a bar, a line an epoch, a line of JSON for each event, or nothing (default: "
                "a bar in a terminal, lines elsewhere)"
                if name == "train"
                else "a bar and a line a trial, lines alone, a line of JSON for each event, or "
                "nothing (default: a bar in a terminal, lines elsewhere)",
            )
            if name == "train":
                command.add_argument(
                    "--config",
                    metavar="FILE",
                    help="options from a search's best.json or a run's config.json; those on the "
                    "command line come before them",
                )
            else:
                _add_options(command, "how the search is carried out", Searching)
            _add_options(command, "how training is carried out", Execution)
            if recipe is not None:
                said = f"options of {recipe.name}"
                _add_options(
                    command,
                    said if name == "train" else f"{said}; what is given is not searched",
                    recipe.Config,
                )
        else:
            of = command.add_mutually_exclusive_group()
            of.add_argument(
                "--run",
                metavar="DIR",
                help="the run's folder (default: the newest finished run below runs/; if there is "
                "none, the trained model that comes with the library)",
            )
            of.add_argument(
                "--zoo",
                action="store_true",
                help="the trained model that comes with the library, whatever runs there are",
            )
        if name == "export":
            command.add_argument(
                "--formats",
                nargs="+",
                choices=exporting.PACKAGES,
                default=["saved_model", "onnx"],
                metavar="FORMAT",
                help=f"some of: {', '.join(exporting.PACKAGES)} (default: saved_model onnx); "
                "onnx_int8 has weights in eight bits, and is judged beside the file of floats",
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
                type=float,
                default=1e-5,
                help="largest difference that is accepted (default: %(default)s)",
            )
        command.add_argument(
            "--data-dir",
            metavar="DIR",
            help="where TFDS keeps datasets (default: TFDS's own, ~/tensorflow_datasets)",
        )
        command.add_argument(
            "--mirror",
            metavar="DIR",
            help="a folder with source archives at hand, looked into before anything is fetched",
        )
    return parser


def _add_options(command: argparse.ArgumentParser, title: str, options: type[Options]) -> None:
    group = command.add_argument_group(title)
    for field in dataclasses.fields(options):
        name = f"--{_dashed(field.name)}"
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
    """A converter for argparse that refuses what the field cannot be, saying what it can."""
    kind = type(field.default)

    def convert(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r}: expected {expectation(field)}") from None
        try:
            check(field, value)
        except ConfigError:
            raise argparse.ArgumentTypeError(f"{text!r}: expected {expectation(field)}") from None
        return value

    return convert


def _given(options: type[Options], arguments: argparse.Namespace) -> dict[str, Any]:
    values = {
        field.name: getattr(arguments, f"option_{field.name}")
        for field in dataclasses.fields(options)
    }
    return {name: value for name, value in values.items() if value is not None}


def _recipe_named_in(arguments: Sequence[str]) -> Recipe | None:
    """The recipe whose options `train` must know, wherever its name stands."""
    for argument in arguments:
        if argument in recipes.NAMES:
            return recipes.load(argument)
    return None


def _opened(recipe: Recipe, arguments: argparse.Namespace) -> tuple[Any, Config]:
    from kerasrnn.recipes.runs import Run

    if arguments.run is not None:
        return Run.open(recipe, arguments.run)
    newest = None if arguments.zoo else Run.latest(recipe)
    if newest is None:
        from kerasrnn import zoo

        if recipe.name not in zoo.trained():
            raise ConfigError(
                f"{recipe.name} has no finished run below runs/, and no trained model comes with "
                f"the library: train one with `kerasrnn train {recipe.name}`, or name its folder "
                "with --run."
            )
        newest = Run(zoo.folder(recipe.name))
    print(f"model: {newest.folder}", file=sys.stderr)
    return Run.open(recipe, newest.folder)


def _described(config: Config) -> str:
    return ", ".join(f"{name}={value}" for name, value in dataclasses.asdict(config).items())


def _lines_of(metrics: dict[str, Any]) -> list[str]:
    from kerasrnn.recipes.cards import figure

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


def _epilog(recipe: Recipe | None) -> str:
    if recipe is None:
        return "A recipe's own options: kerasrnn train RECIPE --help"
    return sys.modules[type(recipe).__module__].__doc__ or ""


def _space(recipe: Recipe | None) -> str:
    if recipe is None:
        return "What is searched: kerasrnn tune RECIPE --help"
    return f"what is searched, unless an option fixes it:\n{described(recipe.searched)}"


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _version() -> str:
    try:
        return version("kerasrnn")
    except PackageNotFoundError:
        return "(not installed)"


def _fail(message: str) -> int:
    print(f"kerasrnn: {message}", file=sys.stderr)
    return 1
