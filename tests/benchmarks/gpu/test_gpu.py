"""The benchmark of GPUs: its plan, its comparison with the reference, its report. No time is
asserted, and no GPU is needed."""

import contextlib
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import contenders, plan, report, worker
from benchmarks.gpu.contenders import Computation
from benchmarks.gpu.plan import CELLS, CONTENDERS, LARGE, PARTS, SMALL, Point, Shape, points
from benchmarks.measuring import summary
from benchmarks.measuring.processes import Failure
from tests.processes import Forked

README = Path(__file__).parents[3] / "README.md"


# Made up: nothing here was measured.


def rounds(*medians, facts=(3.0, 4.0)):
    """Three repeats for each median, one of which is an outlier."""
    taken = [[9 * seconds, seconds, 0.9 * seconds] for seconds in medians]
    return {"first": 7.0, "warm": medians[0], "facts": list(facts), "rounds": taken}


def made_up(part, cell, shape, mode="training", **records):
    names = tuple(name.replace("_", "-") for name in records)
    point = Point(part, cell, shape, mode, names)
    return {"point": point.to_json(), "records": dict(zip(names, records.values(), strict=True))}


MADE_UP = {
    "machine": {
        "device": "an abacus of beads, with jax",
        "processor": "an abacus",
        "cores": 2,
        "memory": 2**34,
        "system": "none",
        "python": "3.11",
        "versions": {"kerasrnn": "0"},
        "date": "2000-01-01T00:00:00+00:00",
        "load": 0.0,
    },
    "options": {"rounds": 2, "minutes": 10.0, "device": "gpu"},
    "backend": "jax",
    "missing": ["torch"],
    "complete": True,
    "minutes": 8.25,
    "left_out": ["peak: GRU 16x1024x768x768, training in bfloat16"],
    "checks": [
        {
            "cell": "LSTM",
            "precision": "bfloat16",
            "contender": "kerasrnn",
            "tolerance": 0.03,
            "output": 0.002,
            "gradient": 0.003,
        },
        {
            "cell": "LSTM",
            "precision": "bfloat16",
            "contender": "keras",
            "tolerance": 0.03,
            "output": 0.002,
            "gradient": 1.4,
        },
        {
            "cell": "GRU",
            "precision": "float16",
            "contender": "keras",
            "tolerance": 0.005,
            "error": "TypeError: no",
        },
        {
            "cell": "translate",
            "precision": "bfloat16",
            "contender": "kerasrnn",
            "tolerance": 0.03,
            "output": 0.001,
        },
    ],
    "points": [
        made_up(
            "large",
            "LSTM",
            LARGE,
            kerasrnn=rounds(0.010, 0.012),
            kerasrnn_loop=rounds(0.020, 0.048),
            jax_rnn={"error": "OutOfMemory: too long"},
        ),
        made_up("large", "GRU", LARGE, "inference", kerasrnn=rounds(0.002), keras=rounds(0.004)),
        made_up(
            "cells",
            "MGU",
            LARGE,
            kerasrnn_loop=rounds(0.010),
            keras_rnn=rounds(0.050, facts=(3.0, 4.2)),
        ),
        made_up("lengths", "LSTM", Shape(8, 8192, 768, 768), kerasrnn=rounds(0.08)),
        made_up("lengths", "LSTM", Shape(128, 512, 768, 768), kerasrnn=rounds(0.02)),
        made_up("recipe", "translate", Shape(128, 40, 512, 1024), kerasrnn=rounds(0.3)),
        made_up(
            "peak",
            "LSTM",
            LARGE,
            kerasrnn={"first": 7.0, "warm": 0.1, "facts": [1.0], "peak": 300 * 2**20},
            keras={"first": 7.0, "warm": 0.1, "facts": [1.0], "peak": 400 * 2**20},
            torch={"error": "RuntimeError: torch finds no GPU"},
        ),
    ],
}


