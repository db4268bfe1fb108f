"""Measure the layers on a GPU, beside cuDNN, Keras and lax.scan, mostly in bfloat16.

    python -m benchmarks.gpu                             the most important points, in ten minutes
    python -m benchmarks.gpu --minutes 30 --backend jax
    python -m benchmarks.gpu --parts large --cells LSTM --out /tmp/gpu
    python -m benchmarks.gpu --quick --device cpu        a smoke test, without a GPU

Each contender runs in its own process, and first computes a small example, which is compared with
a NumPy reference: one that is wrong is not timed. Then the contenders take turns at each point. A
point that would not fit into the remaining time is left out, the least important ones first. Only
one GPU is used. It needs TensorFlow or JAX with GPU support; PyTorch takes part if it is installed.
The benchmark writes gpu.json (all numbers, by round), gpu.md (tables) and gpu.png to --out.
"""

import contextlib
import importlib.util
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.gpu import report
from benchmarks.gpu.plan import (
    CELLS,
    CONTENDERS,
    PARTS,
    SMALL,
    Point,
    fitting,
    points,
    seconds,
)
from benchmarks.measuring import loop
from benchmarks.measuring.machine import PACKAGES
from benchmarks.measuring.processes import REPEATS, Failure, Workers, fresh, in_turn
from benchmarks.measuring.reports import keep
from benchmarks.measuring.study import Study, conditions, given_options, repeats
from benchmarks.measuring.summary import Record

PROGRAM = "benchmarks.gpu.worker"
RESULTS = Path(__file__).parent / "results"
BACKENDS = ("tensorflow", "jax")
LIMIT = 180  # seconds per reply: a first call may compile for a minute
MINUTES = 10.0
TOLERANCES = {"bfloat16": 0.03, "float16": 0.005, "float32": 0.005}
"""The largest relative difference from the reference. bfloat16 has eight bits, and correct results
differed by up to 0.014; float16 has eleven, as do products of float32 in the TF32 of a GPU."""

GPU_PACKAGES = (
    *PACKAGES,
    "jax",
    "jaxlib",
    *(f"jax-cuda{n}-plugin" for n in (12, 13)),
    *(f"nvidia-cudnn-cu{n}" for n in (12, 13)),
)


class Processes:
    """How the processes of the contenders start.

    Args:
        backend: Keras's backend.
        device: `gpu` or `cpu`.
    """

    def __init__(self, backend: str, device: str) -> None:
        environment = {
            "KERAS_BACKEND": backend,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            # The processes share the memory of the GPU.
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        }
        if device == "cpu":
            environment |= {
                "CUDA_VISIBLE_DEVICES": "-1",
                "JAX_PLATFORMS": "cpu",
                "TF_CPU_ALLOCATOR_USE_BFC": "1",  # the GPU's allocator, which counts memory
            }
        self._options = (PROGRAM, [device], environment, LIMIT)

    def shared(self) -> Workers:
        return Workers(*self._options)

    def fresh(self, contender: str) -> Any:
        return fresh(contender, *self._options)


def installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def find_backend(wanted: str | None, device: str) -> tuple[str, str]:
    """The backend, and the name of its device: the first one that finds the device.

    Raises:
        Failure: no backend is installed, or none finds a GPU.
    """
    candidates = [wanted] if wanted else [name for name in BACKENDS if installed(name)]
    if not candidates:
        raise Failure("neither TensorFlow nor JAX is installed; expected one of them")
    found = []
    for backend in candidates:
        with Processes(backend, device).fresh("kerasrnn") as worker:
            try:
                reply = worker.ask(do="device")
            except Failure as failure:
                found.append(f"{backend}: {failure}")
                continue
        if reply["platform"] not in ("cpu", "tpu") or device == "cpu":
            return backend, reply["name"]
        found.append(f"{backend}: only {reply['name']}")
    raise Failure(
        f"no GPU was found ({'; '.join(found)}); expected one, and a backend with GPU support, or "
        "--quick --device cpu for a smoke test"
    )


