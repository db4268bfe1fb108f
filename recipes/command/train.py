"""`kerasrnn train`."""

import argparse
import contextlib
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasrnn.recipes.base.config import Config, ConfigError, from_dict, parsed
from kerasrnn.recipes.base.execution import Execution
from kerasrnn.recipes.base.recipe import Recipe
from kerasrnn.recipes.command.arguments import (
    add_command,
    add_options,
    add_place,
    add_sources,
    below_baselines,
    dashed,
    fail,
    given_options,
    lines_of,
)
from kerasrnn.training.progress import size
from kerasrnn.wording import counted

if TYPE_CHECKING:
    from kerasrnn.recipes.base.runs import Run
    from kerasrnn.training.placement import Placement
    from kerasrnn.training.progress import Progress


def add(commands: Any, recipe: Recipe | None) -> None:
    """Add the command to the parser."""
    command = add_command(
        commands,
        "train",
        "train a recipe's model and evaluate it on the test data",
        act,
        _epilog(recipe),
    )
    add_place(command, "run", "runs", "a progress bar, a line per epoch")
    command.add_argument(
        "--config",
        metavar="FILE",
        help="read options from a search's best.json or a run's config.json; options on the "
        "command line take precedence",
    )
    add_options(command, "execution options", Execution)
    if recipe is not None:
        add_options(command, f"options of {recipe.name}", recipe.Config)
    add_sources(command)


def act(recipe: Recipe, arguments: argparse.Namespace) -> int:
    """Train a model, or resume its training, and evaluate it."""
    from kerasrnn.recipes.base.runs import Run, check_new, default_folder
    from kerasrnn.training.progress import Progress

    options, execution_options = (
        given_options(recipe.Config, arguments),
        given_options(Execution, arguments),
    )
    run: Run | None = None
    if arguments.config and arguments.resume:
        return fail(
            "--config: a resumed run keeps its configuration; expected no --config with --resume."
        )
    if arguments.config:
        options = {**_read_config(recipe, Path(arguments.config)), **options}
    if arguments.resume:
        if arguments.output is None:
            return fail("--resume: expected the run's folder in --output.")
        run, config = Run.open(recipe, arguments.output)
        execution = dataclasses.replace(run.execution(), **execution_options)
        started = {**dataclasses.asdict(config), **dataclasses.asdict(run.execution())}
        for name, value in {**options, **execution_options}.items():
            if started[name] != value and name not in execution.RESUMABLE:
                return fail(
                    f"--{dashed(name)} {value}: the run in {run.folder} has "
                    f"{started[name]}; a resumed run keeps its options."
                )
        if run.finished:  # lets a script repeat the command until it succeeds
            _report_end(
                recipe, run, run.read_json("metrics.json"), Progress(arguments.progress), True
            )
            return 0
        run.check_data(config)
    else:
        config, execution = (
            from_dict(recipe.Config, options),
            from_dict(Execution, execution_options),
        )
    # First, because TensorFlow must know the workers before it computes anything.
    placement = execution.placement()
    placement.check(config.batch_size)
    if run is None and placement.is_chief:  # before the data is prepared
        check_new(Path(arguments.output or default_folder(recipe)), "run")
    progress = Progress(arguments.progress if placement.is_chief else "none")
    with run.locked() if run and placement.is_chief else contextlib.nullcontext():
        return _train(recipe, config, execution, run, placement, progress, arguments)


def _train(
    recipe: Recipe,
    config: Config,
    execution: Execution,
    run: "Run | None",
    placement: "Placement",
    progress: "Progress",
    arguments: argparse.Namespace,
) -> int:
    """Load the data, create the folder of a new run, and train."""
    from kerasrnn.recipes.base.runs import Run
    from kerasrnn.recipes.training import batches, train

    progress.report(
        "begin",
        f"{recipe.card.title}\n{_described(config)}",
        recipe=recipe.name,
        config=dataclasses.asdict(config),
        execution=dataclasses.asdict(execution),
    )
    data = recipe.load(config, arguments.data_dir)
    count = batches(recipe, config, data).size
    # Created last, so that failed checks leave nothing behind.
    if run is None and placement.is_chief:
        run = Run.create(recipe, config, arguments.output, execution)
    elif run is None:
        run = Run(arguments.output or "")
    progress.report(
        "data",
        f"{counted(count, 'example')} for training, {data.test_size} for testing\nrun folder: "
        f"{run.folder}",
        training=count,
        test=data.test_size,
        folder=str(run.folder),
    )
    metrics = train(recipe, config, run, data, execution, progress, placement)
    _report_end(recipe, run, metrics, progress)
    return 0


def _report_end(
    recipe: Recipe, run: "Run", metrics: dict[str, Any], progress: "Progress", already: bool = False
) -> None:
    pictures = [str(path) for path in sorted(run.folder.glob("*.png"))] if metrics else []
    warnings = below_baselines(recipe, metrics)
    text = [f"{run.folder} is already finished."] if already else []
    text += [*lines_of(metrics), *warnings, *(f"plot:  {path}" for path in pictures)]
    text.append(f"model: {run.path('model.keras')}")
    progress.report(
        "end",
        "\n".join(text),
        metrics=metrics,
        warnings=warnings,
        pictures=pictures,
        model=str(run.path("model.keras")),
    )


def _read_config(recipe: Recipe, path: Path) -> dict[str, Any]:
    """Read the options in a search's best.json or a run's config.json.

    Raises:
        ConfigError: the file is neither, or belongs to another recipe.
    """
    try:
        saved = parsed(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--config {path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise ConfigError(f"--config {path}: expected JSON; {error}.") from None
    if not isinstance(saved, dict) or not isinstance(saved.get("config"), dict):
        raise ConfigError(
            f"--config {path}: expected a search's best.json or a run's config.json, with a recipe "
            "and its config."
        )
    if saved.get("recipe") != recipe.name:
        raise ConfigError(
            f"--config {path}: belongs to the recipe {saved.get('recipe')}; expected {recipe.name}."
        )
    try:
        from_dict(recipe.Config, saved["config"])
    except ConfigError as error:
        raise ConfigError(f"--config {path}: {error}") from None
    return saved["config"]


def _described(config: Config) -> str:
    """Format the options, without those that the user's own data replaces."""
    values = dataclasses.asdict(config)
    own = values.get("data")
    if own:
        values = {k: v for k, v in values.items() if k not in config.OF_CATALOGUE}
        with contextlib.suppress(OSError):  # reported when the file is read
            values["data"] = f"{own} ({size(Path(own).stat().st_size)})"
    return ", ".join(f"{name}={value}" for name, value in values.items() if value != "")


def _epilog(recipe: Recipe | None) -> str:
    if recipe is None:
        return "A recipe's own options: kerasrnn train RECIPE --help"
    return sys.modules[type(recipe).__module__].__doc__ or ""
