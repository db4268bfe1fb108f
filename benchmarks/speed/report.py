"""The report on speed: tables and figures."""

import statistics
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from benchmarks.measuring.reports import machine_table, opening, table, targets_table
from benchmarks.measuring.summary import (
    AGREEMENT,
    Result,
    disagreement,
    measured,
    ratio,
    spread,
)
from benchmarks.speed.grid import BUILT_IN, CONTENDERS, FEW, OF_BACKEND, PARTS
from benchmarks.speed.targets import results, targets
from kerasrnn.files import replacing
from kerasrnn.wording import counted

COLORS = {
    "kerasrnn": "#000000",
    "kerasrnn-xla": "#000000",
    "kerasrnn-sqrt": "#7f7f7f",
    "keras": "#e69f00",
    "keras-xla": "#d55e00",
    "keras-unrolled": "#cc79a7",
    "flax": "#56b4e9",
    "torch": "#0072b2",
    "floor": "#009e73",
}


# Tables.


def report(raw: Mapping[str, Any], command: str) -> str:
    """All tables, in Markdown."""
    found = results(raw)
    on_jax = raw["backend"] == "jax"
    lines = opening("Speed on JAX" if on_jax else "Speed", raw, command, file_name(raw, "speed"))
    for n, run in enumerate(raw.get("earlier", ())):
        lines += _of_earlier_run(run, [r["point"] for r in raw["points"] if r.get("earlier") == n])
    lines += targets_table(
        targets(found, raw["backend"]),
        "kerasrnn's time or memory, divided by that of the contender named after the comma.",
    )
    lines += [
        "## Contenders",
        "",
        *table(["name", ""], [(n, CONTENDERS[n]) for n in OF_BACKEND[raw["backend"]]]),
    ]
    for mode in ("training", "inference"):
        part = [r for r in found if r.point.part == "grid" and r.point.mode == mode]
        lines += _times(mode.capitalize(), part)
    if any(result.point.part == "grid" for result in found):
        lines += [f"![Speed]({file_name(raw, 'speed')}.png)", ""]
    for part in ("lengths", "cells", "linear", "pictures", "eager"):
        lines += _times(_title(part), [r for r in found if r.point.part == part])
    lines += _memory([result for result in found if result.point.part == "memory"])
    lines += _compile([result for result in found if result.point.part == "compile"])
    lines += _times(_title("start"), [r for r in found if r.point.part == "start"])
    growth = [result for result in found if result.point.part == "growth"]
    lines += _times(_title("growth"), growth)
    if growth:
        lines += [f"![Growth]({file_name(raw, 'growth')}.png)", ""]
    lines += _disagreements(found)
    return "\n".join(lines).rstrip() + "\n"


def _of_earlier_run(run: Mapping[str, Any], of_run: Collection[Mapping[str, Any]]) -> list[str]:
    parts = ", ".join(name for name in PARTS if any(point["part"] == name for point in of_run))
    interrupted = "" if run["complete"] else ", which was interrupted"
    return [
        f"{counted(len(of_run), 'point')} ({parts}) of an earlier run of `{run['command']}`"
        f"{interrupted}:",
        "",
        *machine_table(run["machine"]),
    ]


def file_name(raw: Mapping[str, Any], name: str) -> str:
    """The name of a file of the results: on JAX, one of its own."""
    return name if raw["backend"] == "tensorflow" else f"{name}-{raw['backend']}"


def _title(part: str) -> str:
    return PARTS[part][0].upper() + PARTS[part][1:]


