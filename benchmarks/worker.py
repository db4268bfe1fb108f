"""The process in which one contender runs: `python -m benchmarks.worker CONTENDER`.

It reads requests and writes replies, a line of JSON each, and sleeps in between (`answer`):

    {"do": "prepare", "point": ...}   {"first": seconds of the first call, "warm": of a later one,
                                      "facts": numbers of the results}
    {"do": "time", "repeats": n}      {"seconds": [n of them]}
    {"do": "peak", "point": ...}      {"bytes": by which memory rises in a step, "facts": ...}
    {"do": "forget"}                  {}

A reply to what went wrong is {"error": ...}.
"""

import ctypes
import gc
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.contenders import Ready, ready
from benchmarks.points import Point

WARM_SECONDS = 0.1


def prepare(made: Ready) -> dict[str, Any]:
    start = time.perf_counter()
    results = made.step()
    first = time.perf_counter() - start
    facts = made.facts(results)
    del results
    (second,) = timed(made, 1)
    warm = timed(made, min(max(round(WARM_SECONDS / second), 1), 20))
    return {"first": first, "warm": min(second, *warm), "facts": facts}


def timed(made: Ready, repeats: int) -> list[float]:
    """Seconds of each step; what it leaves behind is freed outside of them."""
    seconds = []
    gc.disable()
    for _ in range(repeats):
        start = time.perf_counter()
        results = made.step()
        seconds.append(time.perf_counter() - start)
        del results
    gc.enable()
    return seconds


def peak(contender: str, point: Point) -> dict[str, Any]:
    """By how many bytes resident memory rises in a step that is not the first.

    It rises over what there was before the first: XLA's allocator keeps what is freed, so that a
    later step is no longer seen. What tracing and compiling leave is therefore counted too.
    """
    if sys.platform != "linux":
        raise RuntimeError("peak memory is read from /proc, which is there on Linux alone")
    made = ready(contender, point)
    _settle()
    before = _status("VmRSS")
    facts = made.facts(made.step())
    made.step()
    _settle()
    results = made.step()
    after = _status("VmHWM")
    del results
    return {"bytes": after - before, "facts": facts}


def _settle() -> None:
    """Give back memory that is free, and let the peak start from what is left."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def _status(name: str) -> int:
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
    """Answer until the requests end.

    Args:
        make_ready: a point, as JSON has it, made ready.
        others: what else may be asked: of a request, its reply.
    """
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no reply
    made: Ready | None = None
    for line in sys.stdin:
        request = json.loads(line)
        reply: dict[str, Any] = {}
        try:
            match request["do"]:
                case "prepare":
                    made = make_ready(request["point"])
                    reply = prepare(made)
                case "time":
                    reply = {"seconds": timed(made, request["repeats"])}
                case "forget":
                    made = None
                    forget()
                case other:
                    reply = others[other](request)
        except Exception as error:  # whatever a library raises
            reply = {"error": in_a_line(error)}
        print(json.dumps(reply), file=replies, flush=True)


def in_a_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip()}".splitlines()[0][:300]


def main() -> None:
    """The process of one of speed's contenders."""
    contender = sys.argv[1]
    answer(
        lambda point: ready(contender, Point.from_json(point)),
        {"peak": lambda request: peak(contender, Point.from_json(request["point"]))},
    )


if __name__ == "__main__":
    main()