def test_the_report():
    lines = report.report(MADE_UP, "a command").splitlines()
    for line in (
        "| device | an abacus of beads, with jax |",
        "Planned for 10 minutes (`--minutes`); took 8.2.",
        "Not measured, since not installed: torch.",
        "- peak: GRU 16x1024x768x768, training in bfloat16",
        "| LSTM | bfloat16 | kerasrnn | 2.0e-03 | 3.0e-03 | right |",
        "| LSTM | bfloat16 | keras | 2.0e-03 | 1.4e+00 | **wrong: not timed** |",
        "| GRU | float16 | keras |  |  | error: TypeError: no |",
        "| translate | bfloat16 | kerasrnn | 1.0e-03 |  | right |",
        # The ratio is the median of the rounds' ratios, 1/2 and 1/4.
        f"| LSTM | {LARGE} | training | bfloat16 | kerasrnn | 11 (10–12) |  | 7.0 |",
        f"| LSTM | {LARGE} | training | bfloat16 | kerasrnn-loop | 34 (20–48) | 0.38 | 7.0 |",
        f"| LSTM | {LARGE} | training | bfloat16 | jax-rnn | error: OutOfMemory: too long |  |  |",
        f"| LSTM | {LARGE} | training | bfloat16 | cuDNN, published for an H100 | 5.2 |  |  |",
        # The loop's, if nothing else of kerasrnn was measured.
        "| MGU | 16x1024x768x768 | training | bfloat16 | keras-rnn | 50 (50–50) | 0.20 | 7.0 |",
        "| translate | 128x40x512x1024 | training | bfloat16 | kerasrnn | 300 (300–300) |  | 7.0 |",
        "| LSTM | 16x1024x768x768 | kerasrnn | 300.0 | 0.75 |",
        "| LSTM | 16x1024x768x768 | torch | error: RuntimeError: torch finds no GPU |  |",
        "- **cells: MGU 16x1024x768x768, training in bfloat16: the norms of keras-rnn and "
        "kerasrnn-loop differ by 5.0e-02.**",
    ):
        assert line in lines
    text = "\n".join(lines)
    assert not any(word in text for word in ("interrupted", "smoke test"))
    options = {**MADE_UP["options"], "device": "cpu"}
    text = report.report(MADE_UP | {"complete": False, "options": options}, "a command")
    assert all(word in text for word in ("interrupted", "smoke test"))


def test_the_files_of_the_results(tmp_path):
    from matplotlib.image import imread

    written = gpu.write(MADE_UP, "a command", tmp_path / "new")
    assert [file.name for file in written] == ["gpu.json", "gpu.md", "gpu.png"]
    assert json.loads(written[0].read_text()) == MADE_UP
    assert np.ptp(imread(written[2])[..., :3]) > 0.5
    nothing = MADE_UP | {"points": [], "checks": []}
    assert len(gpu.write(nothing, "a command", tmp_path / "nothing")) == 2


def test_the_readme_says_whether_gpus_were_measured():
    readme = " ".join(README.read_text(encoding="utf-8").split())
    was_measured = (gpu.RESULTS / "gpu.json").is_file()
    assert ("On GPUs nothing has been measured yet" in readme) is not was_measured


# The plan.


def test_the_points():
    everything = points()
    assert {point.part for point in everything} == set(PARTS)
    assert {point.cell for point in everything} == set(CELLS)
    assert {name for point in everything for name in point.contenders} == set(CONTENDERS)
    assert set(report.COLORS) == set(CONTENDERS)
    assert len({str(point) for point in everything}) == len(everything)
    lengths = [p.shape for p in everything if (p.part, p.cell) == ("lengths", "LSTM")]
    assert [shape.time for shape in lengths] == [512, 2048, 8192, 65_536]
    assert {shape.batch * shape.time for shape in lengths} == {65_536}
    for point in points(quick=True):
        assert Point.from_json(json.loads(json.dumps(point.to_json()))) == point
    # On JAX, cuDNN takes float32 only.
    on_jax = points(backend="jax")
    assert {p.precision for p in on_jax if (p.part, p.cell) == ("lengths", "LSTM")} == {"float32"}
    assert on_jax[4].precision == "float32" != everything[4].precision
    chosen = points(parts=["large"], cells=["GRU", "MGU"], contenders=["torch"])
    assert {p.contenders for p in chosen} == {("torch",)}
    assert [(p.cell, p.mode, p.precision) for p in chosen] == [
        ("GRU", mode, precision)
        for precision in ("bfloat16", "float16", "float32")
        for mode in ("training", "inference")
    ]


def test_linear_cells_are_measured_by_length(monkeypatch):
    monkeypatch.setattr(plan, "LINEAR", ("MGU",))
    found = points(parts=["lengths"], cells=["MGU"], contenders=["kerasrnn"])
    assert [point.shape.time for point in found] == [512, 2048, 8192, 65_536]
    # A scan does not take longer for more steps in fewer rows, as a loop does.
    assert len({plan.seconds(point, 3, 0.4) for point in found}) == 1