def _times(title: str, found: Collection[Result]) -> list[str]:
    """The table of milliseconds at each point, and the ratios of kerasrnn's time to them."""
    if not found:
        return []
    names = [name for name in CONTENDERS if any(name in result.records for result in found)]
    of_several = len({result.point.mode for result in found}) > 1
    rows = []
    for result in found:
        point = result.point
        shape = str(point.shape)
        if point.size is not None:
            shape += f", {point.size}x{point.size}"
        if point.shortest is not None:
            shape += f", from {point.shortest} steps"
        row = [point.cell, shape, *([point.mode] if of_several else [])]
        row.append("yes" if point.masked else "")
        for name in names:
            values = measured(result, name)
            over = ratio(result, "kerasrnn", name)
            if values is None:
                row.append("error" if name in result.records else "")
            elif name == "kerasrnn" or over is None:
                row.append(f"{1e3 * statistics.median(values):.3g}")
            else:
                row.append(
                    f"{1e3 * statistics.median(values):.3g}; {over.median:.2f} "
                    f"({over.lowest:.2f}–{over.highest:.2f})"
                )
        rows.append(row)
    return [
        f"## {title}",
        "",
        "Milliseconds (median over rounds); then the ratio of kerasrnn's time to this time (median "
        "and range over rounds). Shapes are batch x time x features x units.",
        "",
        *table(["cell", "shape", *(["mode"] if of_several else []), "masked", *names], rows),
    ]


def _memory(found: Collection[Result]) -> list[str]:
    rows = []
    for result in found:
        for name, record in result.records.items():
            columns = [_error(record), "", ""]
            if values := measured(result, name):
                taken = spread(value / 2**20 for value in values)
                over = ratio(result, name, "keras")
                columns = [
                    f"{statistics.median(record['peak']) / 2**20:.1f}",
                    f"{taken.median:.1f} ({taken.lowest:.1f}–{taken.highest:.1f})",
                    "" if over is None else f"{over.median:.2f}",
                ]
            rows.append((f"{result.point.cell} {result.point.shape}", name, *columns))
    if not rows:
        return []
    header = ["", "", "peak, MiB", "minus that of a few steps", "relative to keras"]
    return [
        f"## {_title('memory')}",
        "",
        "Peak resident memory of a step, minus the memory before the first step, when inputs and "
        "weights are already allocated. XLA's allocator retains freed memory, so the peak includes "
        "memory left over from compilation. The next column therefore subtracts the peak of a "
        f"sequence of {FEW} time steps.",
        "",
        *table(header, rows),
    ]


def _compile(found: Collection[Result]) -> list[str]:
    rows = []
    for result in found:
        for name, record in result.records.items():
            columns = [_error(record), ""]
            if values := measured(result, name):
                taken = spread(values)
                columns = [
                    f"{statistics.median(record['first']):.2f}",
                    f"{taken.median:.2f} ({taken.lowest:.2f}–{taken.highest:.2f})",
                ]
            rows.append((f"{result.point.cell} {result.point.shape}", name, *columns))
    if not rows:
        return []
    header = ["", "", "first call, s", "minus a later call: tracing and compiling, s"]
    return [f"## {_title('compile')}", "", *table(header, rows)]


def _error(record: Mapping[str, Any]) -> str:
    return "error" if "error" in record else ""


def _disagreements(found: Collection[Result]) -> list[str]:
    """The agreement of the contenders, and the failures."""
    most = max((disagreement(result) for result in found), default=0.0)
    lines = [
        "## Agreement",
        "",
        "The largest relative difference between the norms of the contenders' results is "
        f"{most:.1e}.",
        "",
    ]
    for result in found:
        if disagreement(result) > AGREEMENT:
            lines.append(f"- **{result.point}: the contenders disagree.**")
        for name, record in result.records.items():
            if "error" in record:
                lines.append(f"- {result.point}: {name} failed: {record['error']}")
    return [*lines, ""]


# Figures.


