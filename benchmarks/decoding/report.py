"""The report on decoding: targets and tables."""

import statistics
from collections.abc import Collection, Mapping
from typing import Any

from benchmarks.decoding.contenders import CONTENDERS, Point
from benchmarks.measuring.reports import opening, table, targets_table
from benchmarks.measuring.summary import WORST, Result, Target, measured, over, ratio


def results(raw: Mapping[str, Any]) -> list[Result]:
    """The results in `decoding.json`."""
    return [Result(Point.from_json(each["point"]), each["records"]) for each in raw["points"]]


def targets(found: Collection[Result]) -> list[Target]:
    greedy = [result for result in found if result.point.beam == 1]
    return [
        Target("beam of 5, greedy decoding", WORST, 2.5, beams_over_greedy(found, "kerasrnn")),
        Target(
            "beam of 5 with jit_compile=True, greedy decoding",
            WORST,
            None,
            beams_over_greedy(found, "kerasrnn-xla"),
        ),
        *[
            Target(f"greedy decoding{how}, {name}", WORST, None, over(greedy, [name], own))
            for name in ("writer", "torch", "onnx-step")
            for own, how in (("kerasrnn", ""), ("kerasrnn-xla", " with jit_compile=True"))
        ],
    ]


def beams_over_greedy(found: Collection[Result], name: str) -> list[float]:
    """A contender's time with a beam relative to that of greedy decoding, for each batch size."""
    seconds = {}
    for result in found:
        if values := measured(result, name):
            seconds[result.point.beam > 1, result.point.batch] = statistics.median(values)
    return [
        value / seconds[False, batch]
        for (beam, batch), value in seconds.items()
        if beam and (False, batch) in seconds
    ]


def report(raw: Mapping[str, Any], command: str) -> str:
    """All tables, in Markdown."""
    found = results(raw)
    lines = opening("Decoding", raw, command, "decoding")
    lines += targets_table(
        targets(found), "The time divided by that of what is named after the comma."
    )
    lines += ["## Contenders", "", *table(["name", ""], list(CONTENDERS.items()))]
    names = [name for name in CONTENDERS if any(name in result.records for result in found)]
    for title, about, cell in (
        ("Time", "Milliseconds per sentence; in parentheses, microseconds per symbol.", _time),
        ("First call", "Seconds, with the compilation of each shape.", _first),
        (
            "Relative to kerasrnn",
            "The time of `explain` with its defaults, relative to that of the others: the median "
            "over rounds, and the range.",
            _ratio,
        ),
    ):
        rows = [[str(r.point), *(cell(r, name) for name in names)] for r in found]
        lines += [f"## {title}", "", about, "", *table(["", *names], rows)]
    failures = [
        f"- {result.point}: {name} failed: {record['error']}"
        for result in found
        for name, record in result.records.items()
        if "error" in record
    ]
    lines += ["## Failures", "", *failures, ""] if failures else []
    return "\n".join(lines).rstrip() + "\n"


def _time(result: Result, name: str) -> str:
    values = measured(result, name)
    if values is None:
        return "error" if name in result.records else ""
    seconds, (symbols,) = statistics.median(values), result.records[name]["facts"]
    sentences = len(result.point.sentences)
    return f"{1e3 * seconds / sentences:.3g} ({1e6 * seconds / symbols:.3g})"


def _first(result: Result, name: str) -> str:
    first = result.records.get(name, {}).get("first")
    return "" if first is None else f"{first:.2g}"


def _ratio(result: Result, name: str) -> str:
    of_rounds = None if name == "kerasrnn" else ratio(result, "kerasrnn", name)
    if of_rounds is None:
        return ""
    return f"{of_rounds.median:.2g} ({of_rounds.lowest:.2g}–{of_rounds.highest:.2g})"
