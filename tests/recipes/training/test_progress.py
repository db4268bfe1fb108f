"""What the command prints while a recipe is trained."""

import json

import pytest

from kerasrnn.__main__ import main
from kerasrnn.training.step import TrainingModel

pytestmark = pytest.mark.tensorflow


def test_the_command_in_json(recipe, tmp_path, monkeypatch, capsys):
    """Nothing else is printed, and everything is there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(TrainingModel, "compile_loops", lambda self: None)
    options = ["--units", "8", "--epochs", "2", "--batch-size", "15", "--cell", "simple_rnn"]
    assert main(["train", "japanese_vowels", *options, "--progress", "json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    names = [event["event"] for event in events]
    assert names == ["begin", "data", "summary", "epoch", "epoch", "end"]
    assert events[0]["config"]["units"] == 8
    assert (events[1]["training"], events[1]["test"]) == (60, 31)
    assert events[2]["steps"] == 4
    metrics = json.loads((tmp_path / events[1]["folder"] / "metrics.json").read_text())
    assert events[-1]["metrics"] == metrics
    assert metrics["peak_memory_of_process"] > 1e8
    capsys.readouterr()
    assert main(["train", "japanese_vowels", *options, "--progress", "none"]) == 0
    assert capsys.readouterr().out == ""
