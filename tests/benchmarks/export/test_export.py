"""The benchmark of exports: its report, its points, its files. No time is asserted."""

import json
import math
import subprocess

import numpy as np
import pytest

from benchmarks.export import __main__ as export
from benchmarks.export import contenders as exported
from benchmarks.export import report as export_report
from benchmarks.export.contenders import CONTENDERS, FILES, MADE, MODELS, Model, Point, points
from benchmarks.measuring import summary
from benchmarks.measuring.summary import Result
from tests.processes import Forked

GRU, LSTM, BOTH = MODELS[0], MODELS[3], MODELS[5]


# Made up: nothing here was measured.


def made_up(model, time, **microseconds):
    """Two rounds of each contender, each of three repeats, one of which is an outlier."""
    records = {}
    for name, medians in microseconds.items():
        if isinstance(medians, str):
            records[name.replace("_", "-")] = {"error": medians}
            continue
        rounds = [[9e-6 * m, 1e-6 * m, 0.9e-6 * m] for m in medians]
        records[name.replace("_", "-")] = {
            "first": 1.0,
            "warm": 1e-6,
            "facts": [2e-7],
            "rounds": rounds,
        }
    point = Point(model, time, tuple(records))
    return {"point": point.to_json(), "records": records}


def files(model, **of_each):
    return {"point": Point(model, 20, tuple(of_each)).to_json(), "files": of_each}


WRITTEN = {"bytes": 2048, "difference": 1e-7}
MADE_UP = {
    "machine": {
        "processor": "an abacus",
        "cores": 2,
        "memory": 2**34,
        "system": "none",
        "python": "3.11",
        "versions": {"kerasrnn": "0"},
        "date": "2000-01-01T00:00:00+00:00",
        "load": 0.0,
    },
    "options": {"rounds": 2, "threads": 0},
    "complete": True,
    "files": [
        files(GRU, **{"onnx": WRITTEN, "keras-onnx": WRITTEN | {"difference": 3e-7}}),
        files(LSTM, onnx=WRITTEN, litert={"error": "ValueError: no"}, predict=WRITTEN),
        files(BOTH, onnx=WRITTEN),
    ],
    "points": [
        # The machine was slower in the second round, for both.
        made_up(
            GRU,
            20,
            onnx=(80, 160),
            onnx_int8=(40, 80),
            keras_onnx=(400, 800),
            predict=(8e4, 1.6e5),
            step=(10, 20),
        ),
        made_up(GRU, 100, onnx=(300, 300), keras_onnx=(1000, 1000), predict=(9e4, 9e4)),
        made_up(
            LSTM,
            20,
            onnx=(100, 100),
            keras_onnx=(400, 400),
            litert="ValueError: no",
            tf_function=(500, 500),
        ),
        made_up(BOTH, 100, onnx=(600, 600), keras_onnx=(1000, 1000), predict="OSError: gone"),
    ],
}
FOUND = export_report.results(MADE_UP)


@pytest.mark.parametrize(
    ("text", "judge", "value", "verdict"),
    [
        ("GRU, Keras's own ONNX file", "geometric mean", (0.2 * 0.3) ** 0.5, "met"),
        ("GRU, Keras's own ONNX file", "worst", 0.3, "**missed**"),
        ("masked LSTM, Keras's own ONNX file", "geometric mean", (0.25 * 0.6) ** 0.5, "met"),
        ("masked LSTM, Keras's own ONNX file", "worst", 0.6, "**missed**"),
        ("all, predict", "worst", 300 / 9e4, "met"),
        ("all, tf-function", "geometric mean", 0.2, ""),
        ("all, int8 over float32", "geometric mean", 0.5, ""),
        ("all, litert", "geometric mean", None, "not measured"),
    ],
)
def test_targets(text, judge, value, verdict):
    targets = export_report.targets(FOUND)
    (target,) = (each for each in targets if (each.text, each.judge) == (text, judge))
    assert target.value == (None if value is None else pytest.approx(value))
    assert target.verdict == verdict


def test_a_target_is_missed_where_our_file_failed():
    failed = made_up(GRU, 400, onnx="ParityError: far off", keras_onnx=(1, 1))
    targets = export_report.targets([*FOUND, *export_report.results({"points": [failed]})])
    assert (targets[0].value, targets[0].verdict) == (math.inf, "**missed**")


def test_the_report():
    lines = export_report.report(MADE_UP, "a command").splitlines()
    for line in (
        "| GRU, Keras's own ONNX file | worst | ≤ 0.25 | 0.3 | 0.2–0.3 | 2 | **missed** |",
        # Microseconds: the median of the rounds' medians.
        "| GRU(128) | 20 | 120 (80–160) | 60 (40–80) | 600 (400–800) |  |  "
        "| 120000 (80000–160000) | 15 (10–20) |",
        # Ratios are taken round by round.
        "| GRU(128) | 20 | 0.2 (0.2–0.2) |  |  | 0.001 (0.001–0.001) |",
        # KiB, and the larger of two differences; tf-function has that of Keras's file, too.
        "| GRU(128) | 2; 2.0e-07 | 2; 3.0e-07 |  |  |",
        "| masked LSTM(128) | 2; 2.0e-07 |  | error | 2; 2.0e-07 |",
        "- masked LSTM(128): no file for litert: ValueError: no",
        "- bidirectional masked LSTM(128), 100 steps: predict failed: OSError: gone",
    ):
        assert line in lines
    assert sum("ValueError: no" in line for line in lines) == 1
    assert any("the default, one per core" in line for line in lines)
    given = MADE_UP | {"complete": False, "options": {"threads": 1}}
    text = export_report.report(given, "a command")
    assert "interrupted" in text
    assert "Threads of onnxruntime: 1." in text


