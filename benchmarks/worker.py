"""The process in which one contender runs: `python -m benchmarks.worker CONTENDER`.

It reads requests and writes replies, a line of JSON each, and sleeps in between:

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
from pathlib import Path
from typing import Any

from benchmarks.contenders import Ready, ready
from benchmarks.points import Point

WARM_SECONDS = 0.1


def prepare(contender: str, point: Point) -> tuple[Ready, dict[str, Any]]:
    made = ready(contender, point)
    start = time.perf_counter()
    results = made.step()
    first = time.perf_counter() - start
    facts = made.facts(results)
    del results
    (second,) = timed(made, 1)
    warm = timed(made, min(max(round(WARM_SECONDS / second), 1), 20))
    return made, {"first": first, "warm": min(second, *warm), "facts": facts}


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


def main() -> None:
    """Answer until the requests end."""
    contender = sys.argv[1]
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no reply
    made: Ready | None = None
    for line in sys.stdin:
        request = json.loads(line)
        reply: dict[str, Any] = {}
        try:
            match request["do"]:
                case "prepare":
                    made, reply = prepare(contender, Point.from_json(request["point"]))
                case "time":
                    reply = {"seconds": timed(made, request["repeats"])}
                case "peak":
                    reply = peak(contender, Point.from_json(request["point"]))
                case "forget":
                    made = None
                    forget()
        except Exception as error:  # whatever a library raises
            reply = {"error": f"{type(error).__name__}: {str(error).strip()}".splitlines()[0][:300]}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
