"""Which trained model a command uses: of a run, or of the library."""

import dataclasses
import errno
import json
import os
import pathlib
import re

import pytest

from kerasrnn import recipes, zoo
from kerasrnn.__main__ import main

pytestmark = pytest.mark.tensorflow


def test_without_any_trained_model(there, capsys):
    """And the library has no model of the recipe."""
    for options in ([], ["--zoo"]):
        assert main(["evaluate", "long_memory", *options]) == 1
        assert (
            "long_memory has no finished run under runs/, and the library includes no pretrained "
            "model for it: train one with `kerasrnn train long_memory`"
        ) in capsys.readouterr().err
    assert main(["predict", "long_memory"]) == 1
    assert "nothing to predict" in capsys.readouterr().err


def test_the_model_of_the_library(there, capsys):
    """It is used if there is no run, and with `--zoo`."""
    review = ["predict", "movie_sentiment", "Dull, dull, dull."]
    for options in ([], ["--zoo"]):
        assert main([*review, *options]) == 0
        printed = capsys.readouterr()
        assert printed.out.startswith("Dull, dull, dull.: negative: ")
        model = r"model: \S+saved_models/movie_sentiment \(included in the library\)\n"
        assert re.fullmatch(model, printed.err)
    with pytest.raises(SystemExit):
        main([*review, "--zoo", "--run", "here"])
    assert "--run: not allowed with argument --zoo" in capsys.readouterr().err


def finished(folder, recipe, age, config=None):
    """A run's folder, as a finished run leaves it but for the model."""
    folder.mkdir(parents=True)
    saved = {"recipe": recipe.name, "config": config or dataclasses.asdict(recipe.tiny())}
    (folder / "config.json").write_text(json.dumps(saved))
    (folder / "metrics.json").write_text("{}")
    os.utime(folder / "metrics.json", (1e9 - age, 1e9 - age))


def test_the_newest_finished_run_below_runs_is_used(there, capsys):
    recipe, other = recipes.load("movie_sentiment"), recipes.load("japanese_vowels")
    review = ["predict", "movie_sentiment", "Dull."]
    runs = there / "runs"
    finished(runs / "movie_sentiment" / "old", recipe, age=9)
    finished(runs / "mine", recipe, age=5)
    finished(runs / "deep" / "er" / "still", recipe, age=7)
    finished(runs / "other", other, age=1)
    finished(runs / "unfinished", recipe, age=0)
    (runs / "unfinished" / "metrics.json").unlink()
    finished(runs / "elsewhere", recipe, age=0)
    (runs / "elsewhere" / "config.json").write_text('{"model": "of another program"}')
    finished(runs / "damaged", recipe, age=0)
    (runs / "damaged" / "config.json").write_text('{"model": ')
    for command in (review, ["evaluate", "movie_sentiment"], ["export", "movie_sentiment"]):
        assert main(command) == 1  # these runs have no model file
        errors = capsys.readouterr().err.splitlines()
        assert errors[0] == "model: runs/mine (the newest finished run under runs/)"
    assert main([*review, "--run", "runs/deep/er/still"]) == 1
    assert capsys.readouterr().err.startswith("model: runs/deep/er/still\n")
    # `kerasrnn runs` shows the same ones, and the others.
    assert main(["runs", "--json"]) == 0
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {run["folder"] for run in shown if run["recipe"] == "movie_sentiment"} == {
        "movie_sentiment/old",
        "mine",
        "deep/er/still",
        "unfinished",
    }
    assert [run["folder"] for run in shown if run["state"].startswith("damaged")] == ["damaged"]
    # A newer run that this version cannot read is an error; no other run replaces it.
    finished(runs / "newer", recipe, age=1, config={"option_of_another_version": 1})
    assert main(review) == 1
    assert "option 'option_of_another_version' does not exist" in capsys.readouterr().err
    assert main([*review, "--zoo"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("Dull.: negative: ")
    assert printed.err.endswith("saved_models/movie_sentiment (included in the library)\n")


def test_files_without_read_permission_are_reported_as_such(there, monkeypatch, capsys):
    """Not as missing or damaged. Root can read everything, so the calls are replaced."""
    finished(there / "run", recipes.load("reverse"), age=0)
    (there / "run" / "metadata.json").write_text("{}")
    (there / "run" / "model.keras").touch()

    def read(hidden, *command):
        def opened(path, *arguments, **options):
            if path.name == hidden:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return original(path, *arguments, **options)

        with monkeypatch.context() as patch:
            original = pathlib.Path.open
            patch.setattr(pathlib.Path, "open", opened)
            assert main(list(command)) == 1
        return capsys.readouterr().err.splitlines()[-1]

    for name in ("config.json", "model.keras"):
        error = read(name, "predict", "reverse", "abc", "--run", "run")
        assert error == f"kerasrnn: run/{name} cannot be read: Permission denied."
    error = read("best.json", "train", "reverse", "--config", "best.json")
    assert error == "kerasrnn: --config best.json cannot be read: Permission denied."
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert main(["runs", "run"]) == 1
    assert capsys.readouterr().err == "kerasrnn: run cannot be read: Permission denied.\n"


def test_nothing_is_written_to_the_folder_of_a_trained_model(recipe, there, capsys):
    before = sorted(zoo.folder("japanese_vowels").iterdir())
    assert main(["evaluate", "japanese_vowels"]) == 0
    assert "test accuracy: " in capsys.readouterr().out
    assert not list(there.iterdir())
    assert main(["evaluate", "japanese_vowels", "--output", "here"]) == 0
    assert "plot:  here/confusion_matrix.png" in capsys.readouterr().out
    assert main(["evaluate", "japanese_vowels", "--output", "here"]) == 1
    assert "--output here: expected a new or an empty folder" in capsys.readouterr().err
    assert main(["export", "japanese_vowels", "--formats", "onnx"]) == 0
    assert (there / "export" / "japanese_vowels" / "model.onnx").is_file()
    assert sorted(zoo.folder("japanese_vowels").iterdir()) == before
