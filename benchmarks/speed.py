"""Compare the speed with Keras, Keras under XLA, PyTorch, and bare matrix products.

    python -m benchmarks.speed                           everything: an hour or two
    python -m benchmarks.speed --parts grid --cells LSTM,GRU --shapes 0,2
    python -m benchmarks.speed --parts memory,compile --out /tmp/speed

Each contender runs in its own process, and the contenders take turns at each point, so that a
machine that becomes slower or faster affects all of them. Run it on an otherwise idle machine. The
benchmark writes speed.json (all numbers, by round), speed.md (tables, and targets met or missed),
speed.png and growth.png to --out.
"""

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks import report, summary
from benchmarks.contenders import cores
from benchmarks.grid import CELLS, CONTENDERS, FEW, PARTS, Point, Shape, points, shapes
from kerasrnn.files import replacing

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "-1",
}

SHARE = 0.4  # seconds per turn of a contender
REPEATS = 3, 200  # per turn: minimum and maximum
PAUSE = 0.05  # seconds until the spinning threads of the previous contender fall asleep
LIMIT = 1800  # seconds per reply


class Failure(Exception):
    """A contender could not fulfill a request."""


class Worker:
    """The process of a contender; it sleeps between requests."""

    def __init__(
        self, contender: str, program: str = "benchmarks.worker", arguments: Sequence[str] = ()
    ) -> None:
        self._remarks = tempfile.TemporaryFile()  # noqa: SIM115  (closed by `close`)
        self._process = subprocess.Popen(
            [sys.executable, "-m", program, contender, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._remarks,
            text=True,
            cwd=ROOT,
            env=os.environ | ENVIRONMENT,
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and return its reply.

        Raises:
            Failure: the contender failed, its process died, or the request timed out.
        """
        watchdog = threading.Timer(LIMIT, self._process.kill)
        watchdog.daemon = True
        watchdog.start()
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            watchdog.cancel()
        if not line:
            raise Failure(f"the process ended with {self._process.wait()}: {self._last_words()}")
        reply = json.loads(line)
        if "error" in reply:
            raise Failure(reply["error"])
        return reply

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._remarks.close()

    def _last_words(self) -> str:
        self._remarks.seek(0)
        lines = self._remarks.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "no output"


class Workers:
    """One worker per contender, started at the first request and restarted if it died."""

    def __init__(self, program: str = "benchmarks.worker", arguments: Sequence[str] = ()) -> None:
        self._program, self._arguments = program, arguments
        self._workers: dict[str, Worker] = {}

    def __getitem__(self, contender: str) -> Worker:
        worker = self._workers.get(contender)
        if worker is None or not worker.alive:
            if worker is not None:
                worker.close()
            worker = Worker(contender, self._program, self._arguments)
            self._workers[contender] = worker
        return worker

    def close(self) -> None:
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()


@contextlib.contextmanager
def fresh(contender: str) -> Iterator[Worker]:
    """A new process, used only once."""
    worker = Worker(contender)
    try:
        yield worker
    finally:
        worker.close()


def in_turn(point: Point, workers: Workers, rounds: int, share: float) -> dict[str, Any]:
    """Prepare all contenders; then time each of them in every round."""
    records: dict[str, Any] = {}
    for name in point.contenders:
        try:
            prepared = workers[name].ask(do="prepare", point=point.to_json())
            records[name] = prepared | {"rounds": []}
        except Failure as failure:
            records[name] = {"error": str(failure)}
    for n in range(rounds):
        start = n % len(point.contenders)
        for name in point.contenders[start:] + point.contenders[:start]:
            record = records[name]
            if "error" in record:
                continue
            least, most = REPEATS
            repeats = min(max(round(share / record["warm"]), least), most)
            time.sleep(PAUSE)
            try:
                seconds = workers[name].ask(do="time", repeats=repeats)["seconds"]
                record["rounds"].append([round(value, 7) for value in seconds])
            except Failure as failure:
                records[name] = {"error": str(failure)}
    for name in point.contenders:
        with contextlib.suppress(Failure):
            workers[name].ask(do="forget")
    return records


def alone(point: Point, rounds: int) -> dict[str, Any]:
    """Measure first calls or peaks of memory, each in a new process."""
    once = _peaks if point.part == "memory" else _first
    records: dict[str, Any] = {name: {} for name in point.contenders}
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
    with fresh(name) as worker:
        return worker.ask(do="prepare", point=point.to_json())


def _peaks(name: str, point: Point) -> dict[str, Any]:
    """Peak memory for the full sequence, and for a few time steps as the baseline."""
    few = replace(point, shape=point.shape._replace(time=FEW))
    with fresh(name) as worker:
        all_steps = worker.ask(do="peak", point=point.to_json())
    with fresh(name) as worker:
        few_steps = worker.ask(do="peak", point=few.to_json())
    return {
        "peak": all_steps["bytes"],
        "peak_of_few": few_steps["bytes"],
        "facts": all_steps["facts"],
    }


def measure(wanted: Sequence[Point], rounds: int, share: float) -> tuple[list[Any], bool]:
    """Return the results, and whether they are complete; an interruption keeps finished points."""
    found: list[Any] = []
    begun = time.monotonic()
    # The time of a point is proportional to the number of contenders.
    work = [len(point.contenders) for point in wanted]
    workers = Workers()
    part = None
    try:
        for n, point in enumerate(wanted):
            if point.part != part:
                workers.close()
                part = point.part
            started = time.monotonic()
            if point.part in ("memory", "compile"):
                records = alone(point, rounds)
            else:
                records = in_turn(point, workers, rounds, share)
            found.append({"point": point.to_json(), "records": records})
            now = time.monotonic()
            left = (now - begun) * sum(work[n + 1 :]) / sum(work[: n + 1])
            print(
                f"[{n + 1}/{len(wanted)}] {point}: {_short(point, records)} "
                f"[{now - started:.0f} s, about {left / 60:.0f} min left]",
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
        elif point.part == "memory":
            words.append(f"{name} {statistics.median(values) / 2**20:.1f} MiB")
        else:
            words.append(f"{name} {1e3 * statistics.median(values):.3g} ms")
    return ", ".join(words)


PACKAGES = ("kerasrnn", "keras", "tensorflow", "tensorflow-cpu", "torch", "numpy")


def machine(packages: Sequence[str] = PACKAGES) -> dict[str, Any]:
    """Describe the machine and the software that the numbers depend on."""
    versions = {}
    for name in packages:
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    processor = platform.processor()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    memory = None
    if hasattr(os, "sysconf"):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": processor or platform.machine(),
        "cores": cores(),
        "memory": memory,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions,
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def write(raw: dict[str, Any], command: str, folder: Path) -> list[Path]:
    """Write the results; each file is replaced atomically."""
    return [*keep(raw, report.report(raw, command), folder, "speed"), *report.draw(raw, folder)]


def keep(raw: dict[str, Any], tables: str, folder: Path, name: str) -> list[Path]:
    """Write the numbers and the tables."""
    folder.mkdir(parents=True, exist_ok=True)
    # One point per line; indentation would put every number on its own line.
    head = {key: value for key, value in raw.items() if key != "points"}
    lines = ",\n".join(json.dumps(each) for each in raw["points"])
    text = json.dumps(head, indent=2)[:-2] + f',\n  "points": [\n{lines}\n]\n}}\n'
    files = {f"{name}.json": text, f"{name}.md": tables}
    for file, content in files.items():
        with replacing(folder / file) as scratch:
            scratch.write_text(content, encoding="utf-8")
    return [folder / file for file in files]


def judged(targets: Sequence[summary.Target]) -> None:
    """Print which targets are met."""
    for target in targets:
        if target.value is not None:
            limit = "" if target.limit is None else f", target {target.limit:g}: {target.verdict}"
            print(f"{target.text}: {target.judge} {target.value:.3g}{limit}")


def parser() -> argparse.ArgumentParser:
    def words(text: str) -> list[str]:
        return text.split(",")

    described = "\n".join(
        ["parts:", *(f"  {name:16}{text}" for name, text in PARTS.items())]
        + ["", "contenders:", *(f"  {name:16}{text}" for name, text in CONTENDERS.items())]
        + ["", "shapes of the grid, batch x time x features x units:"]
        + [f"  {n}  {shape}" for n, shape in enumerate(shapes(quick=False))]
    )
    options = argparse.ArgumentParser(
        "python -m benchmarks.speed",
        description=__doc__,
        epilog=described,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for name, known, text in (
        ("parts", PARTS, "parts to measure"),
        ("cells", CELLS, f"cells to measure, of {', '.join(CELLS)}"),
        ("contenders", CONTENDERS, "contenders to measure; comparisons require kerasrnn"),
    ):
        options.add_argument(
            f"--{name}",
            type=words,
            default=list(known),
            metavar="LIST",
            help=f"{text} (default: all)",
        )
    options.add_argument(
        "--shapes",
        type=words,
        metavar="LIST",
        help="shapes of the grid, by number or name (default: all)",
    )
    options.add_argument(
        "--rounds", type=int, default=5, metavar="N", help="turns per point (default: 5)"
    )
    options.add_argument(
        "--out",
        type=Path,
        default=Path("benchmarks/results"),
        metavar="DIR",
        help="output folder; existing results are replaced (default: %(default)s)",
    )
    options.add_argument(
        "--quick",
        action="store_true",
        help="smoke test with tiny shapes and one short round",
    )
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the results, and print their paths."""
    options = parser()
    chosen = options.parse_args(arguments)
    for name, known in (("parts", PARTS), ("cells", CELLS), ("contenders", CONTENDERS)):
        for word in getattr(chosen, name):
            if word not in known:
                options.error(f"--{name} {word}: expected some of {', '.join(known)}")
    if chosen.rounds < 1:
        options.error(f"--rounds {chosen.rounds}: expected a positive integer")
    try:
        grid = None if chosen.shapes is None else _shapes(chosen.shapes, chosen.quick)
    except ValueError as error:
        options.error(str(error))
    wanted = points(chosen.quick, chosen.parts, chosen.cells, grid, chosen.contenders)
    if not wanted:
        options.error("nothing to measure: no part has these cells, shapes and contenders")
    rounds, share = (1, 0.01) if chosen.quick else (chosen.rounds, SHARE)
    around = machine()
    if around["load"] is not None and around["load"] > 0.5:
        print(f"the machine is not idle (load {around['load']:.2f})", file=sys.stderr)
    found, complete = measure(wanted, rounds, share)
    given = {name: value for name, value in vars(chosen).items() if name != "out"}
    raw = {"machine": around, "options": given, "complete": complete, "points": found}
    command = "python -m benchmarks.speed " + " ".join(sys.argv[1:])
    files = write(raw, command.strip(), chosen.out)
    judged(summary.targets(summary.results(raw)))
    print(*files, sep="\n")


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