def test_the_least_important_points_are_left_out():
    everything = points()
    costs = [plan.seconds(point, 3, 0.4) for point in everything]
    assert plan.fitting(everything, sum(costs) + 1, 3, 0.4) == everything
    assert plan.fitting(everything, 0, 3, 0.4) == []
    fitting = plan.fitting(everything, 600, 3, 0.4)
    assert sum(plan.seconds(point, 3, 0.4) for point in fitting) <= 600
    assert fitting[:4] == [p for p in everything if p.part == "large"][:4]
    # One that is left out would not have fitted with the more important ones.
    for point in everything:
        if point not in fitting:
            before = [p for p in fitting if everything.index(p) < everything.index(point)]
            assert sum(plan.seconds(p, 3, 0.4) for p in [*before, point]) > 600
    # On a slower machine there are fewer of them.
    assert len(plan.fitting(everything, 600, 3, 0.4, pace=2)) < len(fitting)
    assert plan.fitting(everything, 2 * sum(costs) + 1, 3, 0.4, pace=2) == everything


def test_the_plan_follows_the_clock(monkeypatch, capsys):
    """Every point takes twice its estimate."""
    wanted = points(parts=["large", "cells"], contenders=["kerasrnn"])
    clock = [100.0]

    def records(point, *others):
        clock[0] += 2 * plan.seconds(point, 3, 0.4)
        return {name: rounds(0.01) for name in point.contenders}

    monkeypatch.setattr(gpu.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(gpu, "_records", records)
    total = sum(plan.seconds(point, 3, 0.4) for point in wanted)
    raw = gpu.measure(wanted, gpu.Processes("jax", "cpu"), 3, 0.4, end=101.0 + total)
    measured = [Point.from_json(each["point"]) for each in raw["points"]]
    assert measured == wanted[: len(measured)]
    assert raw["left_out"] == [str(point) for point in wanted[len(measured) :]]
    assert 0.3 * total < sum(plan.seconds(p, 3, 0.4) for p in measured) < 0.5 * total + 1
    assert raw["minutes"] == pytest.approx((clock[0] - 100.0) / 60)
    assert raw["complete"]
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith(
        f"[1/{len(measured)}] large: LSTM 16x1024x768x768, training in bfloat16: "
    )
    assert last.endswith("about 0.0 min left]")


# The comparison with the reference.


def prepared_gru(change=lambda arrays: arrays):
    """A contender that computes what the reference does, changed."""
    point = Point("large", "GRU", SMALL, "training", ())
    weights = contenders._weights(point)
    states = contenders._initial_states(point)
    empty = Computation(list, list, arrays=list, weights=weights, states=states)
    y, gradients = worker.reference(empty, point)
    return replace(empty, arrays=lambda results: change([y, *gradients])), point


def test_a_wrong_gradient_is_found():
    assert worker.check(*prepared_gru()) == {"output": 0, "gradient": 0}

    def halved(arrays):
        return [*arrays[:2], 0.5 * arrays[2], *arrays[3:]]

    differences = worker.check(*prepared_gru(halved))
    assert differences == {"output": 0, "gradient": pytest.approx(0.5)}


class Answering:
    """Workers with given replies."""

    def __init__(self, **replies):
        self.replies, self.asked = replies, []

    def __getitem__(self, name):
        self.name = name
        return self

    def ask(self, **request):
        self.asked.append((self.name, request["point"]["shape"], request["point"]["mode"]))
        reply = self.replies[self.name]
        if isinstance(reply, Exception):
            raise reply
        return reply


def test_contenders_that_are_wrong_are_not_timed():
    workers = Answering(
        kerasrnn={"output": 0.01, "gradient": 0.02},  # more than float16 is allowed
        keras={"output": 0.01, "gradient": float("nan")},
        torch=Failure("RuntimeError: torch finds no GPU"),
    )
    checks = gpu.Checks(workers)
    point = Point("large", "LSTM", LARGE, "inference", ("kerasrnn", "keras", "torch"))
    for _ in range(2):  # each is asked once
        assert checks.failing(point) == {
            "keras": {"error": "differs from the reference: output 0.01, gradient nan"},
            "torch": {"error": "RuntimeError: torch finds no GPU"},
        }
    assert workers.asked == [(name, list(SMALL), "training") for name in point.contenders]
    assert [check["contender"] for check in checks.to_json()] == list(point.contenders)
    half = replace(point, contenders=("kerasrnn",), precision="float16")
    error = "differs from the reference: output 0.01, gradient 0.02"
    assert checks.failing(half) == {"kerasrnn": {"error": error}}


def test_the_layout_of_cudnn():
    """GRU's gates are z, r, h in Keras and r, z, h in cuDNN; the rows of a block are units."""
    point = Point("large", "GRU", Shape(1, 1, 2, 3), "training", ())
    given = contenders._weights(point)
    kernel, _, input_bias, recurrent_bias = contenders.to_cudnn("GRU", given)
    z, r, h = np.split(given["kernel"], 3, axis=1)
    np.testing.assert_array_equal(kernel, np.concatenate([r.T, z.T, h.T]))
    assert list(input_bias[:3]) == list(given["bias"][0, 3:6])
    assert list(recurrent_bias[6:]) == list(given["bias"][1, 6:])
    back = contenders.from_cudnn("GRU", contenders.to_cudnn("GRU", given))
    for value, expected in zip(back, given.values(), strict=True):
        np.testing.assert_array_equal(value, expected)


def test_the_weights_of_jax_rnn(monkeypatch):
    """JAX's cuDNN LSTM in its own words, which need no GPU."""
    jax = pytest.importorskip("jax")
    from jax.experimental import rnn

    def lstm(x, h, c, weights, lengths, features, units, **options):
        layers = options["num_layers"], options["bidirectional"]
        parts = rnn.unpack_lstm_weights(weights, features, units, *layers)
        return rnn.lstm_ref(x, h, c, *parts, lengths, features, units, **options)

    monkeypatch.setattr(rnn, "lstm", lstm)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    point = Point("large", "LSTM", SMALL, "training", ("jax-rnn",), "float32")
    differences = worker.check(contenders.computation("jax-rnn", point, "cpu"), point)
    assert max(differences.values()) < 1e-5


# The command and its processes.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--parts", "grid"], "--parts grid: expected some of large, lengths"),
        (["--minutes", "0", "--out", "x"], "--minutes 0: expected a positive number"),
        (["--device", "cpu"], "--device cpu: expected --out with another folder"),
        (["--parts", "peak", "--cells", "MGU"], "nothing to measure"),
        (["--minutes", "0.1"], "--minutes 0.1: expected at least "),
    ],
)
def test_bad_options_are_refused(arguments, message, capsys, monkeypatch):
    monkeypatch.setattr(gpu, "find_backend", lambda wanted, device: ("jax", "an abacus"))
    with pytest.raises(SystemExit) as ended:
        gpu.main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_the_first_backend_with_a_gpu_is_used(monkeypatch, capsys):
    found = {"tensorflow": {"platform": "cpu", "name": "CPU"}}

    class Found:
        def __init__(self, backend, device):
            self.backend = backend

        @contextlib.contextmanager
        def fresh(self, contender):
            yield self

        def ask(self, do):
            if self.backend not in found:
                raise Failure("ImportError: none")
            return found[self.backend]

    monkeypatch.setattr(gpu, "installed", lambda package: True)
    monkeypatch.setattr(gpu, "Processes", Found)
    with pytest.raises(SystemExit) as ended:
        gpu.main([])
    assert ended.value.code == 1
    assert (
        "no GPU was found (tensorflow: only CPU; jax: ImportError: none); expected one"
        in capsys.readouterr().err
    )
    assert gpu.find_backend(None, "cpu") == ("tensorflow", "CPU")
    found["jax"] = {"platform": "gpu", "name": "an abacus"}
    assert gpu.find_backend(None, "gpu") == ("jax", "an abacus")


