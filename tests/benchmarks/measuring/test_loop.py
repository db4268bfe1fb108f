"""The measuring loop of the studies, and their commands, without a process."""

import sys
from dataclasses import dataclass

import pytest

from benchmarks.measuring import loop
from benchmarks.measuring.study import Study


@dataclass(frozen=True)
class Point:
    n: int
    part: str = "grid"

    def __str__(self):
        return f"point {self.n}"

    def to_json(self):
        return {"n": self.n}


RECORDS = {"one": {"rounds": [[0.002, 0.004, 0.009], [0.006]]}, "two": {"error": "no memory"}}


def test_every_point_is_measured_and_printed(monkeypatch, capsys):
    """The second point has three times the work of the first, and takes so long."""
    clock = [0.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: clock[0])

    def records_of(point):
        clock[0] += 60 * (1 + 2 * point.n)
        return RECORDS

    left = loop.in_proportion([1, 3, 4])
    found, complete = loop.measure([Point(0), Point(1)], records_of, left)
    assert found == [{"point": {"n": n}, "records": RECORDS} for n in (0, 1)]
    assert complete
    measured = "one 5 ms, two failed (no memory)"  # the median of 4 and 6
    assert capsys.readouterr().out.splitlines() == [
        f"[1/3] point 0: {measured} [60 s, about 7.0 min left]",
        f"[2/3] point 1: {measured} [180 s, about 4.0 min left]",
    ]


def test_an_interruption_keeps_the_finished_points(capsys):
    def records_of(point):
        if point.n:
            raise KeyboardInterrupt
        return {"one": {"peak": 3 << 20}}

    def shown(point, record, value):
        assert value is None
        return f"{record['peak'] >> 20} MiB"

    found, complete = loop.measure(map(Point, range(3)), records_of, lambda n: (2, None), shown)
    assert [each["point"] for each in found] == [{"n": 0}]
    assert not complete
    printed = capsys.readouterr()
    assert printed.out == "[1/3] point 0: one 3 MiB [0 s]\n"
    assert printed.err == "interrupted\n"


@pytest.mark.parametrize(
    ("backend", "begin"), [(None, ""), ("tensorflow", ""), ("jax", "KERAS_BACKEND=jax ")]
)
def test_the_command_names_another_backend(backend, begin, monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    if backend is not None:
        monkeypatch.setenv("KERAS_BACKEND", backend)
    monkeypatch.setattr(sys, "argv", ["", "--rounds", "3"])
    typed = Study("benchmarks.speed", "about", {}).typed()
    assert typed == f"{begin}python -m benchmarks.speed --rounds 3"
