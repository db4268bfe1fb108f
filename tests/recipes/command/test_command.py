"""The command line, as a user types it."""

import dataclasses
import errno
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasrnn import files, recipes, zoo
from kerasrnn.__main__ import main
from kerasrnn.export import Report
from kerasrnn.export.formats import FORMATS, Format
from kerasrnn.files import LockedError, OccupiedError, WriteError
from kerasrnn.recipes.base.runs import Run
from kerasrnn.recipes.command import predict, train
from kerasrnn.recipes.command.arguments import below_baselines, lines_of
from kerasrnn.recipes.command.predict import places_of
from kerasrnn.recipes.datasets.sources import SourceError
from kerasrnn.recipes.reporting import exporting
from kerasrnn.training.progress import size

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

    assert main(["export", "japanese_vowels"]) == 0
    printed, said = capsys.readouterr()
    assert f"model: runs/japanese_vowels/{folder.name} (the newest finished run" in said
    assert printed.count("largest difference from the Keras model over 8 batches") == 2
    assert (folder / "export" / "model.onnx").is_file()
    assert (folder / "export" / "model.saved_model" / "saved_model.pb").is_file()
    assert main(["export", "japanese_vowels", "--tolerance", "1e-12"]) == 1
    assert "differs from the Keras model by up to" in capsys.readouterr().err

    formats = ["--formats", "litert", "--step", "--output", "phone"]
    assert main(["export", "japanese_vowels", *formats]) == 0
    assert capsys.readouterr().out.count("LiteRT: phone/") == 2
    assert (there / "phone" / "step.tflite").is_file()


