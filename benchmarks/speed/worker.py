"""The process that runs one contender: `python -m benchmarks.speed.worker CONTENDER`.

Besides the requests of `benchmarks.measuring.worker`, it answers

    {"do": "peak", "point": ...}      {"bytes": growth of memory in a step, "facts": ...}
"""

import sys
from typing import Any

from benchmarks.measuring.worker import answer, settle, status
from benchmarks.speed.contenders import ready
from benchmarks.speed.grid import Point


def peak(contender: str, point: Point) -> dict[str, Any]:
    """Measure the peak of resident memory in a step after the first, in bytes.

    The baseline is the memory before the first step: XLA's allocator retains freed memory, so a
    later step does not raise the peak. The result therefore includes memory left over from tracing
    and compilation.
    """
    if sys.platform != "linux":
        raise RuntimeError("peak memory is read from /proc, which exists only on Linux")
    point_ready = ready(contender, point)
    settle()
    before = status("VmRSS")
    facts = point_ready.facts(point_ready.step())
    point_ready.step()
    settle()
    results = point_ready.step()
    after = status("VmHWM")
    del results
    return {"bytes": after - before, "facts": facts}


def main() -> None:
    """Run the process of a contender of `benchmarks.speed`."""
    contender = sys.argv[1]
    answer(
        lambda point: ready(contender, Point.from_json(point)),
        {"peak": lambda request: peak(contender, Point.from_json(request["point"]))},
    )


if __name__ == "__main__":
    main()
