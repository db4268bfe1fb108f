"""The benchmark of decoding: its report, its points. No time is asserted."""

import pytest

from benchmarks.decoding import report
from benchmarks.decoding.contenders import CONTENDERS, Point, points
from tests.benchmarks.export.test_export import MADE_UP as OF_EXPORTS


def made_up(batch, beam, **milliseconds):
    records = {
        name.replace("_", "-"): {"error": medians}
        if isinstance(medians, str)
        else {"first": 2.0, "facts": [160.0], "rounds": [[16e-3 * m] for m in medians]}
        for name, medians in milliseconds.items()
    }
    return {"point": Point(batch, beam, tuple(records)).to_json(), "records": records}


MADE_UP = {
    "machine": OF_EXPORTS["machine"],
    "complete": True,
    "points": [
        made_up(1, 1, kerasrnn=[1, 2, 3], torch=[2, 2, 4], onnx_step="lost"),
        made_up(1, 5, kerasrnn=[4, 4, 5]),
        made_up(16, 1, kerasrnn=[1, 1, 1], torch=[1, 1, 4], onnx_step=[2, 2, 2]),
        made_up(16, 5, kerasrnn=[3, 3, 3]),
    ],
}


def test_targets():
    found = {target.text: target for target in report.targets(report.results(MADE_UP))}
    beams = found["beam of 5, greedy decoding"]
    assert (beams.ratios, beams.verdict) == ([2.0, 3.0], "**missed**")
    assert found["greedy decoding, torch"].ratios == pytest.approx([0.75, 1.0])
    assert found["greedy decoding, onnx-step"].ratios == pytest.approx([0.5])
    assert found["greedy decoding with jit_compile=True, torch"].ratios == []


def test_tables():
    lines = report.report(MADE_UP, "command").splitlines()
    times = lines[lines.index("## Time") :]
    assert "| greedy, batches of 1 | 2 (200) | 2 (200) | error |" in times
    assert "| beam of 5, batches of 16 | 3 (300) |  |  |" in times
    assert "- greedy, batches of 1: onnx-step failed: lost" in lines


def test_points():
    every = points()
    assert {(point.batch, point.beam) for point in every} == {
        (batch, beam) for batch in (1, 16, 64) for beam in (1, 5)
    }
    assert every[0].contenders == tuple(CONTENDERS)
    assert {len(point.sentences) for point in every} == {16, 64}
    assert [Point.from_json(point.to_json()) for point in every] == every
    assert [point.batch for point in points(contenders=["torch"])] == [1, 16, 64]
