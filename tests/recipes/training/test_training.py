"""Runs: their files, how they are resumed, and errors about folders and files."""

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
from tests.recipes.training.compared import log_of

pytestmark = pytest.mark.tensorflow


def start(recipe, folder, **overrides):
    config = dataclasses.replace(recipe.Config(), units=8, epochs=4, batch_size=15, **overrides)
    return config, Run.create(recipe, config, folder)


OPTIONS = {"learning_rate": 0.03, "validation": 0.25}


def interrupted(recipe, folder, monkeypatch, after_epochs):
    """A run with `OPTIONS` that is interrupted in the middle of an epoch."""
    config, run = start(recipe, folder, **OPTIONS)
    original = Loop.train

    def until(self, batches, steps):
        if int(self.model.optimizer.iterations) == after_epochs * 3 + 2:
            raise KeyboardInterrupt
        return original(self, batches, steps)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "train", until)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, config, run, recipe.load(None))
    return run


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("whole") / "run"


@pytest.fixture
def whole(recipe, place):
    """An uninterrupted run of the recipe's own model, which the first test that needs it trains."""
    if place.exists():
        return Run(place)
    config, run = start(recipe, place, **OPTIONS)
    metrics = train(recipe, config, run, recipe.load(None))
    assert metrics == run.read_json("metrics.json")
    return run


def test_a_run_learns_and_writes_its_files(recipe, whole, tmp_path):
    metrics = whole.read_json("metrics.json")
    assert metrics["test_accuracy"] > 0.95
    saved = json.loads(whole.path("config.json").read_text())
    config = dataclasses.replace(recipe.Config(), units=8, epochs=4, batch_size=15, **OPTIONS)
    assert saved == {
        "recipe": "japanese_vowels",
        "config": dataclasses.asdict(config),
        "execution": dataclasses.asdict(Execution()),
        "data_sha256": None,
    }
    environment = json.loads(whole.path("environment.json").read_text())
    assert environment["versions"]["keras"] == keras.__version__
    log = log_of(whole.folder)
    assert [int(row["epoch"]) for row in log] == [0, 1, 2, 3]
    assert float(log[-1]["loss"]) < float(log[0]["loss"])
    assert float(log[-1]["val_accuracy"]) > 0.9
    for picture in ("learning_curves.png", "confusion_matrix.png"):
        assert whole.path(picture).read_bytes().startswith(b"\x89PNG")
    assert list(whole.path("tensorboard").rglob("events.*"))
    model = whole.load_model()
    again = recipe.evaluate(model, recipe.load(None), config, tmp_path)
    assert again["test_accuracy"] == pytest.approx(metrics["test_accuracy"])


def test_the_results_depend_on_the_seed(light, tmp_path):
    weights = []
    for n, seed in enumerate((3, 3, 4)):
        config, run = start(light, tmp_path / str(n), seed=seed)
        config = dataclasses.replace(config, epochs=1)
        train(light, config, run, light.load(None))
        weights.append(run.load_model().get_weights())
    for a, b, c in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.abs(a - c).max() > 0


@pytest.mark.usefixtures("no_pictures")
def test_a_resumed_run_equals_an_uninterrupted_one(recipe, whole, tmp_path, monkeypatch):
    """Weights, log and metrics: dropout, schedule, optimizer and the order of the data continue."""
    run = interrupted(recipe, tmp_path / "cut", monkeypatch, after_epochs=2)
    assert not run.finished
    run, config = Run.open(recipe, run.folder)
    environment = run.read_json("environment.json")
    environment["versions"]["keras"] = "3.0.0"
    run.write_json("environment.json", environment)
    output = io.StringIO()
    metrics = train(recipe, config, run, recipe.load(None), progress=Progress("lines", output))
    now = f"keras 3.0.0 (now {keras.__version__}); its results may differ"
    assert f"resumed with other versions than it was started with: {now}" in output.getvalue()
    assert metrics["resumed_at_epoch"] == 2
    assert metrics["test_loss"] == whole.read_json("metrics.json")["test_loss"]
    assert log_of(run.folder) == log_of(whole.folder)
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


def test_damaged_models_are_refused(light, tmp_path):
    config, run = start(light, tmp_path / "run", seed=1)
    with pytest.raises(RunError, match=r"model.keras is missing: the run has not finished"):
        run.load_model()
    train(light, dataclasses.replace(config, epochs=1), run, light.load(None))
    whole = run.path("model.keras").read_bytes()
    run.path("model.keras").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match=r"model\.keras is damaged"):
        run.load_model()


def test_unusable_folders_are_refused(light, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match=r"full is not empty"):
        start(light, tmp_path / "full")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(WriteError, match="file cannot be written: Not a directory"):
        start(light, tmp_path / "file")
    config, run = start(light, tmp_path / "run")
    train(light, dataclasses.replace(config, epochs=1), run, light.load(None))
    with pytest.raises(RunError, match="is finished"):
        train(light, config, run, light.load(None))


def test_a_run_in_training_is_locked(recipe, tmp_path):
    """It is neither trained by another process, nor overwritten by a new run."""
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


def test_the_commit_is_that_of_the_package(tmp_path, monkeypatch):
    """Not that of a project whose folder contains the environment with the package."""

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


def test_a_full_disk_leaves_the_last_checkpoint(light, tmp_path, monkeypatch):
    original = np.savez

    def save(file, **arrays):
        if next(v for k, v in arrays.items() if k.startswith("optimizer-0-")) > 8:
            file.write(b"half of")
            raise OSError(28, "No space left on device")
        return original(file, **arrays)

    config, run = start(light, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", save)
        with pytest.raises(WriteError, match=r"npz cannot be written: No space left on device"):
            train(light, config, run, light.load(None))
    left = sorted(path.name for path in run.path("checkpoint").iterdir())
    assert left == ["epoch-2-step-0.npz", "index.json"]
    assert train(light, config, run, light.load(None))["resumed_at_epoch"] == 2


def test_a_batch_larger_than_the_data_is_refused(light, tmp_path):
    config, run = start(light, tmp_path / "run")
    config = dataclasses.replace(config, batch_size=61)
    with pytest.raises(BatchError, match="batch_size=61: expected at most the 60"):
        train(light, config, run, light.load(None))


def test_runs_started_in_the_same_second(recipe, tmp_path):
    folders = []
    for _ in range(3):
        folders.append(runs.default_folder(recipe, tmp_path))
        folders[-1].mkdir(parents=True)
    assert len(set(folders)) == 3
