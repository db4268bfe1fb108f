"""Summary statistics of the raw numbers: medians, ratios, and targets."""

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Record = Mapping[str, Any]

# The acceptable relative difference between contenders, in float32 over thousands of steps.
AGREEMENT = 1e-3


class Result(NamedTuple):
    point: Any
    """The point of the study that was measured."""
    records: Mapping[str, Record]
    """For each contender: `rounds`, each a list of seconds; or, with one value per process, the
    seconds of the `first` and of a `warm` call, or the bytes at the `peak` and at the
    `peak_of_few` steps; or `error`."""


class Spread(NamedTuple):
    median: float
    lowest: float
    highest: float


def spread(values: Iterable[float]) -> Spread:
    values = list(values)
    return Spread(statistics.median(values), min(values), max(values))


def measured(result: Result, contender: str) -> list[float] | None:
    """One value per round: the median of its seconds, the seconds of compilation or of the first
    call, or the bytes of the sequence."""
    record = result.records.get(contender, {})
    if not record or "error" in record:
        return None
    differences = {"compile": ("first", "warm"), "memory": ("peak", "peak_of_few")}
    if result.point.part in differences:
        whole, rest = differences[result.point.part]
        return [a - b for a, b in zip(record[whole], record[rest], strict=True)]
    if result.point.part == "start":
        return record["first"]
    return [statistics.median(seconds) for seconds in record.get("rounds", ())] or None


def ratio(result: Result, own: str, other: str) -> Spread | None:
    """The ratio of two contenders over the rounds; None if one of them has no results."""
    ours, theirs = measured(result, own), measured(result, other)
    if ours is None or theirs is None or min(theirs) <= 0:
        return None
    return spread(a / b for a, b in zip(ours, theirs, strict=True))


def best(result: Result, contenders: Iterable[str]) -> str | None:
    """The contender with the lowest median; None if none has results."""
    values_of = {name: measured(result, name) for name in contenders}
    medians = {name: statistics.median(values) for name, values in values_of.items() if values}
    return min(medians, key=medians.__getitem__, default=None)


def disagreement(result: Result) -> float:
    """The largest relative difference between what the contenders computed."""
    facts = [record["facts"] for record in result.records.values() if record.get("facts")]
    differences = [
        abs(a - b) / abs(b) for other in facts for a, b in zip(other, facts[0], strict=True)
    ]
    return max(differences, default=0.0)


@dataclass(frozen=True)
class Target:
    """A target for the ratio of kerasrnn's time or memory to that of others."""

    text: str
    judge: str
    """The criterion over the points: `geometric mean` or `worst`."""

    limit: float | None
    """The largest ratio that meets the target; None: reported only."""

    ratios: list[float] = field(repr=False)
    """One ratio per point."""

    @property
    def value(self) -> float | None:
        if not self.ratios:
            return None
        return max(self.ratios) if self.judge == "worst" else statistics.geometric_mean(self.ratios)

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "not measured"
        if self.limit is None:
            return ""
        return "met" if self.value <= self.limit else "**missed**"


MEAN, WORST = "geometric mean", "worst"


def over(found: Iterable[Result], others: Iterable[str], own: str = "kerasrnn") -> list[float]:
    """The ratio of kerasrnn to the best of the others per point; infinite if kerasrnn failed."""
    ratios = []
    for result in found:
        other = best(result, others)
        if other is None:
            continue
        if "error" in result.records.get(own, {}):
            ratios.append(math.inf)
        elif of_rounds := ratio(result, own, other):
            ratios.append(of_rounds.median)
    return ratios
