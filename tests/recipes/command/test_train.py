"""`kerasrnn train`, and what a finished run is used for."""

import dataclasses
import re

import numpy as np
import pytest

from kerasrnn import files, recipes
from kerasrnn.__main__ import main
from kerasrnn.recipes.base.runs import Run
from kerasrnn.recipes.command.arguments import below_baselines, lines_of
from kerasrnn.recipes.datasets.sources import SourceError
from kerasrnn.training.progress import size

pytestmark = [pytest.mark.tensorflow, pytest.mark.usefixtures("untraced")]
# All sixty examples are one batch.
TRAIN = ["train", "japanese_vowels", "--units", "8", "--epochs", "2", "--batch-size", "60"]


def test_train_evaluate_predict_export(recipe, there, capsys):
    """Each command uses the run that was trained."""
    assert main([*TRAIN, "--learning-rate", "0.03"]) == 0
    printed = capsys.readouterr().out
    accuracy = re.search(r"test accuracy: (0\.\d+|1\.0+)", printed).group(1)
    (folder,) = (there / "runs" / "japanese_vowels").iterdir()
    assert f"run folder: runs/japanese_vowels/{folder.name}" in printed
    assert "plot:  " in printed

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
    assert re.fullmatch(r"one.csv: speaker \d: [\d.]+%, speaker \d: [\d.]+%, .*%", lines[0])
    assert main(["predict", "japanese_vowels", "--test", *map(str, range(31))]) == 0
    answers = re.findall(r": (.*?): .* \(expected (.*)\)$", capsys.readouterr().out, re.MULTILINE)
    assert len(answers) == 31
    right = np.mean([predicted == expected for predicted, expected in answers])
    assert right == pytest.approx(float(accuracy), abs=1e-4)

    assert main(["predict", "japanese_vowels", "--test", "31"]) == 1
    assert "--test 31: expected 0 to 30" in capsys.readouterr().err

    assert main(["export", "japanese_vowels"]) == 0
    printed, errors = capsys.readouterr()
    assert f"model: runs/japanese_vowels/{folder.name} (the newest finished run" in errors
    assert printed.count("largest difference from the Keras model over 6 batches") == 2
    assert (folder / "export" / "model.onnx").is_file()
    assert (folder / "export" / "model.saved_model" / "saved_model.pb").is_file()
    assert main(["export", "japanese_vowels", "--formats", "onnx", "--tolerance", "1e-12"]) == 1
    assert "differs from the Keras model by up to" in capsys.readouterr().err

    formats = ["--formats", "onnx", "--step", "--output", "streaming"]
    assert main(["export", "japanese_vowels", *formats]) == 0
    assert capsys.readouterr().out.count("ONNX: streaming/") == 2
    assert (there / "streaming" / "step.onnx").is_file()


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


def test_failed_checks_leave_no_files(recipe, there, capsys, monkeypatch):
    assert main([*TRAIN, "--batch-size", "61"]) == 1
    assert "batch_size=61: expected at most the 60" in capsys.readouterr().err
    assert main([*TRAIN, "--mirror", "nowhere"]) == 1
    assert "--mirror nowhere: expected a folder" in capsys.readouterr().err

    def damaged(self, config, data_dir=None):
        raise SourceError("the archive is not the pinned one")

    monkeypatch.setattr(type(recipe), "load", damaged)
    assert main([*TRAIN, "--output", "here"]) == 1
    assert "kerasrnn: the archive is not the pinned one" in capsys.readouterr().err
    assert not list(there.iterdir())


def test_the_output_folder_is_checked_before_the_data_is_loaded(recipe, there, monkeypatch, capsys):
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
def test_a_changed_data_file_is_an_error(arguments, there, capsys):
    """Before the model is loaded or built."""
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


@pytest.mark.parametrize("command", ["train", "tune"])
def test_an_unreadable_data_file_is_reported_first(command, there, monkeypatch, capsys):
    """TensorFlow is not imported, which takes seconds; nothing is written."""
    monkeypatch.setattr(
        "kerasrnn.recipes.command.main.quietly_import_tensorflow",
        lambda: pytest.fail("TensorFlow was imported"),
    )
    assert main([command, "movie_sentiment", "--data", "mine.csv"]) == 1
    error = "kerasrnn: --data mine.csv cannot be read: No such file or directory.\n"
    assert capsys.readouterr() == ("", error)
    assert main([command, "movie_sentiment", "--data", "."]) == 1
    assert "--data . cannot be read: Is a directory" in capsys.readouterr().err
    assert not list(there.iterdir())


def test_the_summary_names_a_data_file(there, capsys):
    """Instead of the dataset; a result below the baseline is a warning."""
    lines = [
        f"{'good' if n % 2 else 'bad'}\ta {'fine' if n % 2 else 'dull'} film" for n in range(60)
    ]
    lines = [f"{line} {n}" for n, line in enumerate(lines)]
    content = "\n".join(["Label\tText", *lines])
    (there / "mine.tsv").write_text(content, encoding="utf-8")
    options = ["--data", "mine.tsv", "--units", "1", "--embedding", "1", "--epochs", "1"]
    options += ["--batch-size", "32", "--learning-rate", "1e-5", "--output", "here"]
    assert main(["train", "movie_sentiment", *options]) == 0
    printed, errors = capsys.readouterr()
    assert "kerasrnn: mine.tsv, line 1 is a header. Columns read: label, text." in errors
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


def test_results_below_the_baselines_are_warnings():
    """Compared by the first metric, in its direction; an equal result is no warning."""
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


def test_small_metrics_are_not_rounded_to_zero():
    lines = lines_of(
        {"test_loss": 3.04e-6, "test_f1": 0.95958, "parameters": 70367, "seconds": 12.345}
    )
    assert lines == [
        "test loss: 3.04e-06",
        "test f1: 0.9596",
        "parameters: 70367",
        "seconds: 12.3",
    ]
