"""Compare the speed with Keras, Keras under XLA, PyTorch, and bare matrix products.

    python -m benchmarks.speed                           everything: an hour or two
    python -m benchmarks.speed --parts grid --cells LSTM,GRU --shapes 0,2
    python -m benchmarks.speed --parts memory,compile --out /tmp/speed
    python -m benchmarks.speed --parts linear --update   the other results remain
    KERAS_BACKEND=jax python -m benchmarks.speed         on JAX, beside Keras's layers and Flax's

Each contender runs in its own process, and the contenders take turns at each point, so that a
machine that becomes slower or faster affects all of them. Run it on an otherwise idle machine. The
benchmark writes speed.json (all numbers, by round), speed.md (tables, and targets met or missed),
speed.png and growth.png to --out; on JAX speed-jax.json and so on.
"""

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.measuring import loop
from benchmarks.measuring.processes import ENVIRONMENT, Failure, Workers, fresh, in_turn
from benchmarks.measuring.reports import keep, print_targets
from benchmarks.measuring.study import Study, conditions, given_options, repeats, words
from benchmarks.measuring.summary import Record
from benchmarks.speed import report, targets
from benchmarks.speed.grid import (
    CACHED,
    CELLS,
    CONTENDERS,
    FEW,
    OF_BACKEND,
    PARTS,
    Point,
    Shape,
    backend,
    points,
    shapes,
)

PROGRAM = "benchmarks.speed.worker"
RESULTS = Path(__file__).parent / "results"


def alone(point: Point, rounds: int) -> dict[str, Any]:
    """Measure first calls or peaks of memory, each in a new process."""
    once = _peaks if point.part == "memory" else _first
    records: dict[str, Any] = {name: {} for name in point.contenders}
    if CACHED in point.contenders:  # fill the cache
        with contextlib.suppress(Failure):
            once(CACHED, point)
    for n in range(rounds):
        start = n % len(point.contenders)
        for name in point.contenders[start:] + point.contenders[:start]:
            record = records[name]
            if "error" in record:
                continue
            try:
                taken = once(name, point)
            except Failure as failure:
                records[name] = {"error": str(failure)}
                continue
            record["facts"] = taken.pop("facts")
            for key, value in taken.items():
                record.setdefault(key, []).append(value)
    return records


def _first(name: str, point: Point) -> dict[str, Any]:
    with fresh(name, PROGRAM, (), _environment()) as worker:
        return worker.ask(do="prepare", point=point.to_json())


def _environment() -> dict[str, str]:
    return ENVIRONMENT | {"KERAS_BACKEND": backend()}


def _peaks(name: str, point: Point) -> dict[str, Any]:
    """Peak memory for the full sequence, and for a few time steps as the baseline."""
    few = replace(point, shape=point.shape._replace(time=FEW))
    with fresh(name, PROGRAM, (), _environment()) as worker:
        all_steps = worker.ask(do="peak", point=point.to_json())
    with fresh(name, PROGRAM, (), _environment()) as worker:
        few_steps = worker.ask(do="peak", point=few.to_json())
    return {
        "peak": all_steps["bytes"],
        "peak_of_few": few_steps["bytes"],
        "facts": all_steps["facts"],
    }


def measure(wanted: Sequence[Point], rounds: int, share: float) -> tuple[list[Any], bool]:
    """Return the results, and whether they are complete."""
    part = None
    with contextlib.closing(Workers(PROGRAM, (), _environment())) as workers:

        def records_of(point: Point) -> dict[str, Any]:
            nonlocal part
            if point.part != part:
                workers.close()
                part = point.part
            if point.part not in ("memory", "compile", "start"):
                return in_turn(point, workers, rounds, share)
            with tempfile.TemporaryDirectory() as folder:
                os.environ["KERASRNN_CACHE"] = folder
                return alone(point, rounds)

        # The time of a point is proportional to the number of contenders.
        left = loop.in_proportion([len(point.contenders) for point in wanted])
        return loop.measure(wanted, records_of, left, _shown)