def test_the_files_of_the_results(tmp_path):
    from matplotlib.image import imread

    written = export.write(MADE_UP, "a command", tmp_path / "new")
    assert [file.name for file in written] == ["export.json", "export.md", "export.png"]
    assert json.loads(written[0].read_text()) == MADE_UP
    assert np.ptp(imread(written[2])[..., :3]) > 0.5
    nothing = MADE_UP | {"points": [], "files": []}
    assert len(export.write(nothing, "a command", tmp_path / "nothing")) == 2


# The points.


def test_the_targets_cover_the_points():
    everything = points()
    alike = {"rounds": [[1.0]]}
    measured = [Result(point, dict.fromkeys(point.contenders, alike)) for point in everything]
    assert {target.value for target in export_report.targets(measured)} == {1.0}
    assert {name for point in everything for name in point.contenders} == set(CONTENDERS)
    assert set(FILES) == set(CONTENDERS) == set(export_report.COLORS)
    assert {FILES[name] for name in MADE} == set(FILES.values())
    assert len({(point.model, point.time) for point in everything}) == len(everything) == 10


def test_selected_points():
    chosen = points(contenders=["onnx", "step"], models=[0, 2])
    assert [point.contenders for point in chosen] == [("onnx", "step")] * 3 + [("onnx",)]
    assert points(contenders=["step"], models=[2]) == []


def test_points_survive_serialization():
    for point in points(quick=True):
        assert Point.from_json(json.loads(json.dumps(point.to_json()))) == point


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--contenders", "torch"], "--contenders torch: expected some of onnx, onnx-int8"),
        (["--models", "6"], "--models 6: expected some of 0, 1, 2"),
        (["--rounds", "0"], "--rounds 0: expected a positive integer"),
        (["--threads", "-1"], "--threads -1: expected a positive integer, or 0"),
        (["--models", "2", "--contenders", "step"], "nothing to measure"),
    ],
)
def test_bad_options_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        export.main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


# The files, and the contenders that run them.


@pytest.mark.tensorflow
# From Keras 3.16 on, its LSTM warns that it drops the mask, which nothing behind it reads.
@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask:UserWarning")
@pytest.mark.parametrize("model", [Model("GRU", 4), Model("LSTM", 4)], ids=str)
def test_a_contender_computes_what_the_model_computes(model, tmp_path):
    names = ("onnx", "keras-onnx", "step", "tf-function")
    point = Point(model, 7, names)
    made = exported.make([point], tmp_path)
    assert set(made) == {"onnx", "keras-onnx", "step", "predict"}
    assert all(file["difference"] < 1e-5 for file in made.values())
    folder = tmp_path / model.folder
    assert all(file["bytes"] == (folder / FILES[n]).stat().st_size for n, file in made.items())
    for name in names:
        ready = exported.ready(name, point, tmp_path, threads=1)
        result = ready.step()
        assert result.shape == (1, exported.CLASSES)
        (difference,) = ready.facts(result)
        assert difference < 1e-5
    # A stream continues from its states.
    stream = exported.ready("step", point, tmp_path)
    assert np.abs(stream.step() - stream.step()).max() > 1e-4


@pytest.mark.tensorflow
def test_an_exporter_that_fails_does_not_stop_the_others(tmp_path, monkeypatch):
    def fails(model, path):
        raise ValueError("it cannot\nbe done")

    monkeypatch.setattr(exported, "_export_by_keras", fails)
    point = Point(Model("GRU", 2), 3, ("onnx", "keras-onnx", "predict"))
    made = exported.make([point], tmp_path)
    assert made["keras-onnx"] == {"error": "ValueError: it cannot"}
    assert made["onnx"]["difference"] < 1e-5
    with pytest.raises(ValueError, match="contender 'nobody': expected one of onnx"):
        exported.ready("nobody", point, tmp_path)


@pytest.mark.slow
@pytest.mark.tensorflow
@pytest.mark.xdist_group("processes")
def test_it_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", Forked)
    contenders = "onnx,keras-onnx,litert"
    export.main(["--quick", "--out", str(tmp_path), "--models", "3", "--contenders", contenders])
    (found,) = export_report.results(json.loads((tmp_path / "export.json").read_text()))
    assert str(found.point) == "masked LSTM(8), 12 steps"
    for name in ("onnx", "keras-onnx", "litert"):
        assert summary.measured(found, name)
        assert found.records[name]["facts"][0] < 1e-5
    assert (tmp_path / "export.md").read_text().startswith("# Exports\n")
    assert (tmp_path / "export.png").stat().st_size > 0