def test_resuming(recipe, there, capsys):
    assert main([*TRAIN, "--output", "here"]) == 0
    assert main([*TRAIN, "--output", "here"]) == 1
    assert "here is not empty: choose another --output" in capsys.readouterr().err
    capsys.readouterr()
    before = {path: path.stat().st_mtime_ns for path in (there / "here").rglob("*")}
    assert main(["train", "japanese_vowels", "--output", "here", "--resume"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("here is already finished.\n")
    assert "test accuracy: " in printed
    assert {path: path.stat().st_mtime_ns for path in (there / "here").rglob("*")} == before
    (there / "here" / "metrics.json").unlink()
    assert main([*TRAIN, "--output", "here", "--resume", "--units", "9"]) == 1
    assert "--units 9: the run in here has 8" in capsys.readouterr().err
    assert main(["train", "japanese_vowels", "--output", "here", "--resume"]) == 0
    assert "resumed at epoch: 2" in capsys.readouterr().out
    assert main([*TRAIN, "--resume"]) == 1
    assert "expected the run's folder in --output" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["traim"], "COMMAND 'traim': expected one of list, runs, .*; did you mean train?"),
        (["train"], "expected RECIPE: see kerasrnn train --help"),
        (["predict"], "expected RECIPE: see kerasrnn predict --help"),
        (
            ["train", "vowels"],
            "RECIPE 'vowels': expected one of bach_chorales, .*, word_segmentation.",
        ),
        (
            ["evaluate", "japanese_vowel"],
            "RECIPE 'japanese_vowel': expected one of .*; did you mean japanese_vowels?",
        ),
        (
            [*TRAIN, "--cell", "lstmm"],
            "--cell 'lstmm': expected one of gru, .*; did you mean lstm?",
        ),
        ([*TRAIN, "--cell", "GRU"], "--cell 'GRU': expected one of .*; did you mean gru?"),
        ([*TRAIN, "--progress", "jso"], "--progress 'jso': expected one of .*; did you mean json?"),
        ([*TRAIN, "--epochs", "0"], "--epochs '0': expected an integer, at least 1."),
        ([*TRAIN, "--epochs", "many"], "--epochs 'many': expected an integer, at least 1."),
        (
            [*TRAIN, "--dropout", "1"],
            "--dropout '1': expected a finite number, at least 0.0 and below 1.0.",
        ),
        (
            [*TRAIN, "--seed", "9" * 400],
            "--seed '9{39}... (402 characters): expected an integer, at least 0 and at most .*",
        ),
        ([*TRAIN, "--seed", "9" * 5000], "--seed '9{39}... (5002 characters): expected an .*"),
        (
            [*TRAIN, "--epoch", "3"],
            "'--epoch' is not a known argument; did you mean --epochs? All options: kerasrnn train "
            "japanese_vowels --help",
        ),
        (
            [*TRAIN, "--zzz=3", "more"],
            "'--zzz=3' is not a known argument. All options: kerasrnn train japanese_vowels --help",
        ),
        ([*TRAIN, "more"], "'more' is not a known argument. All options: .*"),
        (
            ["predict", "japanese_vowels", "a.csv", "--output", "here"],
            None,
        ),
        (
            ["predict", "g2p", "a", "--beem", "b"],
            "'--beem' is not a known argument; did you mean --beam? All options: kerasrnn "
            "predict g2p --help",
        ),
        (["runs", "--jsn"], "'--jsn' is not a known argument; did you mean --json? .*"),
        ([*TRAIN, "--output", ""], "--output '': expected a path."),
        (["predict", "g2p", "a", "--output="], "--output '': expected a path."),
        (
            [*TRAIN, "--output", "caf\udce9"],
            "--output 'caf\\udce9': expected a path in UTF-8.",
        ),
        (["evaluate", "g2p", "--data-dir", ""], "--data-dir '': expected a path."),
        (["export", "g2p", "--tolerance"], "--tolerance: expected one argument"),
        (["export", "g2p", "--tolerance", "nan"], "--tolerance 'nan': expected a finite n.*"),
        (
            [*TRAIN, "--learning-rate", "inf"],
            "--learning-rate 'inf': expected a finite number, a.*",
        ),
        (
            [*TRAIN, "--strategy", "gpu"],
            "--strategy 'gpu': expected one of auto, one, mirrored, multiworker, tpu.",
        ),
        (["runs", ""], "FOLDER '': expected a path."),
        (["predict", "g2p", "--test", "one"], "--test 'one': expected the number of a test .*"),
    ],
)
def test_what_is_not_understood(arguments, message, there, capsys):
    """One line, with what was probably meant."""
    if message is None:
        assert main(arguments) == 1
        message = "--output here: the recipe japanese_vowels writes no files."
    else:
        with pytest.raises(SystemExit) as exit:
            main(arguments)
        assert exit.value.code == 2
    message = re.escape(message).replace(r"\.\*", ".*").replace(r"9\{39\}", "9{39}")
    assert re.fullmatch(f"kerasrnn: {message}\n", capsys.readouterr().err)
    assert not list(there.iterdir())


def test_nothing_at_all_is_answered_with_the_commands(capsys):
    with pytest.raises(SystemExit) as exit:
        main([])
    assert exit.value.code == 2
    assert "compare the runs" in capsys.readouterr().err


def test_a_folder_may_be_called_like_a_recipe(there, capsys):
    """The options are those of the recipe all the same."""
    with pytest.raises(SystemExit):
        main(["train", "--output", "g2p", "japanese_vowels", "--units", "x"])
    assert "--units 'x': expected an integer" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["train", "--output", "g2p", "japanese_vowels", "--attention", "none"])
    assert "'--attention' is not a known argument" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("[" * 200_000 + "]" * 200_000, "its values are nested too deeply"),
        ('{"seed": ' + "9" * 5000 + "}", "it has a number of thousands of digits"),
        ('{"seed": ' + "9" * 400 + "}", "seed=9{40}... (400 characters): expected an integer"),
        ('{"seed": ', "expected JSON; Expecting"),
    ],
    ids=["deep", "digits", "large", "cut"],
)
def test_files_of_options_that_cannot_be_read(config, message, there, capsys):
    (there / "best.json").write_text('{"recipe": "g2p", "config": ' + config + "}")
    (there / "run").mkdir()
    (there / "run" / "config.json").write_text((there / "best.json").read_text())
    message = re.escape(message).replace(r"9\{40\}", "9{40}")
    assert main(["train", "g2p", "--config", "best.json"]) == 1
    assert re.match(f"kerasrnn: --config best.json: .*{message}", capsys.readouterr().err)
    assert main(["evaluate", "g2p", "--run", "run"]) == 1
    said = capsys.readouterr().err
    assert re.match("kerasrnn: run/config.json.* ", said)
    assert re.search(message.removeprefix(re.escape("expected JSON; ")), said)


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
    assert process.returncode == 141


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["train", "reverse", "--help"], ["predict", "reverse", "abc", "--zoo"]],
)
@pytest.mark.parametrize("buffering", [-1, 1])
def test_a_reader_that_stops_ends_every_command_as_sigpipe_does(
    arguments, buffering, there, monkeypatch, capsys
):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w", buffering) as nobody:
        monkeypatch.setattr(sys, "stdout", nobody)
        assert main(arguments) == 141
    assert "kerasrnn: " not in capsys.readouterr().err


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


