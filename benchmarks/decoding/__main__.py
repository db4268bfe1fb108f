"""Time greedy decoding and beam search of the included model `translate`.

    python -m benchmarks.decoding                        everything: some minutes
    python -m benchmarks.decoding --contenders kerasrnn,torch

It translates German sentences of 3 to 25 symbols, as a user calls it. Each contender runs in its
own process, and the contenders take turns at each point, as in `benchmarks.speed`. Run it on an
otherwise idle machine: the threads of PyTorch and onnxruntime are several times slower if they
share a core. The benchmark writes decoding.json (all numbers, by round) and decoding.md (tables,
and targets met or missed) to --out.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.decoding import report
from benchmarks.decoding.contenders import CONTENDERS, Point, points
from benchmarks.measuring import summary
from benchmarks.measuring.machine import PACKAGES as MEASURED
from benchmarks.measuring.processes import Worker, Workers, in_turn
from benchmarks.measuring.reports import keep, print_targets
from benchmarks.measuring.study import Study, conditions, given_options, repeats

PROGRAM = "benchmarks.decoding.contenders"
RESULTS = Path(__file__).parent / "results"
PACKAGES = (*MEASURED, "onnxruntime", "numpy")


def measure(
    wanted: Sequence[Point], rounds: int, share: float, folder: str
) -> tuple[list[Any], bool]:
    """Return the results, and whether they are complete; an interruption keeps finished points."""
    found: list[Any] = []
    workers = Workers(PROGRAM, [folder])
    try:
        for n, point in enumerate(wanted):
            started = time.monotonic()
            records = in_turn(point, workers, rounds, share)
            found.append({"point": point.to_json(), "records": records})
            print(
                f"[{n + 1}/{len(wanted)}] {point}: {_short(point, records)} "
                f"[{time.monotonic() - started:.0f} s]",
                flush=True,
            )
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return found, False
    finally:
        workers.close()
    return found, True


def _short(point: Point, records: dict[str, Any]) -> str:
    words = []
    for name, record in records.items():
        values = summary.measured(summary.Result(point, records), name)
        if values is None:
            words.append(f"{name} failed ({record['error']})")
        else:
            seconds = statistics.median(values) / len(point.sentences)
            words.append(f"{name} {1e3 * seconds:.3g} ms")
    return ", ".join(words)


def study() -> Study:
    found = Study("benchmarks.decoding", __doc__, {"contenders": CONTENDERS})
    found.add_choice(
        "contenders", CONTENDERS, "contenders to measure; comparisons require kerasrnn"
    )
    found.add_common(RESULTS)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the results, and print their paths."""
    command = study()
    chosen = command.parse(arguments)
    machine = conditions(PACKAGES)
    with tempfile.TemporaryDirectory(prefix="decoding-") as folder:
        maker = Worker("maker", PROGRAM, [folder])
        try:
            maker.ask(do="make")
        finally:
            maker.close()
        wanted = points(chosen.quick, chosen.contenders)
        found, complete = measure(wanted, *repeats(chosen), folder)
    raw = {
        "machine": machine,
        "options": given_options(chosen),
        "complete": complete,
        "points": found,
    }
    for file in keep(raw, report.report(raw, command.typed()), chosen.out, "decoding"):
        print(file)
    print_targets(report.targets(report.results(raw)))


if __name__ == "__main__":
    main()
