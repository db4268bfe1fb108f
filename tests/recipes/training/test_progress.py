"""The output of the command while a recipe is trained."""

import json

import pytest

from kerasrnn.__main__ import main

pytestmark = pytest.mark.tensorflow


@pytest.mark.usefixtures("light")
def test_the_command_in_json(tmp_path, monkeypatch, capsys):
    """All events are printed, and nothing else."""
    monkeypatch.chdir(tmp_path)
    options = ["--units", "8", "--epochs", "2", "--batch-size", "15"]
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
