"""The measuring loop of every study: point after point, with a printed line for each."""

import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from benchmarks.measuring.summary import Record, Result, measured

Records = dict[str, Any]


def milliseconds(point: Any, record: Record, value: float | None) -> str:
    """The `shown` of a study that times calls."""
    return f"{1e3 * value:.3g} ms"


def measure(
    wanted: Iterable[Any],
    records_of: Callable[[Any], Records],
    left: Callable[[int], tuple[int, float | None]],
    shown: Callable[[Any, Record, float | None], str] = milliseconds,
) -> tuple[list[Any], bool]:
    """Measure points; an interruption (Ctrl-C) keeps the finished ones.

    Args:
        wanted: the points, each with `to_json`.
        records_of: measures a point: the records of its contenders.
        left: from the number of finished points, the number of those to come, and the minutes that
            they will take, if known.
        shown: formats what was measured, from the point, a contender's record and its median value
            (None: no rounds); by default milliseconds.

    Returns:
        The points with their records, as JSON, and whether all were measured.
    """
    found: list[Any] = []
    try:
        for point in wanted:
            began = time.monotonic()
            records = records_of(point)
            found.append({"point": point.to_json(), "records": records})
            taken = f"{time.monotonic() - began:.0f} s"
            count, minutes = left(len(found))
            if minutes is not None:
                taken += f", about {minutes:{'.1f' if minutes < 10 else '.0f'}} min left"
            line = _described(point, records, shown)
            print(f"[{len(found)}/{len(found) + count}] {point}: {line} [{taken}]", flush=True)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return found, False
    return found, True


def in_proportion(work: list[int]) -> Callable[[int], tuple[int, float]]:
    """The `left` of `measure`, if the time of each point is proportional to its work."""
    start = time.monotonic()

    def left(finished: int) -> tuple[int, float]:
        rest, done = sum(work[finished:]), sum(work[:finished])
        return len(work) - finished, (time.monotonic() - start) * rest / done / 60

    return left


def _described(point: Any, records: Mapping[str, Record], shown: Callable[..., str]) -> str:
    words = []
    for name, record in records.items():
        if "error" in record:
            words.append(f"{name} failed ({record['error']})")
        else:
            values = measured(Result(point, records), name)
            value = None if values is None else statistics.median(values)
            words.append(f"{name} {shown(point, record, value)}")
    return ", ".join(words)
