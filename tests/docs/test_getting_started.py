"""The commands of `docs/getting_started.md`, as they stand there; its Python runs as a doctest."""

import configparser
import re
import shlex
from pathlib import Path

import pytest

from kerasrnn.__main__ import main

ROOT = Path(__file__).parents[2]
LINES = [
    shlex.split(line)
    for block in re.findall(
        r"```sh\n(.*?)```", (ROOT / "docs" / "getting_started.md").read_text("utf-8"), re.DOTALL
    )
    for line in block.splitlines()
]


def test_what_is_installed_exists():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    (package,) = (line[2] for line in LINES if line[:2] == ["pip", "install"])
    extras = re.fullmatch(r"kerasrnn\[(.*)\]", package)[1].split(",")
    assert set(extras) <= set(setup["options.extras_require"])


@pytest.mark.tensorflow
@pytest.mark.slow
def test_the_commands_run(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "first"
    said = {}
    for line in LINES:
        if line[0] == "pip":
            continue
        assert line[0] == "kerasrnn"
        if "--resume" in line:
            # As if it had been stopped before it was judged.
            (run / "metrics.json").unlink()
        assert main(line[1:]) == 0, capfd.readouterr().err
        said[line[1]] = capfd.readouterr().out
    assert sorted(said) == ["evaluate", "export", "list", "predict", "train"]
    assert "resumed at epoch: 2" in said["train"]
    assert re.search("^abcde: ", said["predict"], re.MULTILINE)
    assert (run / "export" / "greedy.onnx").is_file()
