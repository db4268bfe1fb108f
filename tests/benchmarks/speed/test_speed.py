"""The speed benchmark: its report, its points, its processes. No time is asserted."""

import importlib.util
import json
import math
import subprocess

import numpy as np
import pytest

from benchmarks.measuring import processes, summary
from benchmarks.measuring.summary import Result, Spread
from benchmarks.measuring.worker import timed
from benchmarks.speed import __main__ as speed
from benchmarks.speed import contenders, report
from benchmarks.speed import targets as speed_targets
from benchmarks.speed.grid import LARGE, LONG, OF_BACKEND, SHORT, Point, Shape, points
from tests.processes import Forked

pytestmark = pytest.mark.xdist_group("processes")


# Made up: nothing here was measured.


def made_up(part, cell, shape, mode="training", masked=False, **records):
    names = tuple(name.replace("_", "-") for name in records)
    point = Point(part, cell, shape, mode, names, masked)
    return {
        "point": point.to_json(),
        "records": dict(zip(names, records.values(), strict=True)),
    }


def rounds(*medians, facts=(3.0, 4.0)):
    """Three repeats for each median, one of which is an outlier."""
    return {
        "first": 1.0,
        "warm": medians[0],
        "facts": list(facts),
        "rounds": [[9 * seconds, seconds, 0.9 * seconds] for seconds in medians],
    }


def compiled(*seconds):
    return {"first": [0.5 + s for s in seconds], "warm": [0.5] * len(seconds), "facts": [1.0]}


ONE = Shape(1, 100, 128, 256)
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
    "backend": "tensorflow",
    "options": {"rounds": 2},
    "complete": True,
    "points": [
        made_up(
            "grid",
            "LSTM",
            SHORT,
            kerasrnn=rounds(0.010, 0.012),
            keras=rounds(0.020, 0.048),
            keras_xla=rounds(0.020, 0.016),
            keras_unrolled={"error": "OutOfMemory: too long"},
            torch=rounds(0.010, 0.010),
            floor=rounds(0.005, 0.006),
        ),
        made_up(
            "grid",
            "LSTM",
            SHORT,
            masked=True,
            kerasrnn=rounds(0.011, 0.011),
            keras=rounds(0.022, 0.022),
            torch=rounds(0.044, 0.044),
        ),
        made_up(
            "grid",
            "LSTM",
            LARGE,
            kerasrnn=rounds(0.12, 0.12),
            keras=rounds(0.24, 0.24),
            floor=rounds(0.1, 0.1),
        ),
        made_up("grid", "GRU", ONE, kerasrnn=rounds(0.004, 0.004), keras=rounds(0.02, 0.02)),
        made_up(
            "grid",
            "GRU",
            LONG,
            mode="inference",
            kerasrnn=rounds(0.03, 0.03),
            kerasrnn_xla=rounds(0.02, 0.02),
            keras=rounds(0.05, 0.05, facts=(3.0, 4.1)),
            torch=rounds(0.016, 0.016),
        ),
        made_up(
            "cells",
            "MGU",
            SHORT,
            kerasrnn=rounds(0.01, 0.01),
            keras_rnn=rounds(0.04, 0.04),
            keras_rnn_xla=rounds(0.02, 0.02),
        ),
        made_up("eager", "LSTM", SHORT, "eager", kerasrnn=rounds(0.002), keras=rounds(0.1)),
        made_up(
            "memory",
            "LSTM",
            LONG,
            kerasrnn={"peak": [70, 72], "peak_of_few": [10, 10]},
            kerasrnn_sqrt={"peak": [90, 90], "peak_of_few": [60, 60]},
            keras={"peak": [101, 101], "peak_of_few": [1, 1]},
        ),
        made_up(
            "memory",
            "MinGRU",
            Shape(2, 10, 5, 4),  # 17 numbers a step: 5 of the input, and 3 times 4
            kerasrnn={"peak": [4 * 2 * 10 * 34 + 10] * 2, "peak_of_few": [10, 10]},
        ),
        made_up("compile", "LSTM", ONE, kerasrnn=compiled(1.0, 2.0), keras=compiled(0.4, 0.4)),
        made_up("compile", "LSTM", ONE._replace(time=10000), kerasrnn=compiled(1.5, 1.8)),
        made_up("growth", "LSTM", SHORT, kerasrnn=rounds(0.01), keras=rounds(0.02)),
        made_up("growth", "LSTM", LONG, kerasrnn=rounds(0.08), keras=rounds(0.16)),
    ],
}
FOUND = speed_targets.results(MADE_UP)


