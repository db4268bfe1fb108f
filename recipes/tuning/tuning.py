"""A complete hyperparameter search.

The folder of a search contains:

    search.json          search space and options; fixed options
    oracle/              keras-tuner's state of the search
    trials/ID/           a run folder for each trial, without a model; result.json has the result
    workers/ID.log       output of each worker, if any
    results.csv, .json   the trials, best first
    hyperparameters.png  the objective against each hyperparameter
    best.json            the best configuration, for `kerasrnn train --config`

All files are written atomically, and each event is recorded before anything depends on it. A search
that was killed at any moment can be resumed with its interrupted trials.
"""

import dataclasses
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kerasrnn.files import locked
from kerasrnn.recipes.base import search_space as space
from kerasrnn.recipes.base.config import ConfigError, from_dict
from kerasrnn.recipes.base.execution import Execution
from kerasrnn.recipes.base.recipe import Recipe
from kerasrnn.recipes.tuning import chief
from kerasrnn.recipes.tuning.options import SearchOptions
from kerasrnn.recipes.tuning.results import Outcome
from kerasrnn.recipes.tuning.search import Search, TuningError
from kerasrnn.recipes.tuning.tuner import Tuner
from kerasrnn.training.interruption import Interrupted
from kerasrnn.training.progress import Progress
from kerasrnn.wording import counted


def tune(
    recipe: Recipe,
    folder: str | Path | None = None,
    fixed: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    execution: Mapping[str, Any] | None = None,
    resume: bool = False,
    data_dir: str | None = None,
    progress: Progress | None = None,
) -> tuple[Sequence[Outcome], Search | None]:
    """Search for a good configuration on the validation data; the test data is not used.

    The first trial is the default configuration. If keras-tuner's environment variables make this
    process a chief or a worker of a search over several machines, it takes that role: see
    docs/tuning.md.

    Args:
        recipe: the recipe to train.
        folder: the folder of the search; default: a subfolder of `runs/tune/` named by the time.
        fixed: options of the recipe that are not searched.
        options: search options, by name: see `SearchOptions`.
        execution: options of `Execution`.
        resume: whether to resume the search in `folder`.
        data_dir: the TFDS data directory.
        progress: receives progress reports; default: none.

    Returns:
        The trials, best first, and the search. A worker of several machines returns neither.

    Raises:
        RunError: the folder cannot be used.
        LockedError: another process searches in it.
        ConfigError: an option is invalid.
        TuningError: all trials fail, or a worker cannot start.
        Interrupted: a signal stopped the search; it can be resumed.
    """
    fixed, options, execution = dict(fixed or {}), dict(options or {}), dict(execution or {})
    progress = progress or Progress()
    folder = Path(folder) if folder else None
    role = chief.role()
    if role == "worker":
        search = chief.awaited(recipe, folder)
        _refuse_others(search, fixed, options, execution)
        chief.work(Tuner(search, search.options, data_dir, progress))
        return (), None
    if resume:
        if folder is None:
            raise ConfigError("--resume: expected the search's folder in --output.")
        search = Search.open(recipe, folder)
        _refuse_others(search, fixed, options, execution)
    else:
        if "minutes" in options or options.get("algorithm") == "hyperband":
            options.setdefault("trials", 0)
        if role == "chief" and folder is None:
            raise ConfigError("--output: expected a folder that the chief and the workers share.")
        search = Search.create(
            recipe,
            folder,
            fixed,
            from_dict(SearchOptions, options),
            from_dict(Execution, execution),
            data_dir,
        )
    session = dataclasses.replace(
        search.options,
        **{name: value for name, value in options.items() if name in SearchOptions.RESUMABLE},
    )
    progress.report(
        "search",
        f"{recipe.card.title}: {session.algorithm} search, by {session.objective}\n"
        f"{space.described(search.space)}\nsearch folder: {search.folder}",
        recipe=recipe.name,
        search=dataclasses.asdict(session),
        space=search.plan["space"],
        folder=str(search.folder),
    )
    with locked(search.folder, "searching"):
        return _searched(search, session, role, data_dir, progress), search


def _searched(
    search: Search, session: SearchOptions, role: str, data_dir: str | None, progress: Progress
) -> Sequence[Outcome]:
    """Run a search to its end; returns the trials, best first."""
    tuner = Tuner(search, session, data_dir, progress)
    try:
        if role == "chief" or session.workers > 1:
            chief.serve(tuner, 0 if role == "chief" else session.workers, data_dir)
        else:
            tuner.search()
    except KeyboardInterrupt as stop:
        outcomes = tuner.report()
        number, name = getattr(stop, "number", signal.SIGINT), search.recipe.name
        done = sum(outcome.status != "running" for outcome in outcomes)
        raise Interrupted(
            number,
            f"stopped with {counted(done, 'trial')} done; resume with: kerasrnn tune {name} "
            f"--resume --output {search.folder}",
        ) from None
    outcomes = tuner.report()
    if not any(outcome.status == "completed" for outcome in outcomes):
        raise TuningError(
            f"none of {counted(len(outcomes), 'trial')} succeeded; the last failed with: "
            f"{outcomes[-1].reason if outcomes else 'no trial was run'} (see {search.folder})"
        )
    return outcomes


def _refuse_others(
    search: Search,
    fixed: Mapping[str, Any],
    options: Mapping[str, Any],
    execution: Mapping[str, Any],
) -> None:
    """Raise ConfigError if a search is resumed with different options."""
    started = {
        **dataclasses.asdict(search.options),
        **dataclasses.asdict(search.execution),
        **search.fixed,
    }
    for name, value in {**fixed, **options, **execution}.items():
        if name not in SearchOptions.RESUMABLE and started.get(name) != value:
            before = started.get(name, "no fixed value")
            raise ConfigError(
                f"{name}={value}: the search in {search.folder} has {before}; a resumed "
                "search keeps its options."
            )
