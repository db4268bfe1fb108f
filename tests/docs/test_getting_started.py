"""The commands of `docs/getting_started.md`; its Python examples run as doctests."""

import configparser
import functools
import re
import shlex
from pathlib import Path

import pytest

from kerasrnn.__main__ import main
from kerasrnn.export import Report
from kerasrnn.recipes import reverse
from kerasrnn.recipes.base import runs
from tests.recipes import quick

ROOT = Path(__file__).parents[2]
LINES = [
    shlex.split(line)
    for block in re.findall(
        r"```sh\n(.*?)```", (ROOT / "docs" / "getting_started.md").read_text("utf-8"), re.DOTALL
    )
    for line in block.splitlines()
]


def test_the_extras_exist():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    (package,) = (line[-1] for line in LINES if line[:2] == ["pip", "install"])
    extras = re.fullmatch(r"\.\[(.*)\]", package)[1].split(",")
    assert set(extras) <= set(setup["options.extras_require"])


def to_empty_file(model, path, **options):
    path.touch()
    return Report(path, "ONNX", 0, 0, None)


@pytest.mark.tensorflow
def test_the_commands_run(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    # With 500 strings, each evaluation would take longer than the training.
    monkeypatch.setattr(reverse, "HELD_OUT", 16)
    # The commands after the training share one model.
    monkeypatch.setattr(runs, "load_model", functools.cache(runs.load_model))
    # tests/recipes/test_every_recipe.py exports this recipe.
    monkeypatch.setattr("kerasrnn.export.onnx.to_onnx", to_empty_file)
    run = tmp_path / "runs" / "first"
    printed = {}
    for line in LINES:
        if line[0] == "pip":
            continue
        assert line[0] == "kerasrnn"
        if "--resume" in line:
            # As if it had been stopped before the evaluation.
            (run / "metrics.json").unlink()
        with quick.uncompiled():
            assert main(line[1:]) == 0, capfd.readouterr().err
        printed[line[1]] = capfd.readouterr().out
    assert sorted(printed) == ["evaluate", "export", "list", "predict", "train"]
    assert "resumed at epoch: 2" in printed["train"]
    assert re.search("^abcde: ", printed["predict"], re.MULTILINE)
    assert (run / "export" / "greedy.onnx").is_file()