def describe(device: str, name: str, backend: str) -> dict[str, Any]:
    """The machine with its device and, for NVIDIA's, the driver."""
    listed = ""
    if device == "gpu":
        query = [
            "nvidia-smi",
            "--query-gpu=name,memory.total,driver_version",
            "--format=csv,noheader",
        ]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True)
            _, *lines = done.stdout.strip().splitlines()
            listed = f"; nvidia-smi: {'; '.join(lines)}" if lines else ""
    return conditions(GPU_PACKAGES) | {"device": f"{name}, with {backend}{listed}"}


# Measuring.


class Checks:
    """The comparisons with the reference: each contender once with each cell, in each precision."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self.found: dict[tuple[str, str, str], dict[str, Any]] = {}

    def failing(self, point: Point) -> dict[str, dict[str, str]]:
        """The contenders of the point that are wrong or fail, with their error records."""
        small = replace(point, shape=SMALL, mode="training")
        errors = {}
        for name in point.contenders:
            key = point.cell, point.precision, name
            if key not in self.found:
                try:
                    result = self._workers[name].ask(do="check", point=small.to_json())
                except Failure as failure:
                    result = {"error": str(failure)}
                self.found[key] = result
            result = self.found[key]
            if "error" in result:
                errors[name] = {"error": result["error"]}
            elif not all(
                value <= TOLERANCES[point.precision] for value in result.values()
            ):  # NaN, too
                differences = ", ".join(f"{k} {v:.2g}" for k, v in result.items())
                errors[name] = {"error": f"differs from the reference: {differences}"}
        return errors

    def to_json(self) -> list[dict[str, Any]]:
        return [
            {
                "cell": cell,
                "precision": precision,
                "contender": name,
                "tolerance": TOLERANCES[precision],
                **result,
            }
            for (cell, precision, name), result in self.found.items()
        ]


def alone(point: Point, processes: Processes, rounds: int, share: float) -> dict[str, Any]:
    """Measure the peak memory, each contender in a new process; a recipe's step is timed, too."""
    records: dict[str, Any] = {}
    for name in point.contenders:
        try:
            with processes.fresh(name) as worker:
                record = worker.ask(do="prepare", point=point.to_json())
                if point.part == "recipe":
                    count = min(max(round(share / record["warm"]), 1), REPEATS[1])
                    record["rounds"] = [
                        worker.ask(do="time", repeats=count)["seconds"] for _ in range(rounds)
                    ]
                try:
                    record["peak"] = worker.ask(do="peak")["bytes"]
                except Failure:
                    if point.part == "peak":
                        raise
            records[name] = record
        except Failure as failure:
            records[name] = {"error": str(failure)}
    return records


def measure(
    wanted: Sequence[Point], processes: Processes, rounds: int, share: float, end: float
) -> dict[str, Any]:
    """Measure the most important points until the time `end`, by `time.monotonic`."""
    remaining, measured = list(wanted), []
    start = time.monotonic()
    pace = 1.0

    def that_fit() -> list[Point]:
        return fitting(remaining, end - time.monotonic(), rounds, share, pace)

    def estimate(some: Sequence[Point]) -> float:
        return sum(seconds(point, rounds, share) for point in some)

    def in_time() -> Iterator[Point]:
        while chosen := that_fit():
            # One that does not fit now may do so later, if the others turn out to be faster.
            remaining.remove(chosen[0])
            measured.append(chosen[0])
            yield chosen[0]

    def left(finished: int) -> tuple[int, float]:
        nonlocal pace
        pace = (time.monotonic() - start) / estimate(measured)
        chosen = that_fit()
        return len(chosen), pace * estimate(chosen) / 60

    with contextlib.closing(processes.shared()) as workers:
        checks = Checks(workers)

        def records_of(point: Point) -> dict[str, Any]:
            return _records(point, workers, checks, processes, rounds, share)

        found, complete = loop.measure(in_time(), records_of, left, _shown)
    return {
        "complete": complete,
        "minutes": (time.monotonic() - start) / 60,
        "left_out": [str(point) for point in remaining],
        "checks": checks.to_json(),
        "points": found,
    }