def test_what_cannot_be_kept_is_refused_before_the_data_is_loaded(
    recipe, there, monkeypatch, capsys
):
    monkeypatch.setattr(type(recipe), "load", lambda *arguments: pytest.fail("it was loaded"))
    (there / "file").touch()
    (there / "full" / "deep").mkdir(parents=True)
    for command in ("train", "tune"):
        for place, reason in (("file", "Not a directory"), ("full", "choose another --output")):
            assert main([command, "japanese_vowels", "--output", place]) == 1
            assert reason in capsys.readouterr().err
    monkeypatch.setattr(files.os, "access", lambda path, mode: False)
    for command in ("train", "tune"):
        assert main([command, "japanese_vowels"]) == 1
        assert "cannot be written: Permission denied" in capsys.readouterr().err
    assert {path.name for path in there.iterdir()} == {"file", "full"}


def test_what_may_not_be_read_is_said_to_be_so(there, monkeypatch, capsys):
    """Not that it is missing or damaged. Of root, too, who may read everything."""
    finished(there / "run", recipes.load("reverse"), age=0)
    (there / "run" / "metadata.json").write_text("{}")
    (there / "run" / "model.keras").touch()

    def read(hidden, *command):
        def opened(path, *arguments, **options):
            if path.name == hidden:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return as_it_is(path, *arguments, **options)

        with monkeypatch.context() as patch:
            as_it_is = pathlib.Path.open
            patch.setattr(pathlib.Path, "open", opened)
            assert main(list(command)) == 1
        return capsys.readouterr().err.splitlines()[-1]

    for name in ("config.json", "model.keras"):
        said = read(name, "predict", "reverse", "abc", "--run", "run")
        assert said == f"kerasrnn: run/{name} cannot be read: Permission denied."
    said = read("best.json", "train", "reverse", "--config", "best.json")
    assert said == "kerasrnn: --config best.json cannot be read: Permission denied."
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert main(["runs", "run"]) == 1
    assert capsys.readouterr().err == "kerasrnn: run cannot be read: Permission denied.\n"


