"""Arguments and outputs of all commands, and errors that end them."""

import errno
import os
import re
import shlex
import subprocess
import sys

import pytest
import tensorflow as tf

from kerasrnn.__main__ import main
from kerasrnn.files import LockedError, OccupiedError, WriteError
from kerasrnn.recipes.base import config
from kerasrnn.recipes.command import predict, train

pytestmark = pytest.mark.tensorflow
TRAIN = ["train", "japanese_vowels"]


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
            "--cell 'lstmm': expected lstm, gru or .*; did you mean lstm?",
        ),
        ([*TRAIN, "--cell", "GRU"], "--cell 'GRU': expected lstm, gru or .*; did you mean gru?"),
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
def test_invalid_arguments_are_errors(arguments, message, there, capsys):
    """In one line, which suggests what was probably meant."""
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


def test_without_arguments_the_commands_are_listed(capsys):
    with pytest.raises(SystemExit) as exit:
        main([])
    assert exit.value.code == 2
    assert "compare the runs" in capsys.readouterr().err


def test_a_folder_may_have_the_name_of_a_recipe(there, capsys):
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
    error = capsys.readouterr().err
    assert re.match("kerasrnn: run/config.json.* ", error)
    assert re.search(message.removeprefix(re.escape("expected JSON; ")), error)


def test_help_lists_every_option(capsys):
    with pytest.raises(SystemExit) as exit:
        main(["train", "japanese_vowels", "--help"])
    assert exit.value.code == 0
    printed = capsys.readouterr().out
    for word in ("--cell", "--bidirectional", "--mirror", "Kudo", "default: 80"):
        assert word in printed


def test_list(capsys):
    assert main(["list"]) == 0
    assert "japanese_vowels" in capsys.readouterr().out
    assert main(["list", "--cells"]) == 0
    printed = capsys.readouterr().out
    assert all(f"\n    {name} " in printed for name in config.CELLS)


def test_a_closed_pipe_is_no_error():
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
def test_a_closed_pipe_ends_every_command_as_sigpipe_does(
    arguments, buffering, there, monkeypatch, capsys
):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w", buffering) as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        assert main(arguments) == 141
    assert "kerasrnn: " not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("output", "error"),
    [
        (">/dev/full", "kerasrnn: the output cannot be written: No space left on device.\n"),
        (">&-", "kerasrnn: the standard output is closed; expected it to be open.\n"),
    ],
    ids=["full", "closed"],
)
def test_an_output_that_cannot_be_written(output, error):
    command = f"{shlex.quote(sys.executable)} -m kerasrnn list {output}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", error)


@pytest.mark.parametrize(
    ("error", "message"),
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
def test_errors_of_the_disk_and_memory_are_one_line(monkeypatch, capsys, error, message):
    def act(recipe, arguments):
        raise error

    monkeypatch.setattr(predict, "act", act)
    assert main(["predict", "g2p", "keras"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"kerasrnn: {message}")


def test_out_of_memory_names_options_that_take_less(monkeypatch, capsys):
    def act(recipe, arguments):
        raise MemoryError

    monkeypatch.setattr(train, "act", act)
    options_of_the_model = {
        "reverse": " (--units, --embedding, --depth)",
        "fashion_mnist": " (--units, --depth)",
    }
    for name, model in options_of_the_model.items():
        assert main(["train", name]) == 1
        assert capsys.readouterr().err == (
            "kerasrnn: train: out of memory; try a smaller "
            f"--batch-size, a higher --accumulate, or a smaller model{model}.\n"
        )
