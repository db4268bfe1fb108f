"""`kerasrnn runs`: what differs between runs, their metrics and curves."""

import dataclasses
import json

import pytest

from kerasrnn import recipes
from kerasrnn.__main__ import main
from kerasrnn.files import replacing
from kerasrnn.recipes.base.execution import Execution
from kerasrnn.recipes.base.runs import Run, RunError, runs_below
from kerasrnn.recipes.reporting import comparison
from kerasrnn.training import history


def made(folder, started, rows, finished=True, execution=None, name="japanese_vowels", **options):
    recipe = recipes.load(name)
    run = Run.create(recipe, dataclasses.replace(recipe.Config(), **options), folder, execution)
    run.write_json("environment.json", {"started": started})
    log = [
        {"epoch": n, "loss": loss, "learning_rate": 0.1, "seconds": 2.0 * n + 2}
        for n, loss in enumerate(rows)
    ]
    history.write(run.path("log.csv"), log)
    if finished:
        run.write_json("metrics.json", {"test_accuracy": 1 - rows[-1], "seconds": 3.3, "epochs": 3})
    return run


@pytest.fixture
def several(tmp_path):
    made(tmp_path / "b", "2026-01-02T03:04:05+00:00", [0.5, 0.25], epochs=2)
    made(tmp_path / "a", "2026-01-01T03:04:05+00:00", [0.5, 0.125], epochs=2, cell="gru")
    deeper = tmp_path / "more" / "c"
    half = Execution(precision="bfloat16")
    made(deeper, "2026-01-03T03:04:05+00:00", [0.75], finished=False, execution=half, epochs=4)
    made(tmp_path / "r", "2026-01-01T00:00:00+00:00", [0.5], name="reverse")
    broken = made(tmp_path / "broken", "", [0.5])
    broken.path("metrics.json").write_text("{")
    return tmp_path


def test_the_table(several, capsys):
    assert main(["runs", str(several), "--output", str(several)]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    at = lines.index("japanese_vowels")
    header = lines[at + 1].split("  ")
    named = [name.strip() for name in header if name.strip()]
    assert named == [
        "run",
        "state",
        "cell",
        "epochs",
        "precision",
        "test accuracy",
        "loss",
        "seconds",
        "started",
    ]
    rows = {line.split()[0]: line.split() for line in lines[at + 2 : at + 6]}
    assert list(rows) == ["broken", "a", "b", "more/c"]
    assert "damaged:" in " ".join(rows["broken"])
    assert rows["a"][1:] == [
        *("finished", "gru", "2", "0.8750", "0.1250", "3", "2026-01-01", "03:04"),
    ]
    assert rows["more/c"][1:] == [
        *("epoch", "1", "of", "4", "lstm", "4", "bfloat16", "0.7500", "2"),
        *("2026-01-03", "03:04"),
    ]
    for name in ("japanese_vowels", "reverse"):
        assert (several / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_lines_of_json(several, capsys):
    assert main(["runs", str(several), "--json"]) == 0
    runs = {run["folder"]: run for run in map(json.loads, capsys.readouterr().out.splitlines())}
    assert set(runs) == {"a", "b", "more/c", "r", "broken"}
    assert runs["b"]["metrics"] == {"test_accuracy": 0.75, "loss": 0.25}
    assert [row["loss"] for row in runs["a"]["log"]] == [0.5, 0.125]
    assert runs["more/c"]["state"] == "epoch 1 of 4"
    assert runs["more/c"]["config"]["precision"] == "bfloat16"


def test_one_run_alone(several):
    (summary,) = comparison.collect(several / "a")["japanese_vowels"]
    assert summary.folder == "a"
    assert comparison.differences([summary]) == {}


def test_a_folder_without_runs_is_an_error(tmp_path, capsys):
    with pytest.raises(RunError, match="expected a folder with runs in it or below; found none"):
        comparison.collect(tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    assert main(["runs", str(tmp_path)]) == 1
    assert "found none" in capsys.readouterr().err


def test_runs_without_a_log_have_no_picture(tmp_path):
    recipe = recipes.load("japanese_vowels")
    Run.create(recipe, recipe.Config(), tmp_path / "run")
    (summaries,) = comparison.collect(tmp_path).values()
    assert not comparison.draw(summaries, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_other_pictures_are_not_replaced(several, tmp_path, capsys):
    """One that an earlier comparison has drawn is drawn anew."""
    place = tmp_path / "pictures" / "japanese_vowels.png"
    for _ in range(2):
        assert main(["runs", str(several), "--output", str(place.parent)]) == 0
    picture = place.read_bytes()
    place.write_bytes(picture.replace(b"Software\0kerasrnn", b"Software\0mine.app"))
    before = place.read_bytes()
    capsys.readouterr()
    assert main(["runs", str(several), "--output", str(place.parent)]) == 1
    said = f"kerasrnn: path='{place}': there is a file of {len(before)} bytes that is not a picture"
    assert capsys.readouterr().err.startswith(said)
    assert place.read_bytes() == before


def test_a_run_that_is_being_written_is_not_listed(several):
    """The file in the scratch folder is not another run."""
    before = len(runs_below(several))
    with replacing(several / "a" / "config.json") as new:
        new.write_text((several / "b" / "config.json").read_text())
        assert len(runs_below(several)) == before
