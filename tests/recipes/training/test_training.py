"""The loop that trains: what a run leaves, how it is resumed, and what it refuses."""

import csv
import dataclasses
import io
import json
import os
import subprocess

import keras
import numpy as np
import pytest

from kerasrnn.files import LockedError, WriteError, locked
from kerasrnn.recipes.base import runs
from kerasrnn.recipes.base.execution import Execution
from kerasrnn.recipes.base.runs import Run, RunError
from kerasrnn.recipes.training import train
from kerasrnn.training import checkpoints
from kerasrnn.training.errors import BatchError, CheckpointError
from kerasrnn.training.loop import Loop
from kerasrnn.training.progress import Progress
from kerasrnn.training.step import TrainingModel

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def _quickly(monkeypatch):
    # Compiling the loops would take most of the time; the first test below has them compiled.
    monkeypatch.setattr(TrainingModel, "compile_loops", lambda self: None)


def start(recipe, folder, **overrides):
    config = dataclasses.replace(recipe.Config(), units=8, epochs=4, batch_size=15, **overrides)
    return config, Run.create(recipe, config, folder)


def log_of(run):
    with run.path("log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        del row["seconds"]
    return rows


def interrupted(recipe, folder, monkeypatch, after_epochs, **overrides):
    """A run that ends in the middle of the epoch after those."""
    config, run = start(recipe, folder, **overrides)
    original = Loop.train

    def until(self, batches, steps):
        if int(self.model.optimizer.iterations) == after_epochs * 4 + 2:
            raise KeyboardInterrupt
        return original(self, batches, steps)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "train", until)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, config, run, recipe.load(None))
    return config, run


def test_a_run_learns_and_leaves_everything(recipe, tmp_path):
    config, run = start(recipe, tmp_path / "run", learning_rate=0.03, validation=0.25)
    metrics = train(recipe, config, run, recipe.load(None))
    assert metrics["test_accuracy"] > 0.95
    assert metrics == json.loads(run.path("metrics.json").read_text())
    saved = json.loads(run.path("config.json").read_text())
    assert saved == {
        "recipe": "japanese_vowels",
        "config": dataclasses.asdict(config),
        "execution": dataclasses.asdict(Execution()),
        "data_sha256": None,
    }
    environment = json.loads(run.path("environment.json").read_text())
    assert environment["versions"]["keras"] == keras.__version__
    log = log_of(run)
    assert [int(row["epoch"]) for row in log] == [0, 1, 2, 3]
    assert float(log[-1]["loss"]) < float(log[0]["loss"])
    assert float(log[-1]["val_accuracy"]) > 0.9
    for picture in ("learning_curves.png", "confusion_matrix.png"):
        assert run.path(picture).read_bytes().startswith(b"\x89PNG")
    assert list(run.path("tensorboard").rglob("events.*"))
    model = run.load_model()
    again = recipe.evaluate(model, recipe.load(None), config, tmp_path)
    assert again["test_accuracy"] == pytest.approx(metrics["test_accuracy"])


@pytest.mark.usefixtures("_quickly")
def test_one_seed_one_result(recipe, tmp_path):
    weights = []
    for n, seed in enumerate((3, 3, 4)):
        config, run = start(recipe, tmp_path / str(n), seed=seed)
        config = dataclasses.replace(config, epochs=1)
        train(recipe, config, run, recipe.load(None))
        weights.append(run.load_model().get_weights())
    for a, b, c in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.abs(a - c).max() > 0


@pytest.mark.parametrize("after_epochs", [0, 2])
def test_a_resumed_run_ends_as_an_uninterrupted_one(recipe, tmp_path, monkeypatch, after_epochs):
    """Weights, log and metrics: dropout, schedule, optimizer and the order of the data go on."""
    if after_epochs == 0:  # once with compiled loops
        monkeypatch.setattr(TrainingModel, "compile_loops", lambda self: None)
    config, whole = start(recipe, tmp_path / "whole")
    expected = train(recipe, config, whole, recipe.load(None))
    _, run = interrupted(recipe, tmp_path / "cut", monkeypatch, after_epochs)
    assert not run.finished
    run, config = Run.open(recipe, run.folder)
    environment = run.read_json("environment.json")
    environment["versions"]["keras"] = "3.0.0"
    run.write_json("environment.json", environment)
    told = io.StringIO()
    metrics = train(recipe, config, run, recipe.load(None), progress=Progress("lines", told))
    now = f"keras 3.0.0 (now {keras.__version__}); its results may differ"
    assert f"resumed with other versions than it was started with: {now}" in told.getvalue()
    assert metrics["resumed_at_epoch"] == after_epochs
    assert metrics["test_loss"] == expected["test_loss"]
    assert log_of(run) == log_of(whole)
    for a, b in zip(run.load_model().get_weights(), whole.load_model().get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "checkpoint/epoch-2-step-0.npz").write_bytes(b"no"), "is damaged.*Delete"),
        (lambda f: (f / "checkpoint/epoch-2-step-0.npz").unlink(), "is missing. Delete"),
        (lambda f: (f / "checkpoint/index.json").write_text("{"), "index.json is damaged"),
        (lambda f: (f / "checkpoint/index.json").write_text("{}"), "not a checkpoint's index"),
        (lambda f: (f / "config.json").write_text("{"), "config.json is damaged"),
        (lambda f: (f / "config.json").write_text("[]"), "not a run's configuration"),
        (lambda f: (f / "config.json").unlink(), "is not a run folder"),
        (
            lambda f: (f / "config.json").write_text('{"recipe": "other", "config": {}}'),
            "is a run of the recipe other; expected japanese_vowels",
        ),
        (
            lambda f: (f / "config.json").write_text(
                '{"recipe": "japanese_vowels", "config": {"unit": 3}}'
            ),
            "option 'unit' does not exist",
        ),
    ],
)
def test_damaged_runs_are_refused(recipe, tmp_path, damage, message):
    _config, run = start(recipe, tmp_path / "run")
    arrays = {"model-0": np.ones(3, "float32")}
    checkpoints.Checkpoints(run.path("checkpoint")).save(arrays, checkpoints.Position(epoch=2))
    damage(run.folder)
    before = sorted(run.folder.rglob("*"))
    with pytest.raises((RunError, CheckpointError), match=message):
        train(recipe, Run.open(recipe, run.folder)[1], run, recipe.load(None))
    assert sorted(run.folder.rglob("*")) == before


