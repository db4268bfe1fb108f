"""Searches: their files, how they end and are resumed, and invalid options."""

import csv
import json
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest

from kerasrnn.__main__ import main
from kerasrnn.files import LockedError, locked
from kerasrnn.recipes import tuning
from kerasrnn.recipes.base.errors import SourceError
from kerasrnn.recipes.base.execution import Execution
from kerasrnn.recipes.command.train import _read_config
from kerasrnn.recipes.tuning import oracles, search
from kerasrnn.training.errors import DivergenceError
from kerasrnn.training.loop import Loop
from tests.recipes.tuning.searching import TUNE, results

pytestmark = pytest.mark.tensorflow


def test_the_files_of_a_search(light, there, capsys):
    assert main([*TUNE, "--trials=2", "--output=found", "--progress=lines"]) == 0
    printed = capsys.readouterr().out
    trials = results("found")
    assert [trial["status"] for trial in trials] == ["completed"] * 2
    losses = [trial["value"] for trial in trials]
    assert losses == sorted(losses)
    for trial in trials:
        folder = there / "found" / "trials" / trial["trial"]
        with (folder / "log.csv").open(newline="") as file:
            log = list(csv.DictReader(file))
        assert float(log[-1]["val_loss"]) == trial["value"]
        assert trial["epoch"] == trial["epochs"] == len(log) == 2
        config = json.loads((folder / "config.json").read_text())["config"]
        assert config["validation"] == search.HELD_OUT
        assert {name: config[name] for name in trial["values"]} == trial["values"]
        assert not (folder / "checkpoint").exists()
        assert not (folder / "model.keras").exists()
        assert not (folder / "metrics.json").exists()  # the test data has not been read
    defaults = next(trial for trial in trials if trial["trial"] == "0000")["values"]
    assert defaults == {"learning_rate": 3e-3, "clipping": "global_norm", "clip_at": 1.0}

    with (there / "found" / "results.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [float(row["val_loss"]) for row in table] == losses
    assert [row["trial"] for row in table] == [trial["trial"] for trial in trials]
    shown = re.findall(r"^(\d{4})   (\d\.\d{4}) +2/2 ", printed, re.MULTILINE)
    assert shown == [(trial["trial"], f"{trial['value']:.4f}") for trial in trials]
    picture = there / "found" / "hyperparameters.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert f"plot: {Path('found') / picture.name}" in printed

    best = json.loads((there / "found" / "best.json").read_text())
    trained = json.loads((there / "found/trials" / trials[0]["trial"] / "config.json").read_text())
    # The final training uses all of the training data.
    assert best["config"] == {**trained["config"], "validation": 0.0}
    assert (
        main(["train", "japanese_vowels", "--config=found/best.json", "--output=run", "--epochs=1"])
        == 0
    )
    saved = json.loads((there / "run" / "config.json").read_text())
    assert saved["config"] == {**best["config"], "epochs": 1}
    assert _read_config(light, there / "run" / "config.json") == saved["config"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "best.json: expected JSON"),
        ("[]", "best.json: expected a search's best.json or a run's config.json"),
        ('{"recipe": "japanese_vowels"}', "expected a search's best.json or a run's config.json"),
        ('{"recipe": "g2p", "config": {}}', "belongs to the recipe g2p; expected japanese_vowels"),
        (
            '{"recipe": "japanese_vowels", "config": {"unit": 3}}',
            "best.json: option 'unit' does not exist; expected one of: epochs, ",
        ),
        (
            '{"recipe": "japanese_vowels", "config": {"units": "3"}}',
            "best.json: units='3': expected an integer, at least 1",
        ),
    ],
)
def test_invalid_configuration_files_are_refused(text, message, there, capsys):
    Path("best.json").write_text(text)
    assert main(["train", "japanese_vowels", "--config=best.json", "--output=run"]) == 1
    assert message in capsys.readouterr().err
    assert not Path("run").exists()


def test_the_configuration_file_is_missing_or_superfluous(there, capsys):
    assert main(["train", "japanese_vowels", "--config=none.json"]) == 1
    assert "--config none.json cannot be read: No such file or directory" in capsys.readouterr().err
    options = ["--config=none.json", "--resume", "--output=run"]
    assert main(["train", "japanese_vowels", *options]) == 1
    assert "--config: a resumed run keeps its configuration" in capsys.readouterr().err


