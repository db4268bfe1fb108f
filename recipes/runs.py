"""Run folders: everything that a training run leaves behind, and how it is read again.

In a folder there are:

    config.json          the recipe and its configuration; the hash of a user's own data file
    environment.json     versions, machine, devices, commit; how training is carried out
    sessions.jsonl       when it was begun and resumed, where, and how each session ended
    facts.json           what the model knows of its training data: vocabulary, classes, statistics
    log.csv              metrics, epoch by epoch
    tensorboard/         the same for TensorBoard
    checkpoint/          where the run can be resumed, until it is finished
    model.keras          the trained model
    metrics.json         the test metrics
    written.jsonl        what was written of each test source (recipes from text to text)
    *.png                pictures
    export/              SavedModel and ONNX, once exported
"""

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from kerasrnn.files import (
    FILE,
    SCRATCH,
    Kind,
    check_place,
    create_folder,
    is_empty,
    locked,
    replacing,
)
from kerasrnn.recipes.config import Config, ConfigError, from_dict, parsed
from kerasrnn.recipes.recipe import Recipe
from kerasrnn.recipes.training.execution import Execution, Placement

RUNS = "runs"
"""Where runs go, and where they are looked for, below the current folder."""


class RunError(RuntimeError):
    """A run folder is not what it should be."""


class Run:
    """A run folder."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._is_locked = False

    @classmethod
    def create(
        cls,
        recipe: Recipe,
        config: Config,
        folder: str | Path | None = None,
        execution: Execution | None = None,
    ) -> "Run":
        """A new run folder.

        Args:
            recipe: what is trained.
            config: its configuration.
            folder: default: one below `runs/`, named by the time.
            execution: how it is trained.

        Raises:
            RunError: the folder holds something.
            LockedError: another process creates a run there.
            WriteError: it cannot be written.
        """
        if folder is None:
            folder = default_folder(recipe)
        run = cls(folder)
        create_folder(run.folder)
        with run.locked():
            check_new(run.folder, "run")
            run.write_json(
                "config.json",
                {
                    "recipe": recipe.name,
                    "config": dataclasses.asdict(config),
                    "execution": dataclasses.asdict(execution or Execution()),
                    "data_sha256": _own_data(config),
                },
            )
        return run

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """While this lasts, no other process trains in the folder. It may be nested.

        Raises:
            LockedError: another process does.
        """
        if self._is_locked:
            yield
            return
        with locked(self.folder, "training"):
            self._is_locked = True
            try:
                yield
            finally:
                self._is_locked = False

    @classmethod
    def open(cls, recipe: Recipe, folder: str | Path) -> tuple["Run", Config]:
        """An existing run of a recipe, and its configuration.

        Raises:
            RunError: there is no run in the folder, or it is another recipe's, or damaged.
        """
        run = cls(folder)
        try:
            there = (run.folder / "config.json").is_file()
        except OSError as error:
            raise RunError(f"{run.folder} cannot be read: {error.strerror}.") from None
        if not there:
            raise RunError(f"{run.folder} is not a run folder: it has no config.json.")
        saved = run.read_json("config.json")
        if not isinstance(saved, dict) or not {"recipe", "config"} <= set(saved):
            raise RunError(f"{run.folder / 'config.json'} is not a run's configuration.")
        if saved["recipe"] != recipe.name:
            raise RunError(
                f"{run.folder} is a run of the recipe {saved['recipe']}; expected {recipe.name}."
            )
        try:
            return run, from_dict(recipe.Config, saved["config"])
        except (ConfigError, TypeError) as error:
            raise RunError(f"{run.folder / 'config.json'}: {error}") from None

    def execution(self) -> Execution:
        """How its training was begun.

        Raises:
            RunError: config.json is damaged.
        """
        try:
            return from_dict(Execution, self.read_json("config.json").get("execution", {}))
        except (ConfigError, TypeError) as error:
            raise RunError(f"{self.folder / 'config.json'}: {error}") from None

    @classmethod
    def latest(cls, recipe: Recipe, below: str | Path = RUNS) -> "Run | None":
        """The newest finished run of a recipe in a folder and below it, if there is one."""
        finished = [
            run for run, name in runs_below(Path(below)) if name == recipe.name and run.finished
        ]
        return max(finished, key=lambda run: _age(run.path("metrics.json")), default=None)

    def check_data(self, config: Config) -> None:
        """See that a user's own data file is the one that the run began with.

        Raises:
            RunError: it has changed since, or cannot be read.
        """
        try:
            found = _own_data(config)
        except OSError as error:
            raise RunError(
                f"{config.data}, the run's data, cannot be read: {error.strerror}."
            ) from None
        expected = self.read_json("config.json").get("data_sha256")
        if found != expected:
            raise RunError(
                f"{config.data} has changed since {self.folder} was begun with it: expected the "
                f"SHA-256 {expected}, found {found}."
            )

    def changed_versions(self) -> dict[str, tuple[str | None, str | None]]:
        """The packages that had other versions when the run was last trained: then and now."""
        try:
            before = dict(self.read_json("environment.json")["versions"])
        except (RunError, KeyError, TypeError, ValueError):
            return {}  # it has not been trained yet
        now = _versions()
        return {
            name: (before.get(name), version)
            for name, version in now.items()
            if before.get(name) != version
        }

    @property
    def finished(self) -> bool:
        return (self.folder / "metrics.json").is_file()

    @property
    def is_kept(self) -> bool:
        """Whether it came with the library: nothing is to be written there."""
        from kerasrnn.zoo.saved import SUMS

        return self.path(SUMS).is_file()

    def path(self, name: str) -> Path:
        return self.folder / name

    def write_json(self, name: str, value: Any, kind: Kind = FILE) -> None:
        """Write a JSON file whole or not at all, in the place of one of a kind."""
        with replacing(self.folder / name, kind) as scratch:
            text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)
            scratch.write_text(text + "\n", encoding="utf-8")

    def read_json(self, name: str) -> Any:
        """Read a JSON file.

        Raises:
            RunError: it is missing or damaged.
        """
        path = self.folder / name
        try:
            return parsed(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(f"{path} is missing.") from None
        except OSError as error:
            raise RunError(f"{path} cannot be read: {error.strerror}.") from None
        except ValueError as error:
            raise RunError(f"{path} is damaged: {error}.") from None

    @contextlib.contextmanager
    def session(self, placement: Placement) -> Iterator[None]:
        """While this lasts, the run is being trained; it is written down how that ended."""
        found = {**environment(), **placement.described()}
        self.write_json("environment.json", found)
        began = time.time()
        ended = "killed"
        line = {name: found[name] for name in ("started", "host", "process", "strategy")}
        self._write_session(line)
        try:
            yield
            ended = "finished"
        except BaseException as error:
            ended = f"{type(error).__name__}: {error}".strip(": ")
            raise
        finally:
            with contextlib.suppress(OSError):  # a full disk has been told already
                seconds = round(time.time() - began, 1)
                self._write_session({**line, "seconds": seconds, "ended": ended}, last=line)

    def _write_session(self, line: dict[str, Any], last: dict[str, Any] | None = None) -> None:
        path = self.path("sessions.jsonl")
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        if last is not None and lines:
            lines.pop()
        with replacing(path) as scratch:
            text = "".join(f"{old}\n" for old in [*lines, json.dumps(line)])
            scratch.write_text(text, encoding="utf-8")

    def save_model(self, model: Any) -> None:
        with replacing(self.folder / "model.keras") as scratch:
            model.save(scratch)

    def load_model(self) -> Any:
        """The trained model.

        Raises:
            RunError: it is missing or damaged.
        """
        return load_model(self.folder / "model.keras")


def default_folder(recipe: Recipe) -> Path:
    """Where a run that is begun now is kept, unless it is said where."""
    return Path(RUNS) / recipe.name / datetime.now().strftime("%Y%m%d-%H%M%S")


def check_new(folder: Path, what: str) -> None:
    """See that something new can be kept in a folder, which need not be there.

    Args:
        folder: where it is to be.
        what: a run or a search.

    Raises:
        RunError: the folder holds something.
        OccupiedError, WriteError: it cannot be written.
    """
    check_place(folder / "file")
    if folder.is_dir() and not is_empty(folder):
        raise RunError(
            f"{folder} is not empty: choose another --output, or go on with a {what} that was "
            "interrupted with --resume."
        )


def runs_below(folder: Path) -> list[tuple[Run, str | None]]:
    """All runs in a folder and below it, each with its recipe's name; None: it is damaged.

    Raises:
        RunError: the folder cannot be read.
    """
    found: list[tuple[Run, str | None]] = []
    if folder.exists() and not os.access(folder, os.R_OK | os.X_OK):
        raise RunError(f"{folder} cannot be read: {os.strerror(errno.EACCES)}.")
    for path in sorted(folder.rglob("config.json")):
        if path.parent.name.startswith(SCRATCH):  # it is being written
            continue
        run = Run(path.parent)
        try:
            saved = run.read_json(path.name)
        except RunError:
            found.append((run, None))
            continue
        # A file of this name may be anybody's.
        if isinstance(saved, dict) and {"recipe", "config"} <= set(saved):
            found.append((run, saved["recipe"]))
    return found


def load_model(path: Path) -> Any:
    """A Keras model, loaded in safe mode.

    Raises:
        RunError: it is missing or damaged, or needs a package that is not installed.
    """
    from kerasrnn.zoo import saved

    if not path.is_file():
        raise RunError(f"{path} is missing: the run has not finished; see --resume.")
    try:
        return saved.read(path)
    except saved.SavedModelError as error:
        raise RunError(str(error)) from error


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _own_data(config: Config) -> str | None:
    """The hash of a user's own data file, if the configuration names one."""
    path = getattr(config, "data", "")
    return sha256(Path(path)) if path else None