@pytest.mark.usefixtures("_quickly")
def test_damaged_models_are_refused(recipe, tmp_path):
    config, run = start(recipe, tmp_path / "run", seed=1)
    with pytest.raises(RunError, match=r"model.keras is missing: the run has not finished"):
        run.load_model()
    train(recipe, dataclasses.replace(config, epochs=1), run, recipe.load(None))
    whole = run.path("model.keras").read_bytes()
    run.path("model.keras").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match=r"model\.keras is damaged"):
        run.load_model()


@pytest.mark.usefixtures("_quickly")
def test_folders_that_cannot_be_used(recipe, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match=r"full is not empty"):
        start(recipe, tmp_path / "full")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(WriteError, match="file cannot be written: Not a directory"):
        start(recipe, tmp_path / "file")
    config, run = start(recipe, tmp_path / "run")
    train(recipe, dataclasses.replace(config, epochs=1), run, recipe.load(None))
    with pytest.raises(RunError, match="is finished"):
        train(recipe, config, run, recipe.load(None))


def test_a_run_that_is_being_trained(recipe, tmp_path):
    """Neither trained by a second process, nor overwritten by a new run."""
    config, run = start(recipe, tmp_path / "run")
    before = sorted(run.folder.rglob("*"))
    with locked(run.folder, "training"):
        here = f"run is in use: training by process {os.getpid()} on "
        with pytest.raises(LockedError, match=here):
            train(recipe, config, run, recipe.load(None))
        with pytest.raises(LockedError, match=here):
            start(recipe, tmp_path / "run")
        with pytest.raises(LockedError, match=here), run.locked():
            pass
    assert sorted(run.folder.rglob("*")) == before
    with run.locked(), run.locked(), pytest.raises(LockedError), Run(run.folder).locked():
        pass


def test_the_commit_is_this_packages_own(tmp_path, monkeypatch):
    """And not that of a project whose folder the environment with the package lies in."""

    def git(*command):
        options = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        subprocess.run(["git", *options, *command], cwd=tmp_path, check=True, capture_output=True)

    package = tmp_path / ".venv" / "kerasrnn" / "recipes"
    package.mkdir(parents=True)
    (package / "runs.py").write_text("")
    (tmp_path / "thesis.tex").write_text("mine")
    git("init", "-q")
    git("add", "thesis.tex")
    git("commit", "-q", "-m", "mine")
    assert runs._commit() is None or len(runs._commit()) == 40
    monkeypatch.setattr(runs, "__file__", str(package / "runs.py"))
    assert runs._commit() is None
    git("add", ".venv/kerasrnn/recipes/runs.py")
    assert len(runs._commit()) == 40


@pytest.mark.usefixtures("_quickly")
def test_a_disk_that_fills_up_leaves_the_last_checkpoint(recipe, tmp_path, monkeypatch):
    original = np.savez

    def save(file, **arrays):
        if next(v for k, v in arrays.items() if k.startswith("optimizer-0-")) > 8:
            file.write(b"half of")
            raise OSError(28, "No space left on device")
        return original(file, **arrays)

    config, run = start(recipe, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", save)
        with pytest.raises(WriteError, match=r"npz cannot be written: No space left on device"):
            train(recipe, config, run, recipe.load(None))
    left = sorted(path.name for path in run.path("checkpoint").iterdir())
    assert left == ["epoch-2-step-0.npz", "index.json"]
    assert train(recipe, config, run, recipe.load(None))["resumed_at_epoch"] == 2


def test_a_batch_larger_than_the_data(recipe, tmp_path):
    config, run = start(recipe, tmp_path / "run")
    config = dataclasses.replace(config, batch_size=61)
    with pytest.raises(BatchError, match="batch_size=61: expected at most the 60"):
        train(recipe, config, run, recipe.load(None))
