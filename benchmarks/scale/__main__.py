"""Estimate the cost of training translation on WMT14, and measure how training scales here.

    python -m benchmarks.scale              measure on two cores: about five minutes
    python -m benchmarks.scale --tables     rewrite the tables of docs/scale.md and the figure

The benchmark measures a step of the translation recipe with one worker and with two, each in its
own process on its own core; the all-reduce alone; the input pipeline; and the operations that XLA
compiles the time loops into. Run it on an otherwise idle machine. The tables of `docs/scale.md`
extrapolate from these measurements, from counts of the model's operations, and from the data
sheets of the devices. Results: `benchmarks/scale/results/scale.{json,md,png}`.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measuring.processes import ENVIRONMENT, ROOT
from benchmarks.measuring.study import conditions
from benchmarks.scale import report
from kerasrnn.files import replacing

PROGRAM = "benchmarks.scale.job"
PAGE = ROOT / "docs" / "scale.md"
RESULTS = Path(__file__).parent / "results"
LIMIT = 600  # seconds for one job

# The recipe's default options, and a smaller model to inspect only the compiled program.
ROWS, LENGTH, REPEATS = 64, 20, 15
SIZES = (10_000, 1_000_000, 4_000_000, 16_000_000)
SMALL = {"units": 8, "embedding": 6, "vocabulary": 37, "depth": 2}
QUICK = {"units": 16, "embedding": 8, "vocabulary": 50}


class Failure(Exception):
    """A benchmark process failed."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, or read existing measurements, and write the results."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.scale",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--tables", action="store_true", help="only rewrite the page from existing results"
    )
    parser.add_argument("--quick", action="store_true", help="smoke test with a tiny model")
    parser.add_argument("--output", type=Path, default=RESULTS, help="default: %(default)s")
    parser.add_argument("--data-dir", help="the TFDS data directory")
    chosen = parser.parse_args(arguments)
    path = chosen.output / "scale.json"
    if not chosen.tables:
        chosen.output.mkdir(parents=True, exist_ok=True)
        results = measure(chosen.quick, chosen.data_dir)
        lines = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in results.items())
        with replacing(path) as scratch:
            scratch.write_text(f"{{\n{lines}\n}}\n")
    results = json.loads(path.read_text())
    with replacing(chosen.output / "scale.md") as scratch:
        scratch.write_text(report.report(results), encoding="utf-8")
    report.draw(results, chosen.output / "scale.png")
    if chosen.output == RESULTS:
        written = report.filled(PAGE.read_text(encoding="utf-8"), report.tables(results))
        with replacing(PAGE) as scratch:
            scratch.write_text(written, encoding="utf-8")
    print(report.report(results))


def measure(quick: bool, data_dir: str | None) -> dict[str, Any]:
    """Run all measurements, one after another."""
    options: dict[str, Any] = QUICK if quick else {}
    repeats = 2 if quick else REPEATS
    sizes = SIZES[:2] if quick else SIZES
    training = {"do": "train", "options": options, "length": LENGTH, "repeats": repeats}

    def trained(batches: Sequence[int], **more: Any) -> dict[str, Any]:
        return {**training, "batches": batches, **more}

    results: dict[str, Any] = {"machine": conditions()}
    # A small model suffices: its loops have the same operations.
    (results["program"],) = run({"do": "program", "options": SMALL})
    (results["update"],) = run({"do": "update"})
    limited = {**options, "vocabulary": 300, "limit": 500} if quick else options
    corpus = {"do": "corpus", "options": limited, "data_dir": data_dir, "batches": 300}
    (results["corpus"],) = run(corpus)
    (one,) = run(trained([ROWS]), cores=1)
    # Independent processes side by side share only the memory bandwidth.
    first, second = run(*[trained([ROWS // 2, ROWS])] * 2, cores=2)
    both = {rows: first["seconds"][rows] + second["seconds"][rows] for rows in first["seconds"]}
    together = trained([ROWS, 2 * ROWS], strategy="multiworker", sizes=sizes)
    chief, _ = run(*[together] * 2, cores=2, cluster=True)
    results["workers"] = {
        "one": one["seconds"],
        "at_once": both,
        "two": chief["seconds"],
        "exchanged": chief["exchanged"],
        "gradients": chief["gradients"],
        "numbers": chief["numbers"],
    }
    batches = {"options": options, "batches": [ROWS // 2, 2 * ROWS], "length": 48}
    (counted,) = run({"do": "memory", **batches})
    (laid_out,) = run({"do": "allocated", **batches})
    results["memory"] = counted | laid_out
    return results


def run(*jobs: dict[str, Any], cores: int = 0, cluster: bool = False) -> list[dict[str, Any]]:
    """Run jobs concurrently, each in its own process.

    Args:
        jobs: the job of each process.
        cores: the number of processes, each pinned to its own core; 0: no pinning.
        cluster: whether the processes are workers of one cluster.

    Raises:
        Failure: a process failed, or there are too few cores.
    """
    began = time.monotonic()
    environment = os.environ | ENVIRONMENT
    environment.pop("TF_CONFIG", None)
    own = sorted(os.sched_getaffinity(0)) if cores else []  # Linux only
    if cores > len(own):
        raise Failure(f"{len(own)} cores; expected {cores}, one per worker")
    addresses = [f"127.0.0.1:{port}" for port in _free(len(jobs))] if cluster else []
    processes = []
    for n, job in enumerate(jobs):
        if cores:
            job = {**job, "core": own[n]}
        if cluster:
            task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": n}}
            environment["TF_CONFIG"] = json.dumps(task)
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", PROGRAM, json.dumps(job)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                env=environment,
            )
        )
    try:
        replies = [process.communicate(timeout=LIMIT) for process in processes]
    except subprocess.TimeoutExpired:
        raise Failure(f"{jobs[0]['do']}: timed out after {LIMIT} s") from None
    finally:
        for process in processes:
            process.kill()
    for process, (_, remarks) in zip(processes, replies, strict=True):
        if process.returncode:
            raise Failure(f"{jobs[0]['do']}: {(remarks.strip().splitlines() or ['?'])[-1]}")
    print(f"{jobs[0]['do']}, {len(jobs)} concurrent: {time.monotonic() - began:.0f} s", flush=True)
    return [json.loads(output.splitlines()[-1]) for output, _ in replies]


def _free(count: int) -> list[int]:
    """Find unused ports."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


if __name__ == "__main__":
    main()