def _records(
    point: Point,
    workers: Workers,
    checks: Checks,
    processes: Processes,
    rounds: int,
    share: float,
) -> dict[str, Any]:
    records: dict[str, Any] = dict(checks.failing(point))
    right = tuple(name for name in point.contenders if name not in records)
    checked = replace(point, contenders=right)
    if point.part in ("peak", "recipe"):
        workers.close()  # they hold memory of the device
        records |= alone(checked, processes, rounds, share)
    else:
        records |= in_turn(checked, workers, rounds, share, (1, REPEATS[1]))
    return {name: records[name] for name in point.contenders}


def _shown(point: Point, record: Record, value: float | None) -> str:
    if value is None:
        return f"{record['peak'] / 2**20:.0f} MiB"
    return loop.milliseconds(point, record, value)


def write(raw: dict[str, Any], command: str, folder: Path) -> list[Path]:
    """Write the results; each file is replaced atomically."""
    return [*keep(raw, report.report(raw, command), folder, "gpu"), *report.draw(raw, folder)]


def study() -> Study:
    found = Study(
        "benchmarks.gpu",
        __doc__,
        {"parts": PARTS, "contenders": {name: each.about for name, each in CONTENDERS.items()}},
    )
    found.add_choice("parts", PARTS, "parts to measure")
    found.add_choice("cells", CELLS, "cells to measure, by the names of their layers")
    found.add_choice("contenders", CONTENDERS, "contenders to measure")
    found.options.add_argument(
        "--backend",
        choices=BACKENDS,
        help="Keras's backend (default: the first installed one that finds the device)",
    )
    found.options.add_argument(
        "--device",
        choices=("gpu", "cpu"),
        default="gpu",
        help="cpu is for smoke tests: its results go to --out, which is then required "
        "(default: gpu)",
    )
    found.options.add_argument(
        "--minutes",
        type=float,
        default=MINUTES,
        help="the time in which the most important points are measured (default: %(default)g)",
    )
    found.add_common(RESULTS, rounds=3)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the results, and print their paths."""
    command = study()
    chosen = command.parse(arguments)
    end = time.monotonic() + 60 * chosen.minutes
    if chosen.device == "cpu" and chosen.out == RESULTS:
        command.options.error("--device cpu: expected --out with another folder than the default")
    if not chosen.minutes > 0:
        command.options.error(f"--minutes {chosen.minutes:g}: expected a positive number")
    try:
        backend, name = find_backend(chosen.backend, chosen.device)
    except Failure as failure:
        command.options.exit(1, f"{command.command}: {failure}\n")
    # The packages of contenders, of which Keras's have that of the backend.
    missing = [
        name
        for name in chosen.contenders
        if CONTENDERS[name].package != "keras" and not installed(CONTENDERS[name].package)
    ]
    present = [name for name in chosen.contenders if name not in missing]
    wanted = points(chosen.quick, chosen.parts, chosen.cells, present, backend)
    if not wanted:
        command.options.error("nothing to measure: no part has these cells and contenders")
    rounds, share = repeats(chosen)
    planned = fitting(wanted, end - time.monotonic(), rounds, share)
    if not planned:
        least = min(seconds(point, rounds, share) for point in wanted) / 60
        command.options.error(
            f"--minutes {chosen.minutes:g}: expected at least {least:.1f}, for one of the points"
        )
    print(f"{name}, with {backend}: {len(planned)} of {len(wanted)} points fit, by the estimate")
    machine = describe(chosen.device, name, backend)
    raw = {
        "machine": machine,
        "options": given_options(chosen),
        "backend": backend,
        "missing": missing,
        **measure(wanted, Processes(backend, chosen.device), rounds, share, end),
    }
    for file in write(raw, command.typed(), chosen.out):
        print(file)
    for point in raw["left_out"]:
        print(f"left out for lack of time: {point}")


if __name__ == "__main__":
    main()