def test_nothing_trained_yet(there, capsys):
    """Where no trained model comes with the library either."""
    for options in ([], ["--zoo"]):
        assert main(["evaluate", "long_memory", *options]) == 1
        assert (
            "long_memory has no finished run under runs/, and the library includes no pretrained "
            "model for it: train one with `kerasrnn train long_memory`"
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


def test_the_newest_finished_run_is_found_wherever_it_is(there, capsys):
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
    (runs / "elsewhere" / "config.json").write_text('{"model": "of somebody else"}')
    finished(runs / "damaged", recipe, age=0)
    (runs / "damaged" / "config.json").write_text('{"model": ')
    for command in (review, ["evaluate", "movie_sentiment"], ["export", "movie_sentiment"]):
        assert main(command) == 1  # these have no model
        said = capsys.readouterr().err.splitlines()
        assert said[0] == "model: runs/mine (the newest finished run under runs/)"
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
    # One that this version cannot read is no reason to take another.
    finished(runs / "newer", recipe, age=1, config={"option_of_another_version": 1})
    assert main(review) == 1
    assert "option 'option_of_another_version' does not exist" in capsys.readouterr().err
    assert main([*review, "--zoo"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("Dull.: negative: ")
    assert printed.err.endswith("saved_models/movie_sentiment (included in the library)\n")


def test_files_are_named_after_what_they_are_of(there):
    """And are never written over others."""
    (there / "keras.png").touch()
    (there / "a_b.mid").touch()
    names = ["keras", "word", "Word", "a/b", "a b", "漢字!", "?!", "", "x" * 300, "test example 3"]
    stems = [path.name for path in places_of(names, there, (".png", ".mid"))]
    assert stems == [
        "keras-2",
        "word",
        "Word-2",
        "a_b-2",
        "a_b-3",
        "漢字",
        "input",
        "input-2",
        "x" * 60,
        "test_example_3",
    ]


def test_predict_writes_nothing_unless_told_where(there, capsys):
    words = ["predict", "reverse", "abc", "abd", "--zoo", "--beam", "1"]
    assert main(words) == 0
    assert capsys.readouterr().out == "abc: cba\nabd: dba\n"
    assert not list(there.iterdir())
    assert main([*words, "--output", "here"]) == 0
    expected = "abc: cba\n    here/abc.png\nabd: dba\n    here/abd.png\n"
    assert capsys.readouterr().out == expected
    before = (there / "here" / "abc.png").read_bytes()
    assert main([*words[:3], *words[4:], "--output", "here"]) == 0
    assert capsys.readouterr().out == "abc: cba\n    here/abc-2.png\n"
    assert (there / "here" / "abc.png").read_bytes() == before
    assert {path.name for path in there.rglob("*")} == {"here", "abc.png", "abd.png", "abc-2.png"}


def test_nothing_is_written_beside_a_trained_model(recipe, there, capsys):
    before = sorted(zoo.folder("japanese_vowels").iterdir())
    assert main(["evaluate", "japanese_vowels"]) == 0
    assert "test accuracy: " in capsys.readouterr().out
    assert not list(there.iterdir())
    assert main(["evaluate", "japanese_vowels", "--output", "here"]) == 0
    assert "picture: here/confusion_matrix.png" in capsys.readouterr().out
    assert main(["evaluate", "japanese_vowels", "--output", "here"]) == 1
    assert "--output here: expected a new or an empty folder" in capsys.readouterr().err
    assert main(["export", "japanese_vowels", "--formats", "onnx"]) == 0
    assert (there / "export" / "japanese_vowels" / "model.onnx").is_file()
    assert sorted(zoo.folder("japanese_vowels").iterdir()) == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "u.txt: expected text; found none"),
        ("1 2 3\n", "line 1: expected 12 coefficients; found 3"),
        (
            "1 " * 12 + "\n\n" + "1, " * 4 + "nan " * 8,
            "line 3, column 5: expected a finite number; found 'nan'",
        ),
        ("1 " * 11 + "-inf", "line 1, column 12: expected a finite number; found '-inf'"),
        # Single precision cannot hold it.
        ("1 1e39 " + "1 " * 10, "line 1, column 2: expected a finite number; found '1e39'"),
        ("1 " * 11 + "x", "line 1, column 12: expected a finite number; found 'x'"),
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
    assert "mine.tsv has changed since the run in here was started" in capsys.readouterr().err
    file.unlink()
    assert main(arguments) == 1
    assert "mine.tsv" in capsys.readouterr().err
    assert sorted(path.name for path in (there / "here").iterdir()) == ["config.json"]


@pytest.mark.parametrize(
    ("recipe", "text"),
    [
        (name, text)
        for name in ("char_lm", "g2p", "movie_sentiment", "translate", "word_segmentation")
        for text in ("", "caf\udce9")
    ],
)
def test_inputs_that_are_no_text(recipe, text, there, capsys):
    """Nothing, and an argument in Latin-1, as Python hands it on."""
    assert main(["predict", recipe, "one", text, "--zoo"]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"kerasrnn: {text!r}: expected ")
    assert said.endswith("in UTF-8.\n" if text else "; found none.\n")


@pytest.mark.parametrize(
    ("recipe", "inputs", "unknown", "nothing"),
    [
        ("char_lm", ["\n", "a\N{INCREMENT}"], "'\N{INCREMENT}' is", "\N{INCREMENT} \u65e5"),
        ("g2p", ["\u65e5a", "\u65e5b\xc4"], "'\u65e5', '\xc4' are", "\u65e5\u672c"),
        ("movie_sentiment", ["a dull Qqqzz!"], "'Qqqzz!' is", "?!"),
        ("translate", ["Ein \u65e5\u672c Mann"], "'\u65e5\u672c' is", "\u65e5\u672c"),
        ("word_segmentation", ["\u770b\u2206"], "'\u2206' is", "\u2206"),
    ],
)
def test_what_a_model_does_not_know_is_said_once(recipe, inputs, unknown, nothing, there, capsys):
    """And a text of which it knows nothing is refused."""
    options = ["--length", "2"] if recipe == "char_lm" else []
    assert main(["predict", recipe, *inputs, "--zoo", *options]) == 0
    _, *said = capsys.readouterr().err.splitlines()
    assert said == [f"kerasrnn: {unknown} not in the model's vocabulary, and read as unknown."]
    assert main(["predict", recipe, *inputs, nothing, "--zoo"]) == 1
    printed, said = capsys.readouterr()
    expected = "expected symbols in the model's vocabulary; found none."
    assert said.splitlines()[1:] == [f"kerasrnn: {nothing!r}: {expected}"]
    assert not printed


def test_a_users_own_data_is_what_the_summary_shows(there, capsys):
    """Not the dataset that it takes the place of; what is not read of it; and a warning."""
    lines = [
        f"{'good' if n % 2 else 'bad'}\ta {'fine' if n % 2 else 'dull'} film" for n in range(60)
    ]
    lines = [f"{line} {n}" for n, line in enumerate(lines)]
    content = "\n".join(["Label\tText", *lines])
    (there / "mine.tsv").write_text(content, encoding="utf-8")
    options = ["--data", "mine.tsv", "--units", "1", "--embedding", "1", "--epochs", "1"]
    options += ["--batch-size", "8", "--learning-rate", "1e-5", "--output", "here"]
    assert main(["train", "movie_sentiment", *options]) == 0
    printed, said = capsys.readouterr()
    assert "kerasrnn: mine.tsv, line 1 is a header. Columns read: label, text." in said
    assert f"data=mine.tsv ({size(len(content))})" in printed
    assert "dataset" not in printed
    found = dict(re.findall(r"^(.*): ([\d.]+)$", printed, re.MULTILINE))
    baseline = found["baseline naive Bayes test f1 weighted"]
    assert float(baseline) > float(found["test f1 weighted"])
    warning = (
        f"warning: test f1 weighted {found['test f1 weighted']} is worse than that of the baseline "
        f"naive Bayes, {baseline}."
    )
    assert warning in printed
    assert main(["evaluate", "movie_sentiment", "--run", "here"]) == 0
    assert warning in capsys.readouterr().out


def test_baselines_that_were_not_reached():
    """By the first metric, in its direction; what is as good is reached."""
    reverse, chorales = recipes.load("reverse"), recipes.load("bach_chorales")
    metrics = {
        "test_sequence_accuracy": 0.5,
        "baseline_a_b_test_sequence_accuracy": 0.6,
        "baseline_c_test_sequence_accuracy": 0.5,
        "baseline_a_b_test_letter_error_rate": 0.0,
    }
    assert below_baselines(reverse, metrics) == [
        "warning: test sequence accuracy 0.5000 is worse than that of the baseline a b, 0.6000."
    ]
    nats = {"baseline_a_test_nats_per_frame": 9.0, "baseline_b_test_nats_per_frame": 8.0}
    for reached, count in ((7.0, 0), (8.5, 1), (9.5, 2), (float("nan"), 2)):
        assert len(below_baselines(chorales, {"test_nats_per_frame": reached, **nats})) == count
    for name in recipes.NAMES:
        assert below_baselines(recipes.load(name), {}) == []


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


@pytest.mark.parametrize(
    ("output", "said", "code"),
    [
        (">/dev/full", "kerasrnn: the output cannot be written: No space left on device.\n", 1),
        (">&-", "kerasrnn: the standard output is closed; expected it to be open.\n", 1),
        ("| exec true", "", 141),
    ],
    ids=["full", "closed", "not read"],
)
def test_an_output_that_takes_nothing(output, said, code):
    command = f"{shlex.quote(sys.executable)} -m kerasrnn list {output}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", said)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "a temporary file or the output cannot"),
        (
            RuntimeError("x; Disk quota exceeded"),
            "a temporary file or the output cannot be written",
        ),
        (
            WriteError(errno.EROFS, "Read-only file system", "here"),
            "here cannot be written: Read-o",
        ),
        (OccupiedError("path='here': there is"), "path='here': there is"),
        (LockedError("here is in use"), "here is in use"),
        (
            tf.errors.DataLossError(None, None, "corrupted record at 12"),
            "a prepared dataset of g2p is damaged (corrupted record at 12): delete its folder",
        ),
        (MemoryError(), "predict: out of memory."),
        (
            tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor"),
            "predict: out of memory.",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_of_the_disk_are_one_line(monkeypatch, capsys, error, said):
    def act(recipe, arguments):
        raise error

    monkeypatch.setattr(predict, "act", act)
    assert main(["predict", "g2p", "keras"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"kerasrnn: {said}")


def test_too_little_memory_names_what_takes_less(monkeypatch, capsys):
    """The options that the recipe has."""

    def act(recipe, arguments):
        raise MemoryError

    monkeypatch.setattr(train, "act", act)
    of_the_model = {
        "reverse": " (--units, --embedding, --depth)",
        "fashion_mnist": " (--units, --depth)",
    }
    for name, model in of_the_model.items():
        assert main(["train", name]) == 1
        assert capsys.readouterr().err == (
            "kerasrnn: train: out of memory; try a smaller "
            f"--batch-size, a higher --accumulate, or a smaller model{model}.\n"
        )


def test_folders_are_looked_at_before_the_work(there, monkeypatch, capsys):
    """Of read-only ones, as root too."""
    monkeypatch.setattr(Run, "load_model", lambda self: pytest.fail("the model was loaded"))
    (there / "file").write_text("mine")
    for command in (["predict", "g2p", "keras", "--zoo"], ["export", "g2p", "--zoo"]):
        assert main([*command, "--output", "file"]) == 1
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith(f"kerasrnn: {there / 'file'} cannot be written: Not a directory.")
    monkeypatch.setattr(files.os, "access", lambda path, mode: False)
    for command in (["predict", "g2p", "keras", "--zoo"], ["export", "g2p", "--zoo"]):
        assert main([*command, "--output", "below"]) == 1
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith(f"kerasrnn: {there} cannot be written: Permission denied.")
    assert [path.name for path in there.iterdir()] == ["file"]


def test_an_export_replaces_what_exports_have_written(recipe, tmp_path, monkeypatch):
    """And refuses other files by these names before it writes the first one."""
    model = keras.Sequential([keras.Input((None, 12)), keras.layers.Dense(2, name="y")])
    monkeypatch.setattr(type(recipe), "exports", lambda *arguments: {"model": (model, True)})
    words = {"y": {"classes": ["a", "b"]}}
    monkeypatch.setattr(type(recipe), "vocabulary", lambda *arguments: words)

    def export(formats):
        data = recipe.load(None)
        return exporting.export(recipe, model, data, recipe.Config(), tmp_path, formats)

    for _ in range(2):
        export(["onnx"])
    vocabulary = tmp_path / "vocabulary.json"
    assert json.loads(vocabulary.read_text()) == words
    before = (tmp_path / "model.onnx").stat().st_mtime_ns
    for mine in ('{"name": "package"}', '{"y": {"classes": [], "notes": 1}}', "[1]", "text"):
        vocabulary.write_text(mine)
        with pytest.raises(OccupiedError, match=r"vocabulary.json': there is a file of \d+ bytes"):
            export(["onnx"])
        assert vocabulary.read_text() == mine
    vocabulary.unlink()
    (tmp_path / "model.tflite").write_text("mine")
    with pytest.raises(
        OccupiedError, match=r"model.tflite': there is a file of 4 bytes that is no"
    ):
        export(["onnx", "litert"])
    assert (tmp_path / "model.tflite").read_text() == "mine"
    assert not vocabulary.exists()
    assert (tmp_path / "model.onnx").stat().st_mtime_ns == before


@pytest.mark.parametrize("fails", [ValueError, KeyboardInterrupt])
def test_an_export_is_whole_or_leaves_nothing(fails, recipe, tmp_path, monkeypatch):
    """Also in a folder that is not there yet, and in the place of an older one."""
    layers = [keras.Input((None, 12)), keras.layers.Dense(2, name="y")]
    models = {name: (keras.Sequential(layers), True) for name in ("one", "two")}
    monkeypatch.setattr(type(recipe), "exports", lambda *arguments: models)
    words = {"y": {"classes": ["a", "b"]}}
    monkeypatch.setattr(type(recipe), "vocabulary", lambda *arguments: words)
    folder, data = tmp_path / "new" / "deep", recipe.load(None)

    def export():
        formats = ["saved_model", "litert"]
        return exporting.export(
            recipe, models["one"][0], data, recipe.Config(), folder, formats, tolerance=1e-5
        )

    def litert(model, path, **options):
        if path.name.startswith("two"):
            raise fails
        path.write_bytes(b"....TFL3")
        return Report(path, "LiteRT", 8, 0, None)

    with monkeypatch.context() as patch:
        patch.setattr("kerasrnn.export.litert.to_litert", litert)
        with pytest.raises(fails):
            export()
        assert not list(tmp_path.iterdir())
    lines = export()
    written = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    names = {"vocabulary.json", "one.saved_model", "two.saved_model", "one.tflite", "two.tflite"}
    assert {path.name for path in folder.iterdir()} == names
    assert all(f"{folder / name}" in "\n".join(lines) for name in names)
    words["y"]["classes"].append("c")
    with monkeypatch.context() as patch:
        patch.setattr("kerasrnn.export.litert.to_litert", litert)
        with pytest.raises(fails):
            export()
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == written
    export()
    assert json.loads((folder / "vocabulary.json").read_text())["y"]["classes"] == ["a", "b", "c"]
    assert {path.name for path in folder.iterdir()} == names


def to_count(model, path, check, tolerance):
    """Write a model's number of parameters."""
    path.write_text(str(model.count_params()))
    return Report(path, "count", path.stat().st_size, 0, None)


def test_a_row_is_all_that_a_format_needs(recipe, tmp_path, monkeypatch, capsys):
    """The command takes it, writes it for each model of a recipe, and names it in its help."""
    row = Format(
        name="count",
        suffix="count",
        kind=files.Kind("a count", lambda path: path.read_text().isdigit()),
        exporter=f"{__name__}:to_count",
        remark="is a number",
    )
    monkeypatch.setitem(FORMATS, "count", row)
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "saved_model, onnx, onnx_int8, litert, count" in said
    assert "count is a number" in said
    monkeypatch.chdir(tmp_path)
    command = ["export", "japanese_vowels", "--zoo", "--formats", "count", "--output", "here"]
    assert main(command) == 0
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("count: ")]
    assert line == "count: here/model.count (0 KiB)"
    count = zoo.load("japanese_vowels").count_params()
    assert (tmp_path / "here" / "model.count").read_text() == str(count)
