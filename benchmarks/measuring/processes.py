"""The processes of the contenders, which take turns at each point."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "-1",
    "JAX_PLATFORMS": "cpu",
}

REPEATS = 3, 200  # per turn: minimum and maximum
PAUSE = 0.05  # seconds until the spinning threads of the previous contender fall asleep
LIMIT = 1800  # seconds per reply


class Failure(Exception):
    """A contender could not fulfill a request."""


class Worker:
    """The process of a contender; it sleeps between requests."""

    def __init__(
        self,
        contender: str,
        program: str,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] = ENVIRONMENT,
        limit: float = LIMIT,
    ) -> None:
        self._limit = limit
        self._remarks = tempfile.TemporaryFile()  # noqa: SIM115  (closed by `close`)
        self._process = subprocess.Popen(
            [sys.executable, "-m", program, contender, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._remarks,
            text=True,
            cwd=ROOT,
            env={**os.environ, **environment},
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and return its reply.

        Raises:
            Failure: the contender failed, its process died, or the request timed out.
        """
        watchdog = threading.Timer(self._limit, self._process.kill)
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
            raise Failure(f"the process ended with {self._process.wait()}: {self._last_line()}")
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

    def _last_line(self) -> str:
        self._remarks.seek(0)
        lines = self._remarks.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "no output"


class Workers:
    """One worker per contender, started at the first request and restarted if it died.

    Args:
        program: the module that the processes run.
        options: the other arguments of `Worker`.
    """

    def __init__(self, program: str, *options: Any) -> None:
        self._program, self._options = program, options
        self._workers: dict[str, Worker] = {}

    def __getitem__(self, contender: str) -> Worker:
        worker = self._workers.get(contender)
        if worker is None or not worker.alive:
            if worker is not None:
                worker.close()
            worker = Worker(contender, self._program, *self._options)
            self._workers[contender] = worker
        return worker

    def close(self) -> None:
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()


@contextlib.contextmanager
def fresh(contender: str, program: str, *options: Any) -> Iterator[Worker]:
    """A new process, used only once."""
    worker = Worker(contender, program, *options)
    try:
        yield worker
    finally:
        worker.close()


def in_turn(
    point: Any,
    workers: Workers,
    rounds: int,
    share: float,
    repeats: tuple[int, int] = REPEATS,
) -> dict[str, Any]:
    """Prepare all contenders; then time each of them in every round."""
    least, most = repeats
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
            count = min(max(round(share / record["warm"]), least), most)
            time.sleep(PAUSE)
            try:
                seconds = workers[name].ask(do="time", repeats=count)["seconds"]
                record["rounds"].append([round(value, 7) for value in seconds])
            except Failure as failure:
                records[name] = {"error": str(failure)}
    for name in point.contenders:
        with contextlib.suppress(Failure):
            workers[name].ask(do="forget")
    return records
