"""Summary statistics of the raw numbers: medians, ratios, and the targets met or missed."""

import math
import statistics
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from benchmarks.grid import BUILT_IN, KERAS, KERAS_RNN, LARGE, OTHERS, Point

Record = Mapping[str, Any]

# The acceptable relative difference between contenders, in float32 over thousands of steps.
AGREEMENT = 1e-3


class Result(NamedTuple):
    point: Point
    records: Mapping[str, Record]
    """For each contender: `rounds`, each a list of seconds; or, with one value per process, the
    seconds of the `first` and of a `warm` call, or the bytes at the `peak` and at the
    `peak_of_few` steps; or `error`."""


class Spread(NamedTuple):
    median: float
    lowest: float
    highest: float


def results(raw: Mapping[str, Any]) -> list[Result]:
    """The results in `speed.json`."""
    return [Result(Point.from_json(each["point"]), each["records"]) for each in raw["points"]]


def spread(values: Iterable[float]) -> Spread:
    values = list(values)
    return Spread(statistics.median(values), min(values), max(values))


def measured(result: Result, contender: str) -> list[float] | None:
    """One value per round: the median of its seconds, the seconds of compilation, or the bytes of
    the sequence."""
    record = result.records.get(contender, {})
    if not record or "error" in record:
        return None
    differences = {"compile": ("first", "warm"), "memory": ("peak", "peak_of_few")}
    if result.point.part in differences:
        whole, rest = differences[result.point.part]
        return [a - b for a, b in zip(record[whole], record[rest], strict=True)]
    return [statistics.median(seconds) for seconds in record.get("rounds", ())] or None


def ratio(result: Result, own: str, other: str) -> Spread | None:
    """The ratio of two contenders over the rounds; None if one of them has no results."""
    ours, theirs = measured(result, own), measured(result, other)
    if ours is None or theirs is None or min(theirs) <= 0:
        return None
    return spread(a / b for a, b in zip(ours, theirs, strict=True))


def best(result: Result, contenders: Iterable[str]) -> str | None:
    """The contender with the lowest median; None if none has results."""
    found = {name: measured(result, name) for name in contenders}
    medians = {name: statistics.median(values) for name, values in found.items() if values}
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


def targets(found: Collection[Result]) -> list[Target]:
    grid = [result for result in found if result.point.part == "grid"]
    training = [result for result in grid if result.point.mode == "training"]
    inference = [result for result in grid if result.point.mode == "inference"]
    alone = [result for result in training if result.point.shape.batch == 1]
    large = [
        result
        for result in training
        if result.point.shape == LARGE and result.point.cell == "LSTM" and not result.point.masked
    ]
    masked_lstm = [r for r in training if r.point.masked and r.point.cell == "LSTM"]
    others = [r for r in found if r.point.part == "cells" and r.point.cell in OTHERS]
    eager = [r for r in found if r.point.part == "eager" and r.point.cell in BUILT_IN]
    memory = [result for result in found if result.point.part == "memory"]
    keras, best_keras, torch = ("keras",), KERAS, ("torch",)
    return [
        Target("training, Keras with defaults", MEAN, 0.5, over(training, keras)),
        Target("training, Keras's best setting", MEAN, 0.8, over(training, best_keras)),
        Target("training, Keras's best setting", WORST, 1.0, over(training, best_keras)),
        Target("training, torch", MEAN, 0.9, over(training, torch)),
        Target("training, torch", WORST, 1.1, over(training, torch)),
        Target(
            "inference with jit_compile=True, torch",
            MEAN,
            1.0,
            over(inference, torch, "kerasrnn-xla"),
        ),
        Target("inference with defaults, torch", MEAN, None, over(inference, torch)),
        Target(
            "inference with jit_compile=True, Keras's best setting",
            MEAN,
            None,
            over(inference, best_keras, "kerasrnn-xla"),
        ),
        Target(
            "inference with defaults, Keras with defaults",
            MEAN,
            None,
            over(inference, keras),
        ),
        Target("training at batch 1, Keras's best setting", WORST, 0.3, over(alone, best_keras)),
        Target(f"training, LSTM {LARGE}, floor", WORST, 1.15, over(large, ("floor",))),
        Target("training, masked over unmasked", MEAN, 1.1, _masked_over_unmasked(training)),
        Target(
            "training, masked LSTM, Keras's best setting", MEAN, 0.6, over(masked_lstm, best_keras)
        ),
        Target("eager call, Keras", WORST, 0.1, over(eager, keras)),
        Target(
            "training, other cells, keras.layers.RNN's best", MEAN, 0.6, over(others, KERAS_RNN)
        ),
        Target("peak memory, Keras with defaults", WORST, 0.7, over(memory, keras)),
        Target(
            'peak memory with checkpoint_every="sqrt", Keras with defaults',
            WORST,
            0.2,
            over(memory, keras, "kerasrnn-sqrt"),
        ),
        Target("compile time, longest over shortest", WORST, 1.1, _longest_over_shortest(found)),
    ]


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


def _masked_over_unmasked(found: Iterable[Result]) -> list[float]:
    medians: dict[tuple[Any, ...], float] = {}
    for result in found:
        if values := measured(result, "kerasrnn"):
            point = result.point
            medians[point.cell, point.shape, point.masked] = statistics.median(values)
    return [
        seconds / medians[cell, shape, False]
        for (cell, shape, masked), seconds in medians.items()
        if masked and (cell, shape, False) in medians
    ]


def _longest_over_shortest(found: Iterable[Result]) -> list[float]:
    medians = {
        result.point.shape.time: statistics.median(values)
        for result in found
        if result.point.part == "compile" and (values := measured(result, "kerasrnn"))
    }
    if len(medians) < 2:
        return []
    return [medians[max(medians)] / medians[min(medians)]]