# The statistics.


def test_ratios_are_taken_round_by_round():
    """The machine may have been slower in one of the rounds, for both."""
    assert summary.measured(FOUND[0], "kerasrnn") == [0.010, 0.012]
    assert summary.ratio(FOUND[0], "kerasrnn", "keras") == pytest.approx(Spread(0.375, 0.25, 0.5))


def test_the_best_is_the_fastest_that_did_not_fail():
    names = ("keras", "keras-xla", "keras-unrolled")
    assert summary.best(FOUND[0], names) == "keras-xla"
    assert summary.best(FOUND[1], names) == "keras"
    assert summary.best(FOUND[0], ("keras-unrolled",)) is None
    assert summary.ratio(FOUND[0], "kerasrnn", "keras-unrolled") is None


def test_common_costs_are_subtracted():
    """The run from a first call, and the peak memory of a few steps from that of many."""
    of_part = {result.point.part: result for result in reversed(FOUND)}
    assert summary.measured(of_part["compile"], "kerasrnn") == pytest.approx([1.0, 2.0])
    assert summary.measured(of_part["memory"], "kerasrnn") == [60, 62]


@pytest.mark.parametrize(
    ("text", "judge", "value", "verdict"),
    [
        ("training, Keras with defaults", "geometric mean", (0.375 * 0.5**2 * 0.2) ** 0.25, "met"),
        ("training, Keras's best setting", "worst", 0.625, "met"),
        ("training, torch", "geometric mean", (1.1 * 0.25) ** 0.5, "met"),
        ("training, torch", "worst", 1.1, "met"),
        ("inference with jit_compile=True, torch", "geometric mean", 1.25, "**missed**"),
        ("inference with defaults, torch", "geometric mean", 0.03 / 0.016, "**missed**"),
        ("training at batch 1, Keras's best setting", "worst", 0.2, "met"),
        (f"training, LSTM {LARGE}, floor", "worst", 1.2, "**missed**"),
        ("training, masked over unmasked", "geometric mean", 1.0, "met"),
        ("training, masked LSTM, Keras's best setting", "geometric mean", 0.5, "met"),
        ("eager call, Keras", "worst", 0.02, "met"),
        ("training, other cells, keras.layers.RNN's best", "geometric mean", 0.5, "met"),
        ("peak memory, Keras with defaults", "worst", 0.61, "met"),
        ('peak memory with checkpoint_every="sqrt", Keras with defaults', "worst", 0.3, "met"),
        ("peak memory, MinGRU, inputs, coefficients and states", "worst", 2.0, "**missed**"),
        ("compile time, longest over shortest", "worst", 1.65 / 1.5, "met"),
    ],
)
def test_targets(text, judge, value, verdict):
    found = speed_targets.targets(FOUND, "tensorflow")
    (target,) = (target for target in found if (target.text, target.judge) == (text, judge))
    assert target.value == pytest.approx(value)
    assert target.verdict == verdict


def test_the_targets_of_lstm_at_batch_1():
    points = [
        made_up("grid", "LSTM", ONE, kerasrnn=rounds(0.03), torch=rounds(0.02)),
        made_up("grid", "LSTM", ONE, masked=True, kerasrnn=rounds(0.03), torch=rounds(0.06)),
        made_up("grid", "LSTM", ONE, "inference", kerasrnn=rounds(0.011), torch=rounds(0.01)),
        made_up("grid", "GRU", ONE, kerasrnn=rounds(0.03), torch=rounds(0.01)),
        made_up("grid", "LSTM", SHORT, kerasrnn=rounds(0.03), torch=rounds(0.01)),
    ]
    found = speed_targets.targets(speed_targets.results({"points": points}), "tensorflow")
    of = {t.text: (t.value, t.verdict) for t in found if "LSTM at batch 1" in t.text}
    assert of == {
        "training, LSTM at batch 1, torch": (pytest.approx(1.5), "**missed**"),
        "inference with defaults, LSTM at batch 1, torch": (pytest.approx(1.1), "met"),
    }


