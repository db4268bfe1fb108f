"""The command line, as a user types it."""

import dataclasses
import re
import subprocess
import sys

import numpy as np
import pytest

from kerasrnn import recipes, zoo
from kerasrnn.__main__ import main
from kerasrnn.recipes.command.arguments import lines_of
from kerasrnn.recipes.datasets.sources import SourceError
from kerasrnn.recipes.runs import Run

pytestmark = pytest.mark.tensorflow
TRAIN = ["train", "japanese_vowels", "--units", "8", "--epochs", "2", "--batch-size", "15"]


@pytest.fixture
def there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_main_job(recipe, there, capsys):
    """Train, evaluate, predict, export; each finds the run of the one before."""
    assert main([*TRAIN, "--learning-rate", "0.03"]) == 0
    printed = capsys.readouterr().out
    accuracy = re.search(r"test accuracy: (0\.\d+|1\.0+)", printed).group(1)
    (folder,) = (there / "runs" / "japanese_vowels").iterdir()
    assert f"run folder: runs/japanese_vowels/{folder.name}" in printed
    assert "picture: " in printed

    assert main(["evaluate", "japanese_vowels"]) == 0
    assert f"test accuracy: {accuracy}" in capsys.readouterr().out

    np.savetxt(there / "one.csv", np.ones((9, 12)), delimiter=",")
    np.savetxt(there / "two.txt", np.ones((7, 12)))
    # Inputs before options and after them.
    run = ["--run", str(folder)]
    assert (
        main(["predict", "japanese_vowels", "one.csv", "--test", "0", "30", *run, "two.txt"]) == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "one.csv",
        "two.txt",
        "test example 0",
        "test example 30",
    ]
    assert re.fullmatch(r"one.csv: speaker \d: [\d.]+%, speaker \d: [\d.]+%, .*", lines[0])

    assert main(["predict", "japanese_vowels", "--test", "31"]) == 1
    assert "--test 31: expected 0 to 30" in capsys.readouterr().err

    assert main(["export", "japanese_vowels", "--run", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("largest difference from the Keras model over 8 batches") == 2
    assert (folder / "export" / "model.onnx").is_file()
    assert (folder / "export" / "model.saved_model" / "saved_model.pb").is_file()
    assert main(["export", "japanese_vowels", "--tolerance", "-1"]) == 1
    assert "differs from the Keras model by up to" in capsys.readouterr().err

    formats = ["--formats", "litert", "--step", "--output", "phone"]
    assert main(["export", "japanese_vowels", *formats]) == 0
    assert capsys.readouterr().out.count("LiteRT: phone/") == 2
    assert (there / "phone" / "step.tflite").is_file()


def test_resuming(recipe, there, capsys):
    assert main([*TRAIN, "--output", "here"]) == 0
    assert main([*TRAIN, "--output", "here"]) == 1
    assert "here is not empty: choose another --output" in capsys.readouterr().err
    assert main(["train", "japanese_vowels", "--output", "here", "--resume"]) == 1
    assert "here is finished" in capsys.readouterr().err
    (there / "here" / "metrics.json").unlink()
    assert main([*TRAIN, "--output", "here", "--resume", "--units", "9"]) == 1
    assert "--units 9: the run in here has 8" in capsys.readouterr().err
    assert main(["train", "japanese_vowels", "--output", "here", "--resume"]) == 0
    assert "resumed at epoch: 2" in capsys.readouterr().out
    assert main([*TRAIN, "--resume"]) == 1
    assert "name the run's folder with --output" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["traim"], "invalid choice: 'traim' (choose from"),
        (["train", "vowels"], "invalid choice: 'vowels' (choose from"),
        (
            [*TRAIN, "--cell", "lstmm"],
            "'lstmm': expected one of simple_rnn, lstm, gru, peephole_lstm",
        ),
        ([*TRAIN, "--epochs", "0"], "'0': expected an integer, at least 1"),
        ([*TRAIN, "--epochs", "many"], "'many': expected an integer, at least 1"),
        ([*TRAIN, "--dropout", "1"], "'1': expected a number, at least 0.0 and below 1.0"),
        ([*TRAIN, "--epoch", "3"], "unrecognized arguments: --epoch"),
        ([*TRAIN, "more"], "unrecognized arguments: more"),
        (
            ["predict", "japanese_vowels", "a.csv", "--frames", "b.csv"],
            "unrecognized arguments: --frames b.csv",
        ),
    ],
)
def test_what_is_not_understood(arguments, message, there, capsys):
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    assert exit.value.code == 2
    assert message in capsys.readouterr().err
    assert not list(there.iterdir())


def test_help_says_every_option(capsys):
    with pytest.raises(SystemExit) as exit:
        main(["train", "japanese_vowels", "--help"])
    assert exit.value.code == 0
    printed = capsys.readouterr().out
    for word in ("--cell", "--bidirectional", "--mirror", "Kudo", "default: 80"):
        assert word in printed


