"""Comparison of runs: `kerasrnn runs`."""

import csv
import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasrnn import recipes
from kerasrnn.files import create_folder
from kerasrnn.recipes.base.runs import Run, RunError, runs_below
from kerasrnn.recipes.reporting import pictures
from kerasrnn.recipes.reporting.cards import figure
from kerasrnn.training.history import TIMES

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Summary:
    """A summary of a run, read from its folder."""

    folder: str
    recipe: str
    state: str
    """finished; epoch n of m, if running or interrupted; or damaged, with the reason."""

    config: Mapping[str, Any]
    metrics: Mapping[str, float]
    """The recipe's test metrics of a finished run, and the metrics of the last logged epoch."""

    log: Sequence[Mapping[str, float]]
    seconds: float | None
    started: str


def collect(folder: Path) -> dict[str, list[Summary]]:
    """Find all runs in a folder and its subfolders, by recipe, oldest first.

    Raises:
        RunError: there are no runs.
    """
    summaries = [_read(run, recipe or "?", folder) for run, recipe in runs_below(folder)]
    if not summaries:
        raise RunError(f"{folder}: expected a folder with runs in it or below; found none.")
    summaries.sort(key=lambda summary: (summary.recipe, summary.started))
    return {
        recipe: list(group)
        for recipe, group in itertools.groupby(summaries, lambda summary: summary.recipe)
    }


def _read(run: Run, recipe: str, above: Path) -> Summary:
    name = str(run.folder.relative_to(above)) if run.folder != above else run.folder.name
    try:
        saved = run.read_json("config.json")
        known = recipes.load(recipe).card.metrics
        config = saved["config"] | _unusual(saved.get("execution", {}))
        log = _log(run.path("log.csv"))
        metrics: dict[str, float] = {}
        seconds, started = None, ""
        if run.path("environment.json").is_file():
            started = run.read_json("environment.json")["started"]
        if log:
            metrics = {k: v for k, v in log[-1].items() if k not in ("epoch", *TIMES)}
            seconds = log[-1].get("seconds")
        state = f"epoch {len(log)} of {config['epochs']}"
        if run.finished:
            state = "finished"
            results = run.read_json("metrics.json")
            metrics = {k: results[k] for k in known if k in results} | metrics
            seconds = results.get("seconds", seconds)
    except (RunError, ValueError, KeyError, TypeError) as error:
        return Summary(name, recipe, f"damaged: {error}", {}, {}, [], None, "")
    return Summary(name, recipe, state, config, metrics, log, seconds, started)


def _unusual(execution: Mapping[str, Any]) -> dict[str, Any]:
    """The execution options of a run that differ from their defaults."""
    from kerasrnn.recipes.base.execution import Execution

    usual = dataclasses.asdict(Execution())
    return {name: value for name, value in execution.items() if usual.get(name) != value}


def _log(path: Path) -> list[dict[str, float]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {name: float(value) for name, value in row.items() if value not in ("", "NA", None)}
            for row in csv.DictReader(file)
        ]


def differences(summaries: Sequence[Summary]) -> dict[str, list[Any]]:
    """The options in which runs differ, with each run's value; None: the run lacks the option."""
    names = dict.fromkeys(name for summary in summaries for name in summary.config)
    values = {name: [summary.config.get(name) for summary in summaries] for name in names}
    return {name: row for name, row in values.items() if any(v != row[0] for v in row)}


def table(summaries: Sequence[Summary]) -> "Table":
    """A table with a row per run: state, the options that differ, metrics and time.

    Args:
        summaries: of runs of one recipe.
    """
    from rich.table import Table

    options = differences([s for s in summaries if s.config])
    metrics = list(dict.fromkeys(name for summary in summaries for name in summary.metrics))
    shown = Table(
        title=summaries[0].recipe,
        title_justify="left",
        box=None,
        header_style="bold",
        pad_edge=False,
    )
    shown.add_column("run", overflow="fold")
    shown.add_column("state", overflow="fold")
    for name in options:
        shown.add_column(name.replace("_", " "), overflow="fold")
    for name in [*metrics, "seconds"]:
        shown.add_column(name.replace("_", " "), justify="right")
    shown.add_column("started")
    for summary in summaries:
        set_to = [summary.config.get(name) for name in options]
        shown.add_row(
            summary.folder,
            summary.state,
            *("" if value is None else str(value) for value in set_to),
            *(figure(summary.metrics[m]) if m in summary.metrics else "" for m in metrics),
            "" if summary.seconds is None else f"{summary.seconds:.0f}",
            summary.started[:16].replace("T", " "),
        )
    return shown


def draw(summaries: Sequence[Summary], path: Path) -> bool:
    """Plot the curve of each metric for all runs; returns whether there was anything to draw."""
    from matplotlib.figure import Figure

    drawn = [summary for summary in summaries if summary.log]
    skipped = ("epoch", *TIMES)
    names = list(
        dict.fromkeys(name for s in drawn for row in s.log for name in row if name not in skipped)
    )
    if not names:
        return False
    columns = math.ceil(math.sqrt(len(names)))
    rows = -(-len(names) // columns)
    picture = Figure(figsize=(5 * columns, 3.4 * rows + 0.24 * len(drawn)), layout="constrained")
    panels = picture.subplots(rows, columns, squeeze=False).ravel()
    colors = pictures.colors(len(drawn))
    for panel, name in zip(panels, names, strict=False):
        for summary, color in zip(drawn, colors, strict=True):
            points = [(row["epoch"] + 1, row[name]) for row in summary.log if name in row]
            if points:
                # A run of one epoch is a point.
                panel.plot(*zip(*points, strict=True), color=color, marker="." * (len(points) == 1))
        panel.set(xlabel="epoch", title=name.replace("_", " "))
        panel.grid(alpha=0.3)
    for panel in panels[len(names) :]:
        panel.set_axis_off()
    labels = [_label(summary, differences(drawn)) for summary in drawn]
    handles = [panels[0].plot([], [], color=color)[0] for color in colors]
    picture.legend(handles, labels, loc="outside lower left", frameon=False, fontsize="small")
    create_folder(path.parent)
    pictures.save(picture, path, pictures.OURS)
    return True


def _label(summary: Summary, options: Mapping[str, Any]) -> str:
    values = ", ".join(
        f"{name} {summary.config[name]}" for name in options if summary.config.get(name) is not None
    )
    return f"{summary.folder}: {values}" if values else summary.folder