def test_targets_without_measurements():
    targets = speed_targets.targets([], "tensorflow")
    assert len(targets) == len(speed_targets.targets(FOUND, "tensorflow"))
    assert {(target.value, target.verdict) for target in targets} == {(None, "not measured")}


def test_targets_on_jax():
    points = [
        made_up(
            "grid", "LSTM", SHORT, kerasrnn=rounds(0.01), keras=rounds(0.02), flax=rounds(0.04)
        ),
        made_up("grid", "GRU", SHORT, kerasrnn=rounds(0.03), keras=rounds(0.024)),
    ]
    found = speed_targets.targets(speed_targets.results({"points": points}), "jax")
    of = {(t.text, t.judge): (t.value, t.verdict) for t in found}
    assert of["training, Keras with defaults", "worst"] == (pytest.approx(1.25), "**missed**")
    assert of["training, Keras with defaults", "geometric mean"] == (
        pytest.approx((0.5 * 1.25) ** 0.5),
        "**missed**",
    )
    assert of["training, Flax", "worst"] == (pytest.approx(0.25), "")
    assert of["inference, Keras with defaults", "worst"] == (None, "not measured")


def test_a_target_is_missed_where_kerasrnn_failed():
    failed = made_up("eager", "GRU", SHORT, "eager", kerasrnn={"error": "?"}, keras=rounds(0.1))
    found = speed_targets.results({"points": [*MADE_UP["points"], failed]})
    targets = speed_targets.targets(found, "tensorflow")
    (eager,) = (target for target in targets if target.text == "eager call, Keras")
    assert (len(eager.ratios), eager.value, eager.verdict) == (2, math.inf, "**missed**")


def test_disagreements_are_found():
    assert summary.disagreement(FOUND[0]) == 0
    assert summary.disagreement(FOUND[4]) == pytest.approx(0.1 / 4)


# The points.


def test_selected_points():
    chosen = points(parts=["grid"], cells=["GRU"], grid=[SHORT], contenders=["keras", "torch"])
    assert [(p.mode, p.masked) for p in chosen] == [
        ("training", False),
        ("training", True),
        ("inference", False),
        ("inference", True),
    ]
    assert {point.contenders for point in chosen} == {("keras", "torch")}
    assert points(parts=["cells"], contenders=["torch"]) == []


@pytest.mark.parametrize("backend", OF_BACKEND)
def test_the_targets_cover_the_points(backend):
    everything = points(contenders=OF_BACKEND[backend])
    for text in ("training", "inference"):
        of_mode = [p for p in everything if p.part == "grid" and p.mode == text]
        assert len({(p.cell, p.shape, p.masked) for p in of_mode}) == len(of_mode) == 3 * 5 * 2
    alike = {"rounds": [[1.0]], "first": [2.0], "warm": [1.0], "peak": [2], "peak_of_few": [1]}
    measured = [Result(point, dict.fromkeys(point.contenders, alike)) for point in everything]
    values = {target.text: target.value for target in speed_targets.targets(measured, backend)}
    # A sequence a hundred times as long in the same time.
    of_a_step = values.pop("training, MinGRU, time of a step, longest over shortest", 0.01)
    assert of_a_step == pytest.approx(0.01)
    # One byte, of all the arrays.
    assert values.pop("peak memory, MinGRU, inputs, coefficients and states", 1e-9) < 1e-6
    assert set(values.values()) == {1.0}
    assert {name for point in everything for name in point.contenders} == set(OF_BACKEND[backend])