def draw(raw: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw `speed.png` and `growth.png`, if their points were measured."""
    found = results(raw)
    drawn = []
    grid = [result for result in found if result.point.part == "grid"]
    growth = [result for result in found if result.point.part == "growth"]
    for name, part, picture in (("speed", grid, _speed), ("growth", growth, _growth)):
        if part and (figure := picture(part)):
            drawn.append(folder / f"{file_name(raw, name)}.png")
            with replacing(drawn[-1]) as scratch:
                figure.savefig(scratch, dpi=120)
    return drawn


def _speed(found: Collection[Result]) -> Any:
    """Every contender's time relative to kerasrnn's: a panel per cell, a row per shape."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    cells = [cell for cell in BUILT_IN if any(r.point.cell == cell for r in found)]
    modes = [m for m in ("training", "inference") if any(r.point.mode == m for r in found)]
    shapes = list(dict.fromkeys(result.point.shape for result in found))
    height = 1.6 + len(modes) * (0.9 + 0.62 * len(shapes))
    figure = Figure(figsize=(4.4 * len(cells) + 0.6, height), layout="constrained")
    panels = figure.subplots(len(modes), len(cells), squeeze=False, sharex=True, sharey=True)
    seen = set()
    for row, mode in zip(panels, modes, strict=True):
        for panel, cell in zip(row, cells, strict=True):
            for result in found:
                if (result.point.cell, result.point.mode) != (cell, mode):
                    continue
                y = shapes.index(result.point.shape) + (0.17 if result.point.masked else -0.17)
                for name in CONTENDERS:
                    over = ratio(result, "kerasrnn", name)
                    if over is None or name == "kerasrnn":
                        continue
                    seen.add(name)
                    x, low, high = 1 / over.median, 1 / over.highest, 1 / over.lowest
                    face = "white" if result.point.masked else COLORS[name]
                    panel.plot([low, high], [y, y], color=COLORS[name], linewidth=1.2, zorder=2)
                    panel.plot(
                        [x], [y], "o", color=COLORS[name], markerfacecolor=face, markersize=6.5
                    )
            panel.axvline(1, color="black", linewidth=1)
            for between in range(1, len(shapes)):
                panel.axhline(between - 0.5, color="black", linewidth=0.4, alpha=0.4)
            panel.set_xscale("log")
            panel.set_title(f"{cell}, {mode}")
            panel.grid(axis="x", which="both", alpha=0.2)
            panel.set_yticks(range(len(shapes)), [str(shape) for shape in shapes])
            panel.set_ylim(len(shapes) - 0.5, -0.5)
            _plain_numbers(panel.xaxis)
        for panel in row:
            panel.set_xlabel("time relative to kerasrnn")
            panel.tick_params(labelbottom=True)
    marks = [
        Line2D([], [], linestyle="", marker="o", color=COLORS[name], label=_label(name))
        for name in CONTENDERS
        if name in seen
    ]
    marks += [
        Line2D([], [], linestyle="", marker="o", color="gray", label="unmasked"),
        Line2D(
            [], [], linestyle="", marker="o", color="gray", markerfacecolor="white", label="masked"
        ),
    ]
    columns = min(len(marks), 4 * len(cells))
    figure.legend(handles=marks, loc="outside lower center", ncols=columns, frameon=False)
    figure.supylabel("batch x time x features x units", fontsize="medium")
    figure.suptitle("Right of the line: slower than kerasrnn")
    return figure


def _label(name: str) -> str:
    return "kerasrnn, defaults" if name == "kerasrnn" else name


def _plain_numbers(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def _growth(found: Collection[Result]) -> Any:
    """Milliseconds by the number of time steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    panel = figure.subplots()
    for name in CONTENDERS:
        line = {
            result.point.shape.time: 1e3 * statistics.median(values)
            for result in found
            if (values := measured(result, name))
        }
        if line:
            times = sorted(line)
            panel.plot(
                times,
                [line[time] for time in times],
                "o--" if name == "kerasrnn-sqrt" else "o-",
                color=COLORS[name],
                label=name,
                markersize=4,
            )
    point = next(iter(found)).point
    batch, _, features, units = point.shape
    panel.set(
        xscale="log",
        yscale="log",
        xlabel="steps",
        ylabel="milliseconds",
        title=f"A training step of {point.cell}: batch {batch}, {features} features, {units} units",
    )
    _plain_numbers(panel.xaxis)
    _plain_numbers(panel.yaxis)
    panel.grid(which="both", alpha=0.2)
    panel.legend(frameon=False)
    return figure