def test_failed_trials_are_listed(recipe, there, capsys, fits):
    attempts = []

    def loss(config):
        attempts.append(config)
        if len(attempts) == 1:
            raise DivergenceError("the loss is not finite")
        if len(attempts) == 2:
            raise MemoryError
        return float("nan") if len(attempts) == 3 else 0.5

    fits(loss)
    assert main([*TUNE, "--trials=4", "--output=found"]) == 0
    printed = capsys.readouterr().out
    assert [trial["status"] for trial in results("found")] == ["completed"] + ["failed"] * 3
    lines = printed.splitlines()
    assert "0000  failed: DivergenceError: the loss is not finite (learning_rate 0.003, " in printed
    assert any(line.startswith("0001  failed: MemoryError (") for line in lines)
    assert any("0002  failed: TrialFailedError: val_loss is nan in epoch 1" in x for x in lines)
    error = there / "found" / "trials" / "0000" / "error.txt"
    assert "Traceback" in error.read_text()
    assert json.loads((there / "found" / "best.json").read_text())["found"]["trial"] == "0003"


def test_a_search_ends_if_all_trials_fail(recipe, there, capsys, fits):
    def loss(config):
        raise ValueError("no such thing")

    trained = fits(loss)
    assert main([*TUNE, "--trials=20", "--output=found"]) == 1
    assert len(trained) == oracles.HOPELESS
    assert "none of 5 trials succeeded; the last failed with: ValueError: no such thing" in (
        capsys.readouterr().err
    )


def test_an_error_of_the_data_ends_the_search(recipe, there, capsys, fits):
    def loss(config):
        raise SourceError("the archive is gone")

    trained = fits(loss)
    assert main([*TUNE, "--output=found"]) == 1
    assert len(trained) == 1
    assert "kerasrnn: the archive is gone" in capsys.readouterr().err
    trained = fits(lambda config: 0.1)
    assert main([*TUNE, "--output=found", "--resume", "--trials=2"]) == 0
    assert len(trained) == 2  # the trial that met the error is repeated
    assert [trial["status"] for trial in results("found")] == ["completed"] * 2


def test_a_budget_in_minutes(recipe, there, monkeypatch, fits):
    now = [0.0]

    def loss(config):
        now[0] += 25.0
        return 0.5

    trained = fits(loss)
    monkeypatch.setattr(oracles.time, "monotonic", lambda: now[0])
    assert main([*TUNE, "--minutes=1", "--output=found"]) == 0
    assert len(trained) == 3  # started after 0, 25 and 50 seconds
    assert main([*TUNE, "--minutes=1", "--trials=2", "--output=two"]) == 0
    assert len(trained) == 5


# Bayesian optimization, which takes seconds a trial, begins with the fifth one.
@pytest.mark.parametrize(("algorithm", "trials"), [("random", 9), ("bayesian", 6)])
def test_the_best_is_found(algorithm, trials, recipe, there, fits):
    """The loss is lowest at a learning rate of 0.01, which is not the default."""

    def loss(config):
        return abs(np.log10(config.learning_rate) + 2) + 0.1 * (config.clipping == "none")

    trained = fits(loss)
    options = [f"--algorithm={algorithm}", f"--trials={trials}", "--output=found"]
    assert main([*TUNE, *options]) == 0
    best = json.loads(Path("found/best.json").read_text())
    assert best["found"]["val_loss"] == min(map(loss, trained)) < 0.2 < loss(trained[0])
    assert best["config"]["learning_rate"] == min(trained, key=loss).learning_rate
    assert len(set(trained)) == trials
    assert all(3e-4 <= config.learning_rate <= 3e-2 for config in trained)


def test_hyperband_trains_the_best_for_longer(recipe, there, fits):
    trained = fits(lambda config: abs(np.log10(config.learning_rate) + 2) / config.epochs)
    options = ["--epochs=9", "--algorithm=hyperband", "--output=found"]
    assert main([*TUNE, *options]) == 0
    epochs = [config.epochs for config in trained]
    # The brackets of Li et al. for nine epochs, which keep a third of the trials each time.
    assert {n: epochs.count(n) for n in (1, 3, 9)} == {1: 9, 3: 3 + 5, 9: 1 + 2 + 3}
    best = json.loads(Path("found/best.json").read_text())["config"]
    assert best["epochs"] == 9
    short = trained[:9]
    longer = [config.learning_rate for config in trained if config.epochs == 3][:3]
    ranked = sorted(short, key=lambda config: abs(np.log10(config.learning_rate) + 2))
    assert longer == [config.learning_rate for config in ranked[:3]]


def test_another_objective(recipe, there, fits):
    fits(lambda config: config.learning_rate)
    assert main([*TUNE, "--objective=val_accuracy", "--trials=4", "--output=found"]) == 0
    values = [trial["value"] for trial in results("found")]
    assert values == sorted(values, reverse=True)