def test_points_survive_serialization():
    for point in points(quick=True):
        assert Point.from_json(json.loads(json.dumps(point.to_json()))) == point


@pytest.mark.tensorflow
def test_an_eager_loop_is_compiled_before_it_is_timed(monkeypatch):
    from kerasrnn.recurrence.tensorflow import choice, later

    compiled = []

    def compiled_loop(*arguments):
        compiled.append(arguments)
        return choice.graph_loop(*arguments)

    monkeypatch.setattr(later, "STEPS_BEFORE_COMPILING", 20)
    monkeypatch.setattr(choice, "compiled_loop", compiled_loop)
    point = Point("eager", "SimpleRNN", Shape(1, 8, 1, 1), "eager", ("kerasrnn",))
    ready = contenders.ready("kerasrnn", point)
    timed(ready, 1 + ready.warm_up)  # as in `prepare`
    assert len(compiled) == 1


# Tables and pictures.


def test_the_report():
    text = report.report(MADE_UP, "a command")
    for line in (
        "| processor | an abacus, 2 cores |",
        "| training, torch | worst | ≤ 1.1 | 1.1 | 0.25–1.1 | 2 | met |",
        "| LSTM | 32x50x64x128 |  | 11 | 34; 0.38 (0.25–0.50) | 18; 0.62 (0.50–0.75) | error "
        "| 10; 1.10 (1.00–1.20) | 5.5; 2.00 (2.00–2.00) |",
        "| GRU | 32x400x32x128 |  | 30 | 20; 1.50 (1.50–1.50) | 50; 0.60 (0.60–0.60) "
        "| 16; 1.88 (1.88–1.88) |",
        "| LSTM 1x100x128x256 | kerasrnn | 2.00 | 1.50 (1.00–2.00) |",
        "- grid: LSTM 32x50x64x128, training: keras-unrolled failed: OutOfMemory: too long",
        "- **grid: GRU 32x400x32x128, inference: the contenders disagree.**",
    ):
        assert line in text.splitlines()
    # A table of several modes names them.
    lengths = [
        made_up("lengths", "LSTM", SHORT, mode=mode, kerasrnn=rounds(seconds))
        for mode, seconds in (("training", 0.05), ("inference", 0.02))
    ]
    of_lengths = report.report(MADE_UP | {"points": lengths}, "a command").splitlines()
    assert "| LSTM | 32x50x64x128 | training |  | 50 |" in of_lengths
    assert "| LSTM | 32x50x64x128 | inference |  | 20 |" in of_lengths
    assert "interrupted" not in text
    assert "interrupted" in report.report(MADE_UP | {"complete": False}, "a command")


def test_the_files_of_the_results(tmp_path):
    from matplotlib.image import imread

    written = speed.write(MADE_UP, "a command", tmp_path / "new")
    assert {file.name for file in written} == {"speed.json", "speed.md", "speed.png", "growth.png"}
    assert json.loads((tmp_path / "new" / "speed.json").read_text()) == MADE_UP
    for name in ("speed.png", "growth.png"):
        assert np.ptp(imread(tmp_path / "new" / name)[..., :3]) > 0.5
    nothing = MADE_UP | {"points": []}
    assert len(speed.write(nothing, "a command", tmp_path / "nothing")) == 2
    assert json.loads((tmp_path / "nothing" / "speed.json").read_text()) == nothing


