"""Results of trials: in their folders, as tables, and the best configuration."""

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerasrnn.files import create_folder, replacing
from kerasrnn.recipes.base.runs import Run
from kerasrnn.recipes.tuning.search import Search
from kerasrnn.training.progress import duration


@dataclass(frozen=True)
class Outcome:
    """The result of a trial, as stored in `result.json`."""

    trial: str
    status: str
    """completed, failed, or running, which includes interrupted trials that will be resumed."""

    values: Mapping[str, Any]
    """The hyperparameters."""

    value: float | None = None
    """The value of the objective."""

    epoch: int | None = None
    """The epoch (from 1) of the value."""

    epochs: int | None = None
    """Number of epochs."""

    seconds: float | None = None
    reason: str = ""
    """The reason of the failure."""


def read_outcome(folder: Path) -> Outcome | None:
    """Read the result of a trial; None: no result yet."""
    if not (folder / "result.json").is_file():
        return None
    return Outcome(**Run(folder).read_json("result.json"))


def write_outcome(folder: Path, outcome: Outcome) -> None:
    """Write the result of a trial."""
    create_folder(folder)
    Run(folder).write_json("result.json", dataclasses.asdict(outcome))


def write_tables(search: Search, outcomes: Sequence[Outcome], objective: str) -> None:
    """Write `results.csv`, `results.json` and, once a trial has succeeded, `best.json`."""
    run = Run(search.folder)
    run.write_json(
        "results.json",
        {
            "objective": objective,
            "trials": [dataclasses.asdict(outcome) for outcome in outcomes],
        },
    )
    with replacing(run.path("results.csv")) as scratch, scratch.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        facts = ("trial", "status", objective, "epoch", "epochs", "seconds", "reason")
        writer.writerow([*facts, *search.space])
        for o in outcomes:
            known = (o.trial, o.status, o.value, o.epoch, o.epochs, o.seconds, o.reason)
            writer.writerow([*known, *(o.values.get(name) for name in search.space)])
    best = outcomes[0] if outcomes else None
    if best is not None and best.status == "completed":
        trained = dataclasses.replace(search.config_of(best.values), epochs=best.epochs)
        run.write_json(
            "best.json",
            {
                "recipe": search.recipe.name,
                "config": dataclasses.asdict(search.final(trained)),
                "found": {"trial": best.trial, objective: best.value},
            },
        )


def table(outcomes: Sequence[Outcome], names: Sequence[str], objective: str) -> str:
    """The trials as text: best first; failed ones at the end, with the reason."""
    rows = [["trial", objective, "epoch", "time", *names]]
    for o in outcomes:
        if o.status == "failed":
            continue
        known = ["-", "-", "-"]
        if o.status == "completed":
            known = [f"{o.value:.4f}", f"{o.epoch}/{o.epochs}", duration(o.seconds)]
        rows.append([o.trial, *known, *(_shown(o.values.get(name, "-")) for name in names)])
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines += [
        f"{o.trial}  failed: {o.reason} ({in_words(o.values)})"
        for o in outcomes
        if o.status == "failed"
    ]
    return "\n".join(lines)


def in_words(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_shown(value)}" for name, value in values.items())


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
