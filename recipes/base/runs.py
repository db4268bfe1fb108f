"""Run folders: the files that a training run writes, and how they are read.

A run folder contains:

    config.json          the recipe and its configuration; the hash of a user's own data file
    environment.json     versions, machine, devices, commit; execution options
    sessions.jsonl       start, machine and outcome of each session
    metadata.json           properties of the training data: vocabulary, classes, statistics
    log.csv              metrics of each epoch
    tensorboard/         the same for TensorBoard
    checkpoint/          state for resuming the run, until it is finished
    model.keras          the trained model
    metrics.json         the test metrics
    written.jsonl        prediction for each test source (text-to-text recipes)
    *.png                pictures
    export/              SavedModel and ONNX, once exported
"""

import contextlib
import dataclasses
import errno
import itertools
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator, Mapping
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
    sha256,
)
from kerasrnn.recipes.base.config import Config, ConfigError, from_dict, parsed
from kerasrnn.recipes.base.execution import Execution
from kerasrnn.recipes.base.recipe import Recipe

RUNS = "runs"
"""The folder of runs, relative to the working directory."""


class RunError(RuntimeError):
    """A run folder is invalid."""


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
        """Create a run folder.

        Args:
            recipe: the recipe to train.
            config: its configuration.
            folder: the new folder; default: a subfolder of `runs/` named by the time.
            execution: the execution options.

        Raises:
            RunError: the folder is not empty.
            LockedError: another process is creating a run there.
            WriteError: the folder cannot be written.
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
        """A context in which no other process can train in the folder. It may be nested.

        Raises:
            LockedError: another process trains in it.
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
        """Open an existing run of a recipe; returns it and its configuration.

        Raises:
            RunError: the folder has no run, or the run belongs to another recipe or is damaged.
        """
        run = cls(folder)
        try:
            exists = (run.folder / "config.json").is_file()
        except OSError as error:
            raise RunError(f"{run.folder} cannot be read: {error.strerror}.") from None
        if not exists:
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
        """The execution options with which the run was started.

        Raises:
            RunError: config.json is damaged.
        """
        try:
            return from_dict(Execution, self.read_json("config.json").get("execution", {}))
        except (ConfigError, TypeError) as error:
            raise RunError(f"{self.folder / 'config.json'}: {error}") from None

    @classmethod
    def latest(cls, recipe: Recipe, below: str | Path = RUNS) -> "Run | None":
        """The newest finished run of a recipe in a folder and its subfolders, if any."""
        finished = [
            run for run, name in runs_below(Path(below)) if name == recipe.name and run.finished
        ]
        return max(finished, key=lambda run: _age(run.path("metrics.json")), default=None)

    def check_data(self, config: Config) -> None:
        """Check that the user's data file is the one with which the run was started.

        Raises:
            RunError: the file has changed, or cannot be read.
        """
        try:
            digest = _own_data(config)
        except OSError as error:
            raise RunError(
                f"{config.data}, the run's data, cannot be read: {error.strerror}."
            ) from None
        expected = self.read_json("config.json").get("data_sha256")
        if digest != expected:
            raise RunError(
                f"{config.data} has changed since the run in {self.folder} was started: expected "
                f"the SHA-256 {expected}, found {digest}."
            )

    def changed_versions(self) -> dict[str, tuple[str | None, str | None]]:
        """The packages whose versions changed since the run was last trained: old, new."""
        try:
            before = dict(self.read_json("environment.json")["versions"])
        except (RunError, KeyError, TypeError, ValueError):
            return {}  # not trained yet
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
        """Whether the run is included in the library: its folder must not be written to."""
        from kerasrnn.zoo.saved import SUMS

        return self.path(SUMS).is_file()

    def path(self, name: str) -> Path:
        return self.folder / name

    def write_json(self, name: str, value: Any, kind: Kind = FILE) -> None:
        """Write a JSON file atomically."""
        with replacing(self.folder / name, kind) as scratch:
            text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)
            scratch.write_text(text + "\n", encoding="utf-8")

    def read_json(self, name: str) -> Any:
        """Read a JSON file.

        Raises:
            RunError: the file is missing or damaged.
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
    def session(self, devices: Mapping[str, Any]) -> Iterator[None]:
        """A context around a training session; records how the session ended.

        Args:
            devices: the strategy and its devices, for the records.
        """
        record = {**environment(), **devices}
        self.write_json("environment.json", record)
        began = time.time()
        ended = "killed"
        line = {name: record[name] for name in ("started", "host", "process", "strategy")}
        self._write_session(line)
        try:
            yield
            ended = "finished"
        except BaseException as error:
            ended = f"{type(error).__name__}: {error}".strip(": ")
            raise
        finally:
            with contextlib.suppress(OSError):  # a full disk has already been reported
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
        """Load the trained model.

        Raises:
            RunError: the file is missing or damaged.
        """
        return load_model(self.folder / "model.keras")


def default_folder(recipe: Recipe, below: str | Path = RUNS) -> Path:
    """The default folder of a run started now: named by the time, and a number if that is taken."""
    folder = Path(below) / recipe.name / datetime.now().strftime("%Y%m%d-%H%M%S")
    names = itertools.chain([folder.name], (f"{folder.name}-{n}" for n in itertools.count(2)))
    return next(path for path in map(folder.with_name, names) if not path.exists())


def check_new(folder: Path, what: str) -> None:
    """Check that a new run or search can be created in a folder.

    Args:
        folder: the folder, which need not exist.
        what: "run" or "search".

    Raises:
        RunError: the folder is not empty.
        OccupiedError, WriteError: the folder cannot be written.
    """
    check_place(folder / "file")
    if folder.is_dir() and not is_empty(folder):
        raise RunError(
            f"{folder} is not empty: choose another --output, or resume an interrupted {what} "
            "with --resume."
        )


def runs_below(folder: Path) -> list[tuple[Run, str | None]]:
    """All runs in a folder and its subfolders, with their recipe's name; None: damaged.

    Raises:
        RunError: the folder cannot be read.
    """
    runs: list[tuple[Run, str | None]] = []
    if folder.exists() and not os.access(folder, os.R_OK | os.X_OK):
        raise RunError(f"{folder} cannot be read: {os.strerror(errno.EACCES)}.")
    for path in sorted(folder.rglob("config.json")):
        if path.parent.name.startswith(SCRATCH):  # it is being written
            continue
        run = Run(path.parent)
        try:
            saved = run.read_json(path.name)
        except RunError:
            runs.append((run, None))
            continue
        # Other programs may have files of this name.
        if isinstance(saved, dict) and {"recipe", "config"} <= set(saved):
            runs.append((run, saved["recipe"]))
    return runs


def load_model(path: Path) -> Any:
    """Load a Keras model in safe mode.

    Raises:
        RunError: the file is missing or damaged, or needs a package that is not installed.
    """
    from kerasrnn.zoo import saved

    if not path.is_file():
        raise RunError(f"{path} is missing: the run has not finished; see --resume.")
    try:
        return saved.read(path)
    except saved.SavedModelError as error:
        raise RunError(str(error)) from error


def _own_data(config: Config) -> str | None:
    """The hash of the user's data file, if the configuration names one."""
    path = getattr(config, "data", "")
    return sha256(Path(path)) if path else None


def environment() -> dict[str, Any]:
    """Versions, machine, devices and commit: what affects a result besides the options."""
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

    import keras
    import tensorflow as tf

    def installed(name: str) -> str | None:
        try:
            return version(name)
        except PackageNotFoundError:
            return None

    # Several distributions contain Keras and TensorFlow: keras-nightly, tensorflow-cpu.
    return {
        "kerasrnn": installed("kerasrnn"),
        "keras": keras.__version__,
        "numpy": installed("numpy"),
        "tensorflow-datasets": installed("tensorflow-datasets"),
        "tensorflow": tf.__version__,
    }


def _processors() -> int | None:
    """The processors available to this process, possibly fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _commit() -> str | None:
    """The commit of the checkout that this code runs from, if any."""
    file = Path(__file__).resolve()
    # Variables set by a hook of another repository would select that one.
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
        # The environment may be inside another project's checkout that does not track it.
        git("ls-files", "--error-unmatch", "--", file.name)
        return git("rev-parse", "HEAD")
    except (OSError, subprocess.SubprocessError):
        return None


def _age(path: Path) -> float:
    return path.stat().st_mtime