@pytest.mark.slow
@pytest.mark.tensorflow
@pytest.mark.xdist_group("processes")
def test_it_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", Forked)
    selected = ["--cells", "GRU", "--parts", "large,peak", "--contenders", "kerasrnn,keras"]
    device = ["--device", "cpu", "--backend", "tensorflow"]
    gpu.main(["--quick", "--out", str(tmp_path), *device, *selected])
    raw = json.loads((tmp_path / "gpu.json").read_text())
    assert [check["contender"] for check in raw["checks"]] == ["kerasrnn", "keras"] * 3
    assert all(0 < check["gradient"] < check["tolerance"] for check in raw["checks"])
    *timed, peak = report.results(raw)
    assert [str(each.point) for each in timed] == [
        f"large: GRU 2x6x8x16, {mode} in {precision}"
        for precision in ("bfloat16", "float16", "float32")
        for mode in ("training", "inference")
    ]
    for each in timed:
        assert all(summary.measured(each, name) for name in ("kerasrnn", "keras"))
    assert str(peak.point) == "peak: GRU 2x6x8x16, training in bfloat16"
    assert all(record["peak"] > 0 for record in peak.records.values())
    assert (tmp_path / "gpu.md").read_text().startswith("# GPU\n")
    assert (tmp_path / "gpu.png").stat().st_size > 0
