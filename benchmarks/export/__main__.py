"""Compare the latency of exports for one sequence: kerasrnn's files, Keras's files, Keras itself.

    python -m benchmarks.export                          everything: some minutes
    python -m benchmarks.export --models 0,3 --contenders onnx,keras-onnx,predict

Each contender runs in its own process, which loads only its runtime, and the contenders take turns
at each point, as in `benchmarks.speed`. Run it on an otherwise idle machine: the threads of
onnxruntime spin while they wait, and are several times slower if they share a core. The benchmark
writes export.json (all numbers, by round), export.md (tables, and targets met or missed) and
export.png to --out.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.export import report
from benchmarks.export.contenders import CONTENDERS, FILES, MODELS, Point, points
from benchmarks.measuring import machine, summary
from benchmarks.measuring.processes import Worker, Workers, in_turn
from benchmarks.measuring.reports import judged, keep

PROGRAM = "benchmarks.export.contenders"
RESULTS = Path(__file__).parent / "results"
PACKAGES = (*machine.PACKAGES[:-1], "onnx", "onnxruntime", "tf2onnx", "ai-edge-litert", "numpy")
SHARE = 0.4  # seconds per turn of a contender


def measure(
    wanted: Sequence[Point], rounds: int, share: float, threads: int
) -> tuple[list[Any], list[Any], bool]:
    """Return the files, the results, and whether they are complete."""
    files: list[Any] = []
    found: list[Any] = []
    done = 0
    with tempfile.TemporaryDirectory(prefix="exports-") as folder:
        workers = Workers(PROGRAM, [folder, str(threads)])
        try:
            for _, group in groupby(wanted, key=lambda point: point.model):
                of_model = list(group)
                made = _made(of_model, folder)
                files.append({"point": of_model[0].to_json(), "files": made})
                for point in of_model:
                    started = time.monotonic()
                    records = _in_turn(point, made, workers, rounds, share)
                    found.append({"point": point.to_json(), "records": records})
                    done += 1
                    print(
                        f"[{done}/{len(wanted)}] {point}: {_short(point, records)} "
                        f"[{time.monotonic() - started:.0f} s]",
                        flush=True,
                    )
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return files, found, False
        finally:
            workers.close()
    return files, found, True


def _made(of_model: Sequence[Point], folder: str) -> dict[str, Any]:
    maker = Worker("maker", PROGRAM, [folder])
    try:
        return maker.ask(do="make", points=[point.to_json() for point in of_model])["files"]
    finally:
        maker.close()


def _in_turn(
    point: Point, made: dict[str, Any], workers: Workers, rounds: int, share: float
) -> dict[str, Any]:
    """Time the contenders that have a file, in turn; return the errors of the others."""
    by_file = {FILES[name]: record for name, record in made.items()}
    of_each = {name: by_file[FILES[name]] for name in point.contenders}
    able = tuple(name for name in of_each if "error" not in of_each[name])
    records = in_turn(replace(point, contenders=able), workers, rounds, share)
    return of_each | records


def _short(point: Point, records: dict[str, Any]) -> str:
    words = []
    for name, record in records.items():
        values = summary.measured(summary.Result(point, records), name)
        if values is None:
            words.append(f"{name} failed ({record['error']})")
        else:
            words.append(f"{name} {1e6 * statistics.median(values):.3g} us")
    return ", ".join(words)


def parser() -> argparse.ArgumentParser:
    def words(text: str) -> list[str]:
        return text.split(",")

    described = "\n".join(
        [
            "contenders:",
            *(f"  {name:18}{text}" for name, text in CONTENDERS.items()),
            "",
            "models:",
            *(f"  {n}  {model}" for n, model in enumerate(MODELS)),
        ]
    )
    options = argparse.ArgumentParser(
        "python -m benchmarks.export",
        description=__doc__,
        epilog=described,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    options.add_argument(
        "--models", type=words, metavar="LIST", help="models, by number (default: all)"
    )
    options.add_argument(
        "--contenders",
        type=words,
        default=list(CONTENDERS),
        metavar="LIST",
        help="contenders to measure; comparisons require onnx (default: all)",
    )
    options.add_argument(
        "--rounds", type=int, default=5, metavar="N", help="rounds per point (default: 5)"
    )
    options.add_argument(
        "--threads",
        type=int,
        default=0,
        metavar="N",
        help="threads of onnxruntime (default: 0, its own default of one per core)",
    )
    options.add_argument(
        "--out",
        type=Path,
        default=RESULTS,
        metavar="DIR",
        help="output folder; existing results are replaced (default: %(default)s)",
    )
    options.add_argument(
        "--quick",
        action="store_true",
        help="smoke test with tiny models and one short round",
    )
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the results, and print their paths."""
    options = parser()
    chosen = options.parse_args(arguments)
    for word in chosen.contenders:
        if word not in CONTENDERS:
            options.error(f"--contenders {word}: expected some of {', '.join(CONTENDERS)}")
    numbers = [str(n) for n in range(len(MODELS))]
    for word in chosen.models or ():
        if word not in numbers:
            options.error(f"--models {word}: expected numbers below {len(MODELS)}")
    if chosen.rounds < 1:
        options.error(f"--rounds {chosen.rounds}: expected a positive integer")
    if chosen.threads < 0:
        options.error(f"--threads {chosen.threads}: expected a positive integer, or 0")
    wanted = points(chosen.quick, chosen.contenders, [int(n) for n in chosen.models or numbers])
    if not wanted:
        options.error("nothing to measure: bidirectional models have no step")
    rounds, share = (1, 0.01) if chosen.quick else (chosen.rounds, SHARE)
    conditions = machine.machine(PACKAGES)
    if conditions["load"] is not None and conditions["load"] > 0.5:
        print(f"the machine is not idle (load {conditions['load']:.2f})", file=sys.stderr)
    files, found, complete = measure(wanted, rounds, share, chosen.threads)
    given = {name: value for name, value in vars(chosen).items() if name != "out"}
    raw = {
        "machine": conditions,
        "options": given,
        "complete": complete,
        "files": files,
        "points": found,
    }
    command = "python -m benchmarks.export " + " ".join(sys.argv[1:])
    for file in write(raw, command.strip(), chosen.out):
        print(file)
    judged(report.targets(report.results(raw)))


def write(raw: dict[str, Any], command: str, folder: Path) -> list[Path]:
    """Write the results; each file is replaced atomically."""
    tables = report.report(raw, command)
    return [*keep(raw, tables, folder, "export"), *report.draw(raw, folder)]


if __name__ == "__main__":
    main()