def test_an_update_keeps_the_points_that_are_not_measured(tmp_path):
    def of(time, command, cells=(), **other):
        results = [made_up(*cell, kerasrnn=rounds(time)) for cell in cells]
        return MADE_UP | {"command": command, "points": results} | other

    lstm, gru = ("grid", "LSTM", SHORT), ("grid", "GRU", SHORT)
    gone = ("grid", "LSTM", SHORT._replace(time=7))
    linear = ("linear", "MinGRU", points(parts=["linear"])[0].shape)
    assert speed.updated(of(1, "first", [lstm]), tmp_path) == of(1, "first", [lstm])
    speed.write(of(1, "first", [lstm, gru, gone]), "first", tmp_path)
    second = speed.updated(of(2, "second", [linear]), tmp_path)
    speed.write(second, "second", tmp_path)
    third = speed.updated(of(3, "third", [lstm]), tmp_path)
    assert [each["command"] for each in third["earlier"]] == ["first", "second"]
    assert [(r["point"]["cell"], r.get("earlier")) for r in third["points"]] == [
        ("GRU", 0),
        ("MinGRU", 1),
        ("LSTM", None),
    ]
    text = report.report(third, "third")
    assert "1 point (grid) of an earlier run of `first`:" in text
    # What no longer has any result is not named.
    fourth = speed.updated(of(4, "fourth", [lstm, gru]), tmp_path)
    assert [each["command"] for each in fourth["earlier"]] == ["second"]
    assert [r.get("earlier") for r in fourth["points"]] == [0, None, None]


# The command and its workers.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--parts", "grids"], "--parts grids: expected some of grid, lengths, cells"),
        (["--shapes", "5"], "--shapes 5: expected numbers below 5, or 32x50x64x128"),
        (["--rounds", "0"], "--rounds 0: expected a positive integer"),
        (["--parts", "memory", "--cells", "GRU"], "nothing to measure"),
    ],
)
def test_bad_options_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        speed.main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_contender_that_fails_is_restarted(monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", Forked)
    workers = processes.Workers(speed.PROGRAM)
    try:
        point = Point("grid", "LSTM", Shape(1, 1, 1, 1), "training", ("nobody",))
        records = processes.in_turn(point, workers, 2, 0.01)
        assert records["nobody"]["error"].startswith("ValueError: contender 'nobody'")
        worker = workers["nobody"]
        assert worker.alive
        worker._process.kill()
        with pytest.raises(processes.Failure, match="the process ended with -9"):
            worker.ask(do="forget")
        assert workers["nobody"] is not worker
        assert workers["nobody"].ask(do="forget") == {}
    finally:
        workers.close()


@pytest.mark.slow
@pytest.mark.tensorflow
def test_it_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", Forked)
    selected = ["--parts", "grid", "--cells", "SimpleRNN", "--contenders", "kerasrnn,keras"]
    speed.main(["--quick", "--out", str(tmp_path), *selected])
    raw = json.loads((tmp_path / "speed.json").read_text())
    found = speed_targets.results(raw)
    assert [str(each.point) for each in found] == [
        "grid: SimpleRNN 4x12x8x16, training",
        "grid: SimpleRNN 4x12x8x16 masked, training",
        "grid: SimpleRNN 4x12x8x16, inference",
        "grid: SimpleRNN 4x12x8x16 masked, inference",
    ]
    for each in found:
        assert set(each.records) == {"kerasrnn", "keras"}
        assert all(summary.measured(each, name) for name in each.records)
        assert summary.disagreement(each) < 1e-5
    assert (tmp_path / "speed.md").read_text().startswith("# Speed\n")
    assert (tmp_path / "speed.png").stat().st_size > 0


def test_other_backends_are_refused(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(SystemExit, match="KERAS_BACKEND=torch: expected one of tensorflow, jax"):
        speed.main([])


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_it_runs_on_jax(cell, tmp_path, monkeypatch):
    """With Flax, if it is installed: it is an extra of its own."""
    pytest.importorskip("jax")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    contenders = ["kerasrnn", "keras"] + ["flax"] * (importlib.util.find_spec("flax") is not None)
    selected = ["--parts", "grid", "--cells", cell, "--contenders", ",".join(contenders)]
    speed.main(["--quick", "--out", str(tmp_path), *selected])
    raw = json.loads((tmp_path / "speed-jax.json").read_text())
    found = speed_targets.results(raw)
    assert len(found) == 4
    for each in found:
        assert all(summary.measured(each, name) for name in contenders)
        assert summary.disagreement(each) < 1e-5
    assert (tmp_path / "speed-jax.md").read_text().startswith("# Speed on JAX\n")
    assert (tmp_path / "speed-jax.png").stat().st_size > 0
