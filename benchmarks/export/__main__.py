"""Compare the latency of exports for one sequence: kerasrnn's files, Keras's files, Keras itself.

    python -m benchmarks.export                          everything: some minutes
    python -m benchmarks.export --models 0,3 --contenders onnx,keras-onnx,predict

Each contender runs in its own process, which loads only its runtime, and the contenders take turns
at each point, as in `benchmarks.speed`. Run it on an otherwise idle machine: the threads of
onnxruntime spin while they wait, and are several times slower if they share a core. The benchmark
writes export.json (all numbers, by round), export.md (tables, and targets met or missed) and
export.png to --out.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.export import report
from benchmarks.export.contenders import CONTENDERS, FILES, MODELS, Point, points
from benchmarks.measuring import loop
from benchmarks.measuring.machine import PACKAGES as MEASURED
from benchmarks.measuring.processes import Worker, Workers, in_turn
from benchmarks.measuring.reports import keep, print_targets
from benchmarks.measuring.study import Study, conditions, given_options, repeats

PROGRAM = "benchmarks.export.contenders"
RESULTS = Path(__file__).parent / "results"
PACKAGES = (*MEASURED[:-1], "onnx", "onnxruntime", "tf2onnx", "ai-edge-litert", "numpy")


def measure(
    wanted: Sequence[Point], rounds: int, share: float, threads: int
) -> tuple[list[Any], list[Any], bool]:
    """Return the files, the results, and whether they are complete."""
    files: list[Any] = []

    def in_models() -> Iterator[Point]:
        """The points, each model's after its files were made."""
        for _, group in groupby(wanted, key=lambda point: point.model):
            of_model = list(group)
            files.append({"point": of_model[0].to_json(), "files": _made(of_model, folder)})
            yield from of_model

    with (
        tempfile.TemporaryDirectory(prefix="exports-") as folder,
        closing(Workers(PROGRAM, [folder, str(threads)])) as workers,
    ):
        found, complete = loop.measure(
            in_models(),
            lambda point: _in_turn(point, files[-1]["files"], workers, rounds, share),
            lambda finished: (len(wanted) - finished, None),
            lambda point, record, value: f"{1e6 * value:.3g} us",
        )
    return files, found, complete


def _made(of_model: Sequence[Point], folder: str) -> dict[str, Any]:
    maker = Worker("maker", PROGRAM, [folder])
    try:
        return maker.ask(do="make", points=[point.to_json() for point in of_model])["files"]
    finally:
        maker.close()


def _in_turn(
    point: Point, files: dict[str, Any], workers: Workers, rounds: int, share: float
) -> dict[str, Any]:
    """Time the contenders that have a file, in turn; return the errors of the others."""
    by_file = {FILES[name]: record for name, record in files.items()}
    of_each = {name: by_file[FILES[name]] for name in point.contenders}
    able = tuple(name for name in of_each if "error" not in of_each[name])
    records = in_turn(replace(point, contenders=able), workers, rounds, share)
    return of_each | records


def study() -> Study:
    found = Study(
        "benchmarks.export",
        __doc__,
        {
            "contenders": CONTENDERS,
            "models": {str(n): str(model) for n, model in enumerate(MODELS)},
        },
    )
    found.add_choice("models", [str(n) for n in range(len(MODELS))], "models, by number")
    found.add_choice("contenders", CONTENDERS, "contenders to measure; comparisons require onnx")
    found.add_common(RESULTS)
    found.options.add_argument(
        "--threads",
        type=int,
        default=0,
        metavar="N",
        help="threads of onnxruntime (default: 0, its own default of one per core)",
    )
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the results, and print their paths."""
    command = study()
    chosen = command.parse(arguments)
    if chosen.threads < 0:
        command.options.error(f"--threads {chosen.threads}: expected a positive integer, or 0")
    wanted = points(chosen.quick, chosen.contenders, [int(n) for n in chosen.models])
    if not wanted:
        command.options.error("nothing to measure: bidirectional models have no step")
    machine = conditions(PACKAGES)
    files, found, complete = measure(wanted, *repeats(chosen), chosen.threads)
    raw = {
        "machine": machine,
        "options": given_options(chosen),
        "complete": complete,
        "files": files,
        "points": found,
    }
    for file in write(raw, command.typed(), chosen.out):
        print(file)
    print_targets(report.targets(report.results(raw)))


def write(raw: dict[str, Any], command: str, folder: Path) -> list[Path]:
    """Write the results; each file is replaced atomically."""
    tables = report.report(raw, command)
    return [*keep(raw, tables, folder, "export"), *report.draw(raw, folder)]


if __name__ == "__main__":
    main()