def test_list(capsys):
    assert main(["list"]) == 0
    assert "japanese_vowels" in capsys.readouterr().out


def test_a_reader_that_stops_is_no_error():
    command = [sys.executable, "-m", "kerasrnn", "list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()  # before anything is written
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_what_is_refused_leaves_nothing(recipe, there, capsys, monkeypatch):
    assert main([*TRAIN, "--batch-size", "61"]) == 1
    assert "batch_size=61: expected at most the 60" in capsys.readouterr().err
    assert main([*TRAIN, "--mirror", "nowhere"]) == 1
    assert "--mirror nowhere: expected a folder" in capsys.readouterr().err

    def broken(self, config, data_dir=None):
        raise SourceError("the archive is not the pinned one")

    monkeypatch.setattr(type(recipe), "load", broken)
    assert main([*TRAIN, "--output", "here"]) == 1
    assert "kerasrnn: the archive is not the pinned one" in capsys.readouterr().err
    assert not list(there.iterdir())


def test_nothing_trained_yet(there, capsys):
    """Where no trained model comes with the library either."""
    for options in ([], ["--zoo"]):
        assert main(["evaluate", "long_memory", *options]) == 1
        assert (
            "long_memory has no finished run below runs/, and no trained model comes with the "
            "library: train one with `kerasrnn train long_memory`"
        ) in capsys.readouterr().err
    assert main(["predict", "long_memory"]) == 1
    assert "nothing to predict" in capsys.readouterr().err


def test_trained_models_come_with_the_library(there, capsys):
    """Where nothing was trained, and where something was, if it is asked for."""
    review = ["predict", "movie_sentiment", "Dull, dull, dull."]
    for options in ([], ["--zoo"]):
        assert main([*review, *options]) == 0
        printed = capsys.readouterr()
        assert printed.out.startswith("Dull, dull, dull.: negative: ")
        assert re.fullmatch(r"model: \S+saved_models/movie_sentiment\n", printed.err)
    with pytest.raises(SystemExit):
        main([*review, "--zoo", "--run", "here"])
    assert "not allowed with argument --zoo" in capsys.readouterr().err
    (there / "runs" / "movie_sentiment" / "mine").mkdir(parents=True)
    (there / "runs" / "movie_sentiment" / "mine" / "metrics.json").write_text("{}")
    assert main(review) == 1
    assert "movie_sentiment/mine is not a run folder" in capsys.readouterr().err
    assert main([*review, "--zoo"]) == 0


def test_nothing_is_written_beside_a_trained_model(recipe, there, capsys):
    before = sorted(zoo.folder("japanese_vowels").iterdir())
    assert main(["evaluate", "japanese_vowels"]) == 0
    assert "picture: evaluation/japanese_vowels/confusion_matrix.png" in capsys.readouterr().out
    assert main(["export", "japanese_vowels", "--formats", "onnx"]) == 0
    assert (there / "export" / "japanese_vowels" / "model.onnx").is_file()
    assert sorted(zoo.folder("japanese_vowels").iterdir()) == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "u.txt: expected text; found none"),
        ("1 2 3\n", "line 1: expected 12 coefficients; found 3"),
        ("1 " * 12 + "\n\n" + "nan " * 12, "line 3: expected finite numbers"),
        ("1 " * 11 + "x", "line 1: could not convert string to float: 'x'"),
        (None, "cannot be read"),
    ],
)
def test_files_that_are_no_utterance(text, message, recipe, there, capsys):
    if text is not None:
        (there / "u.txt").write_text(text)
    assert main(["predict", "japanese_vowels", "u.txt"]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "movie_sentiment", "--run", "here"],
        ["export", "movie_sentiment", "--run", "here"],
        ["predict", "movie_sentiment", "--run", "here", "--test", "0"],
        ["train", "movie_sentiment", "--output", "here", "--resume"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_file_of_ones_own_that_changed_is_noticed(arguments, there, capsys):
    """Before the model is loaded or made."""
    recipe = recipes.load("movie_sentiment")
    file = there / "mine.tsv"
    lines = [f"{'good' if n % 2 else 'bad'}\tfilm number {n}" for n in range(40)]
    file.write_text("\n".join(lines), encoding="utf-8")
    Run.create(recipe, dataclasses.replace(recipe.tiny(), data="mine.tsv"), "here")
    file.write_text("\n".join(lines[1:]), encoding="utf-8")
    assert main(arguments) == 1
    assert "mine.tsv has changed since here was begun with it" in capsys.readouterr().err
    file.unlink()
    assert main(arguments) == 1
    assert "mine.tsv" in capsys.readouterr().err
    assert sorted(path.name for path in (there / "here").iterdir()) == ["config.json"]


def test_small_metrics_are_not_rounded_away():
    lines = lines_of(
        {"test_loss": 3.04e-6, "test_f1": 0.95958, "parameters": 70367, "seconds": 12.345}
    )
    assert lines == [
        "test loss: 3.04e-06",
        "test f1: 0.9596",
        "parameters: 70367",
        "seconds: 12.3",
    ]