def environment() -> dict[str, Any]:
    """Versions, machine, device and commit: what a result depends on besides its configuration."""
    import keras
    import tensorflow as tf

    return {
        "host": platform.node(),
        "process": os.getpid(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": _processors(),
        "devices": [device.device_type for device in tf.config.list_physical_devices()],
        "backend": keras.config.backend(),
        "versions": _versions(),
        "commit": _commit(),
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def _versions() -> dict[str, str | None]:
    from importlib.metadata import PackageNotFoundError, version

    import tensorflow as tf

    def installed(name: str) -> str | None:
        try:
            return version(name)
        except PackageNotFoundError:
            return None

    packages = ("kerasrnn", "keras", "numpy", "tensorflow-datasets")
    return {name: installed(name) for name in packages} | {"tensorflow": tf.__version__}


def _processors() -> int | None:
    """Those that this process may run on, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _commit() -> str | None:
    """The commit of the checkout that this code runs from, if it does."""
    file = Path(__file__).resolve()
    # Those that a hook of another repository sets would name that one.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}

    def git(*command: str) -> str:
        return subprocess.run(
            ["git", *command],
            cwd=file.parent,
            env=environment,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout.strip()

    try:
        # An environment may lie inside of another project's checkout, which does not track it.
        git("ls-files", "--error-unmatch", "--", file.name)
        return git("rev-parse", "HEAD")
    except (OSError, subprocess.SubprocessError):
        return None


def _age(path: Path) -> float:
    return path.stat().st_mtime
