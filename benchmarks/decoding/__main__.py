"""Time greedy decoding and beam search of the included model `translate`.

    python -m benchmarks.decoding                        everything: some minutes
    python -m benchmarks.decoding --contenders kerasrnn,torch

It translates German sentences of 3 to 25 symbols, as a user calls it. Each contender runs in its
own process, and the contenders take turns at each point, as in `benchmarks.speed`. Run it on an
otherwise idle machine: the threads of PyTorch and onnxruntime are several times slower if they
share a core. The benchmark writes decoding.json (all numbers, by round) and decoding.md (tables,
and targets met or missed) to --out.
"""

import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.decoding import report
from benchmarks.decoding.contenders import CONTENDERS, Point, points
from benchmarks.measuring import loop
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
    """Return the results, and whether they are complete."""
    with closing(Workers(PROGRAM, [folder])) as workers:
        return loop.measure(
            wanted,
            lambda point: in_turn(point, workers, rounds, share),
            lambda finished: (len(wanted) - finished, None),
            lambda point, record, value: f"{1e3 * value / len(point.sentences):.3g} ms",
        )


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
