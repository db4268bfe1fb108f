"""The results as tables and pictures."""

import statistics
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.points import BUILT_IN, CONTENDERS, FEW, PARTS
from benchmarks.summary import (
    AGREEMENT,
    Result,
    Target,
    disagreement,
    measured,
    ratio,
    results,
    spread,
    targets,
)
from kerasrnn.files import replacing

COLORS = {
    "kerasrnn": "#000000",
    "kerasrnn-xla": "#000000",
    "kerasrnn-sqrt": "#7f7f7f",
    "keras": "#e69f00",
    "keras-xla": "#d55e00",
    "keras-unrolled": "#cc79a7",
    "torch": "#0072b2",
    "floor": "#009e73",
}


# Tables.


def report(raw: Mapping[str, Any], command: str) -> str:
    """All tables, in Markdown."""
    found = results(raw)
    lines = [
        "# Speed",
        "",
        f"Measured with `{command}`. The raw numbers, round by round, are in "
        "[speed.json](speed.json).",
        "",
    ]
    if not raw["complete"]:
        lines += ["**The run was interrupted: what follows is a part of it.**", ""]
    lines += machine_table(raw["machine"])
    lines += targets_table(
        targets(found),
        "kerasrnn's time, or memory, over what is named after the comma. Inference is judged with "
        "`jit_compile=True`, the setting for inputs of one shape.",
    )
    lines += ["## Contenders", "", *table(["name", ""], list(CONTENDERS.items()))]
    for mode, own in (("training", "kerasrnn"), ("inference", "kerasrnn-xla")):
        part = [r for r in found if r.point.part == "grid" and r.point.mode == mode]
        lines += _times(f"{mode.capitalize()}", part, own)
    if any(result.point.part == "grid" for result in found):
        lines += ["![Speed](speed.png)", ""]
    for part in ("cells", "eager"):
        lines += _times(_title(part), [r for r in found if r.point.part == part], "kerasrnn")
    lines += _memory([result for result in found if result.point.part == "memory"])
    lines += _compile([result for result in found if result.point.part == "compile"])
    growth = [result for result in found if result.point.part == "growth"]
    lines += _times(_title("growth"), growth, "kerasrnn")
    if growth:
        lines += ["![Growth](growth.png)", ""]
    lines += _doubts(found)
    return "\n".join(lines).rstrip() + "\n"


def _title(part: str) -> str:
    return PARTS[part][0].upper() + PARTS[part][1:]


def table(header: Sequence[str], rows: Collection[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(row) + " |" for row in (header, *rows)]
    return [lines[0], "|---" * len(header) + "|", *lines[1:], ""]


def machine_table(machine: Mapping[str, Any]) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    rows = [
        ("processor", f"{machine['processor']}, {machine['cores']} cores"),
        ("memory", f"{(machine['memory'] or 0) / 2**30:.0f} GiB"),
        ("system", machine["system"]),
        ("versions", f"Python {machine['python']}, {versions}"),
        ("date", machine["date"]),
        ("load at the start", "unknown" if machine["load"] is None else f"{machine['load']:.2f}"),
    ]
    return table(["machine", ""], rows)


def targets_table(rows: Collection[Target], about: str) -> list[str]:
    found = []
    for target in rows:
        limit = "" if target.limit is None else f"≤ {target.limit:g}"
        value = "" if target.value is None else f"{target.value:.3g}"
        over = "" if not target.ratios else f"{min(target.ratios):.3g}–{max(target.ratios):.3g}"
        of = str(len(target.ratios))
        found.append((target.text, target.judge, limit, value, over, of, target.verdict))
    header = ["target", "judged by", "limit", "measured", "lowest–highest", "points", ""]
    return ["## Targets", "", about, "", *table(header, found)]


def _times(title: str, found: Collection[Result], own: str) -> list[str]:
    """Milliseconds at each point, and kerasrnn's over them."""
    if not found:
        return []
    if all(measured(result, own) is None for result in found):
        own = "kerasrnn"
    names = [name for name in CONTENDERS if any(name in result.records for result in found)]
    names.sort(key=lambda name: name != own)
    rows = []
    for result in found:
        point = result.point
        row = [point.cell, str(point.shape), "yes" if point.masked else ""]
        for name in names:
            values = measured(result, name)
            over = ratio(result, own, name)
            if values is None:
                row.append("error" if name in result.records else "")
            elif name == own or over is None:
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
        f"Milliseconds, the median over rounds; then {own}'s over them, the median and the range "
        "of the rounds. Shapes are batch x time x features x units.",
        "",
        *table(["cell", "shape", "masked", *names], rows),
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
    header = ["", "", "peak, MiB", "less that of a few steps", "over keras"]
    return [
        f"## {_title('memory')}",
        "",
        "Resident memory at the peak of a step, over that before the first one, where inputs and "
        "weights are there already. XLA's allocator keeps what is freed, so that what compiling "
        f"leaves is counted too; it is taken off again: the same with {FEW} steps.",
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
    header = ["", "", "first call, s", "less a later call: tracing and compiling, s"]
    return [f"## {_title('compile')}", "", *table(header, rows)]


def _error(record: Mapping[str, Any]) -> str:
    return "error" if "error" in record else ""


def _doubts(found: Collection[Result]) -> list[str]:
    """Whether all computed the same, and who failed."""
    most = max((disagreement(result) for result in found), default=0.0)
    lines = [
        "## Agreement",
        "",
        f"The norms of what the contenders computed differ by {most:.1e} at most, relatively.",
        "",
    ]
    for result in found:
        if disagreement(result) > AGREEMENT:
            lines.append(f"- **{result.point}: they compute different things.**")
        for name, record in result.records.items():
            if "error" in record:
                lines.append(f"- {result.point}: {name} failed: {record['error']}")
    return [*lines, ""]


# Pictures.


def draw(raw: Mapping[str, Any], folder: Path) -> list[Path]:
    """`speed.png` and `growth.png`, of what was measured."""
    found = results(raw)
    drawn = []
    grid = [result for result in found if result.point.part == "grid"]
    growth = [result for result in found if result.point.part == "growth"]
    for name, part, picture in (("speed", grid, _speed), ("growth", growth, _growth)):
        if part and (figure := picture(part)):
            drawn.append(folder / f"{name}.png")
            with replacing(drawn[-1]) as scratch:
                figure.savefig(scratch, dpi=120)
    return drawn


def _speed(found: Collection[Result]) -> Any:
    """Everyone's time over kerasrnn's: a panel a cell, a line a shape."""
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
        own = "kerasrnn"
        if mode == "inference" and any(measured(r, "kerasrnn-xla") for r in found):
            own = "kerasrnn-xla"
        for panel, cell in zip(row, cells, strict=True):
            for result in found:
                if (result.point.cell, result.point.mode) != (cell, mode):
                    continue
                y = shapes.index(result.point.shape) + (0.17 if result.point.masked else -0.17)
                for name in CONTENDERS:
                    over = ratio(result, own, name)
                    if over is None or name == own:
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
        name = "kerasrnn" if own == "kerasrnn" else "kerasrnn with jit_compile=True"
        for panel in row:
            panel.set_xlabel(f"time over that of {name}")
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
    return "kerasrnn as it comes" if name == "kerasrnn" else name


def _plain_numbers(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def _growth(found: Collection[Result]) -> Any:
    """Milliseconds against the number of steps."""
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