def _shown(point: Point, record: Record, value: float) -> str:
    if point.part == "memory":
        return f"{value / 2**20:.1f} MiB"
    return loop.milliseconds(point, record, value)


def updated(raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The results, with those of earlier runs at all other points that the benchmark still has."""
    file = folder / f"{report.file_name(raw, 'speed')}.json"
    if not file.is_file():
        return raw
    old = json.loads(file.read_text(encoding="utf-8"))
    possible = {replace(each, contenders=()) for each in points()}
    measured = {_without_contenders(each) for each in raw["points"]}
    earlier = [
        {name: run[name] for name in ("command", "machine", "complete")}
        for run in [*old.get("earlier", ()), old]
    ]
    kept = [
        {**each, "earlier": each.get("earlier", len(earlier) - 1)}
        for each in old["points"]
        if _without_contenders(each) in possible - measured
    ]
    used = sorted({each["earlier"] for each in kept})
    for each in kept:
        each["earlier"] = used.index(each["earlier"])
    return {**raw, "earlier": [earlier[n] for n in used], "points": [*kept, *raw["points"]]}


def _without_contenders(result: Mapping[str, Any]) -> Point:
    return replace(Point.from_json(result["point"]), contenders=())


def write(raw: dict[str, Any], command: str, folder: Path) -> list[Path]:
    """Write the results; each file is replaced atomically."""
    return [
        *keep(raw, report.report(raw, command), folder, report.file_name(raw, "speed")),
        *report.draw(raw, folder),
    ]


def study() -> Study:
    found = Study(
        "benchmarks.speed",
        __doc__,
        {
            "parts": PARTS,
            "contenders": {name: CONTENDERS[name] for name in OF_BACKEND[backend()]},
            "shapes of the grid, batch x time x features x units": {
                str(n): str(shape) for n, shape in enumerate(shapes(quick=False))
            },
        },
    )
    found.add_choice("parts", PARTS, "parts to measure")
    found.add_choice("cells", CELLS, "cells to measure, by the names of their layers")
    found.add_choice(
        "contenders", OF_BACKEND[backend()], "contenders to measure; comparisons require kerasrnn"
    )
    found.options.add_argument(
        "--shapes",
        type=words,
        metavar="LIST",
        help="shapes of the grid, by number or name (default: all)",
    )
    found.add_common(RESULTS)
    found.options.add_argument(
        "--update", action="store_true", help="keep the results of points that are not measured now"
    )
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the results, and print their paths."""
    try:
        command = study()
    except ValueError as error:
        sys.exit(str(error))
    chosen = command.parse(arguments)
    try:
        grid = None if chosen.shapes is None else _shapes(chosen.shapes, chosen.quick)
    except ValueError as error:
        command.options.error(str(error))
    wanted = points(chosen.quick, chosen.parts, chosen.cells, grid, chosen.contenders)
    if not wanted:
        command.options.error("nothing to measure: no part has these cells, shapes and contenders")
    machine = conditions()
    found, complete = measure(wanted, *repeats(chosen))
    raw = {
        "command": command.typed(),
        "machine": machine,
        "backend": backend(),
        "options": given_options(chosen),
        "complete": complete,
        "points": found,
    }
    if chosen.update:
        raw = updated(raw, chosen.out)
    for file in write(raw, command.typed(), chosen.out):
        print(file)
    print_targets(targets.targets(targets.results(raw), raw["backend"]))


def _shapes(words: Sequence[str], quick: bool) -> list[Shape]:
    known = shapes(quick)
    found = []
    for word in words:
        numbered = {str(n): shape for n, shape in enumerate(known)}
        named = {str(shape): shape for shape in known}
        if word not in numbered | named:
            raise ValueError(
                f"--shapes {word}: expected numbers below {len(known)}, or {', '.join(named)}"
            )
        found.append((numbered | named)[word])
    return found


if __name__ == "__main__":
    main()