def test_the_measured_epoch():
    rows = [
        {"epoch": n, "val_loss": loss, "val_accuracy": accuracy}
        for n, (loss, accuracy) in enumerate([(float("nan"), 0.1), (0.3, 0.6), (0.4, 0.8)])
    ]
    assert tuning.measured(rows, "val_loss", "last") == (0.4, 3)
    assert tuning.measured(rows, "val_loss", "best") == (0.3, 2)
    assert tuning.measured(rows, "val_accuracy", "best") == (0.6, 2)
    with pytest.raises(tuning.TrialFailedError, match="val_loss is nan in epoch 1"):
        tuning.measured(rows[:1], "val_loss", "best")


def test_an_interrupted_search_is_resumed(light, there, capsys, monkeypatch, fits):
    """Its training resumes with the same values; a later search may have more trials."""
    original = Loop.train

    def until(self, batches, steps):
        os.kill(os.getpid(), signal.SIGTERM)
        return original(self, batches, steps)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "train", until)
        assert main([*TUNE, "--trials=1", "--search-seed=3", "--output=found"]) == 143
    message = (
        "stopped with 0 trials done; resume with: kerasrnn tune japanese_vowels --resume --out"
    )
    assert message in capsys.readouterr().err
    (before,) = results("found")
    assert before["status"] == "running"
    assert not (there / "found" / "best.json").exists()
    assert main(["tune", "japanese_vowels", "--resume", "--output=found"]) == 0
    (after,) = results("found")
    assert (after["status"], after["values"]) == ("completed", before["values"])
    sessions = (there / "found/trials/0000/sessions.jsonl").read_text().splitlines()
    assert [json.loads(line)["ended"][:11] for line in sessions] == ["Interrupted", "finished"]
    trained = fits(lambda config: 9.0)
    assert main(["tune", "japanese_vowels", "--resume", "--output=found", "--trials=3"]) == 0
    assert len(trained) == 2
    assert [trial["trial"] for trial in results("found")] == ["0000", "0001", "0002"]


def test_a_running_search_is_locked(recipe, there):
    tuning.Search.create(
        recipe, there / "found", {}, tuning.SearchOptions(trials=2), Execution(), None
    )
    before = sorted((there / "found").rglob("*"))
    with locked(there / "found", "searching"), pytest.raises(LockedError) as error:
        tuning.tune(recipe, there / "found", resume=True)
    assert str(error.value).startswith(f"{there / 'found'} is in use: searching by process ")
    assert sorted((there / "found").rglob("*")) == before


def test_invalid_options_are_refused(recipe, there, capsys):
    for options, message in (
        (["--trials=0"], "trials=0: expected at least 1, or a budget of minutes"),
        (["--objective=val_bleu"], "objective='val_bleu': expected one of val_loss, val_accuracy"),
        (
            ["--learning-rate=0.1", "--clipping=none"],
            "all options of the search space are fixed",
        ),
        (["--clipping=none", "--clip-at=2"], "clip_at=2.0: expected 1.0"),
        (["--batch-size=53"], "batch_size=53: expected at most the 51"),
        (["--strategy=multiworker"], "strategy='multiworker': expected another"),
        (["--resume"], "--resume: expected the search's folder in --output"),
        (["--resume", "--output=nowhere"], "nowhere is not a search's folder"),
    ):
        assert main([*TUNE, *options]) == 1
        assert message in capsys.readouterr().err
    assert not list(there.iterdir())


def test_a_search_is_resumed_with_its_options(recipe, there, capsys, fits):
    fits(lambda config: 0.5)
    assert main([*TUNE, "--trials=1", "--output=found"]) == 0
    assert main([*TUNE, "--output=found"]) == 1
    assert "found is not empty" in capsys.readouterr().err
    resume = ["tune", "japanese_vowels", "--resume", "--output=found"]
    for option, message in (
        ("--units=5", "units=5: the search in found has 4"),
        ("--seed=5", "seed=5: the search in found has no fixed value"),
        ("--algorithm=bayesian", "algorithm=bayesian: the search in found has random"),
    ):
        assert main([*resume, option]) == 1
        assert message in capsys.readouterr().err
    assert main(["tune", "reverse", "--resume", "--output=found"]) == 1
    assert "is not a search of the recipe reverse" in capsys.readouterr().err
    (there / "found" / "search.json").write_text('{"recipe": "japanese_vowels"}')
    assert main(resume) == 1
    assert "search.json is damaged" in capsys.readouterr().err


def test_help_shows_the_space(capsys):
    with pytest.raises(SystemExit) as exit:
        main(["tune", "japanese_vowels", "--help"])
    assert exit.value.code == 0
    printed = capsys.readouterr().out
    for text in ("--minutes", "--clip-at", "units             16 to 256, times 2", "yes or no"):
        assert text in printed
