"""The process that runs one contender.

It reads requests and writes replies, each a line of JSON, and sleeps in between (see `answer`):

    {"do": "prepare", "point": ...}   {"first": seconds of the first call, "warm": of a later call,
                                      "facts": numbers from the results}
    {"do": "time", "repeats": n}      {"seconds": [n of them]}
    {"do": "forget"}                  {}

A study may add requests. The reply to a request that failed is {"error": ...}.
"""

import ctypes
import gc
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WARM_SECONDS = 0.1


@dataclass(frozen=True)
class Ready:
    """A prepared point."""

    step: Callable[[], Any]
    """Runs it once and waits for the results."""

    facts: Callable[[Any], list[float]]
    """A few numbers from the results, to check that all contenders compute the same."""

    warm_up: int = 0
    """How often it runs, after the first time, before it is timed."""


def prepare(ready: Ready) -> dict[str, Any]:
    start = time.perf_counter()
    results = ready.step()
    first = time.perf_counter() - start
    facts = ready.facts(results)
    del results
    timed(ready, ready.warm_up)
    (second,) = timed(ready, 1)
    warm = timed(ready, min(max(round(WARM_SECONDS / second), 1), 20))
    return {"first": first, "warm": min(second, *warm), "facts": facts}


def timed(ready: Ready, repeats: int) -> list[float]:
    """Time each step, in seconds; its results are freed outside the timed section."""
    seconds = []
    gc.disable()
    for _ in range(repeats):
        start = time.perf_counter()
        results = ready.step()
        seconds.append(time.perf_counter() - start)
        del results
    gc.enable()
    return seconds


def settle() -> None:
    """Return free memory to the system, and reset the peak."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {name}")


def forget() -> None:
    if "keras" in sys.modules:
        sys.modules["keras"].backend.clear_session()
    gc.collect()


def answer(
    make_ready: Callable[[Any], Ready],
    others: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]],
) -> None:
    """Answer requests until the input ends.

    Args:
        make_ready: prepares a point, given as JSON.
        others: further requests by name, each a function from the request to its reply.
    """
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # redirects the output of libraries to stderr
    ready: Ready | None = None
    for line in sys.stdin:
        request = json.loads(line)
        reply: dict[str, Any] = {}
        try:
            match request["do"]:
                case "prepare":
                    ready = make_ready(request["point"])
                    reply = prepare(ready)
                case "time":
                    reply = {"seconds": timed(ready, request["repeats"])}
                case "forget":
                    ready = None
                    forget()
                case other:
                    reply = others[other](request)
        except Exception as error:  # libraries raise errors of any type
            reply = {"error": one_line(error)}
        print(json.dumps(reply), file=replies, flush=True)


def one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip()}".splitlines()[0][:300]
