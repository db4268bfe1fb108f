"""The tables and the figure."""

import statistics
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.gpu.plan import BUILT_IN, CONTENDERS, LARGE, PARTS, PUBLISHED, Point
from benchmarks.measuring.reports import opening, table
from benchmarks.measuring.summary import Result, measured, ratio, spread
from kerasrnn.files import replacing

OWN = ("kerasrnn", "kerasrnn-loop")
"""Whose time is divided by that of the others: the first one that was measured."""

COLORS = {
    "kerasrnn": "#000000",
    "kerasrnn-loop": "#7f7f7f",
    "kerasrnn-sqrt": "#bfbfbf",
    "keras": "#e69f00",
    "keras-rnn": "#d55e00",
    "jax-rnn": "#56b4e9",
    "torch": "#0072b2",
}

AGREEMENT = 0.03
"""The acceptable relative difference between norms, in bfloat16 over thousands of steps."""


def results(raw: Mapping[str, Any]) -> list[Result]:
    """The results in `gpu.json`."""
    return [Result(Point.from_json(each["point"]), each["records"]) for each in raw["points"]]


# Tables.


def report(raw: Mapping[str, Any], command: str) -> str:
    """All tables, in Markdown."""
    found = results(raw)
    lines = opening("GPU", raw, command, "gpu")
    if raw["options"]["device"] == "cpu":
        lines += ["**A smoke test on a CPU: its numbers say nothing about GPUs.**", ""]
    lines += _budget(raw)
    described = [(name, each.about) for name, each in CONTENDERS.items()]
    lines += [
        "## Contenders",
        "",
        "cuDNN takes float16 and float32 from TensorFlow, float32 from JAX, and bfloat16 from "
        "neither. The precision is that of computations: with the policies `mixed_bfloat16` and "
        "`mixed_float16`, weights are float32. Inference computes the outputs of all steps; "
        "training also the gradients with respect to inputs and weights. A call ends when its "
        "results are there.",
        "",
        *table(["name", ""], described),
    ]
    lines += _checks(raw["checks"])
    for part in ("large", "cells", "lengths", "recipe"):
        lines += _times(part, [result for result in found if result.point.part == part])
    lines += _peaks([result for result in found if result.point.part == "peak"])
    if any(_is_drawn(result) for result in found):
        lines += ["![Times](gpu.png)", ""]
    lines += _disagreements(found)
    return "\n".join(lines).rstrip() + "\n"


def _budget(raw: Mapping[str, Any]) -> list[str]:
    text = (
        f"Planned for {raw['options']['minutes']:g} minutes (`--minutes`); took "
        f"{raw['minutes']:.1f}."
    )
    lines = [text, ""]
    if raw["missing"]:
        lines += [f"Not measured, since not installed: {', '.join(raw['missing'])}.", ""]
    if raw["left_out"]:
        lines += ["Left out for lack of time, the most important first:", ""]
        lines += [f"- {point}" for point in raw["left_out"]]
        lines += [""]
    return lines


def _checks(checks: Collection[Mapping[str, Any]]) -> list[str]:
    rows = []
    for check in checks:
        differences = [
            f"{check[key]:.1e}" if key in check else "" for key in ("output", "gradient")
        ]
        if "error" in check:
            verdict = f"error: {check['error']}"
        else:
            values = [check[key] for key in ("output", "gradient") if key in check]
            is_right = all(value <= check["tolerance"] for value in values)
            verdict = "right" if is_right else "**wrong: not timed**"
        head = (check["cell"], check["precision"], check["contender"])
        rows.append((*head, *differences, verdict))
    if not rows:
        return []
    tolerances = {check["precision"]: check["tolerance"] for check in checks}
    limits = ", ".join(f"{limit:g} in {name}" for name, limit in tolerances.items())
    return [
        "## Numbers first",
        "",
        "Relative differences of the outputs, and of the worst gradient, from a float64 NumPy "
        f"reference on a small example; at most {limits} is right. "
        "For a recipe: of the untrained model's loss from the logarithm of the number of classes.",
        "",
        *table(["cell", "precision", "contender", "outputs", "gradients", ""], rows),
    ]


def _times(part: str, found: Collection[Result]) -> list[str]:
    if not found:
        return []
    rows = []
    for result in found:
        point = result.point
        head = (point.cell, str(point.shape), point.mode, point.precision)
        own = next((name for name in OWN if measured(result, name)), None)
        for name, record in result.records.items():
            if "error" in record:
                rows.append((*head, name, f"error: {record['error']}", "", ""))
                continue
            taken = spread(1e3 * value for value in measured(result, name) or ())
            milliseconds = f"{taken.median:.3g} ({taken.lowest:.3g}–{taken.highest:.3g})"
            over = None if own in (None, name) else ratio(result, own, name)
            compared = "" if over is None else f"{over.median:.2f}"
            rows.append((*head, name, milliseconds, compared, f"{record['first']:.1f}"))
        rows += _published(point)
    header = ["cell", "shape", "", "precision", "contender", "milliseconds", "kerasrnn / this"]
    header.append("first call, s")
    about = (
        "Median over the rounds (lowest and highest); the ratio of kerasrnn's time, of "
        "kerasrnn-loop's if kerasrnn was not measured, to this one's; and the first call, which "
        "compiles and is not part of the times."
    )
    if part == "recipe":
        about += " Shape: batch x tokens x embedding x units, with Keras's `train_on_batch`."
    else:
        about += " Shape: batch x time x features x units."
    if part == "cells":
        forward, both = (PUBLISHED["LSTM", mode]["FlashRNN"] for mode in ("inference", "training"))
        about += (
            f" FlashRNN's LSTM, published for an H100 at 16x1024x768: {forward:g} ms forward, "
            f"{both:g} ms with backward."
        )
    return [f"## {_title(part)}", "", about, "", *table(header, rows)]


def _published(point: Point) -> Iterator[tuple[str, ...]]:
    """The rows of published figures, at the shape that they are for."""
    if (point.part, point.shape, point.precision) != ("large", LARGE, "bfloat16"):
        return
    for name, milliseconds in PUBLISHED.get((point.cell, point.mode), {}).items():
        about = f"{name}, published for an H100"
        head = (point.cell, str(point.shape), point.mode, point.precision)
        yield (*head, about, f"{milliseconds:g}", "", "")


def _peaks(found: Collection[Result]) -> list[str]:
    rows = []
    for result in found:
        keras = result.records.get("keras", {}).get("peak")
        for name, record in result.records.items():
            head = (result.point.cell, str(result.point.shape), name)
            if "error" in record:
                rows.append((*head, f"error: {record['error']}", ""))
                continue
            over = f"{record['peak'] / keras:.2f}" if keras else ""
            rows.append((*head, f"{record['peak'] / 2**20:.1f}", over))
    if not rows:
        return []
    return [
        f"## {_title('peak')}",
        "",
        "Of the device, with inputs and weights. On JAX it includes what compilation tried.",
        "",
        *table(["cell", "shape", "contender", "MiB", "relative to keras"], rows),
    ]


def _disagreements(found: Collection[Result]) -> list[str]:
    """The contenders whose norms of outputs and gradients differ at full size."""
    lines = []
    for result in found:
        facts = {name: r["facts"] for name, r in result.records.items() if r.get("facts")}
        first = next(iter(facts), None)
        for name, values in facts.items():
            difference = max(abs(a - b) / abs(b) for a, b in zip(values, facts[first], strict=True))
            if not difference <= AGREEMENT:  # NaN, too
                lines.append(
                    f"- **{result.point}: the norms of {name} and {first} differ by "
                    f"{difference:.1e}.**"
                )
    if not lines:
        return []
    return ["## Disagreements at full size", "", *lines, ""]


def _title(part: str) -> str:
    return PARTS[part][0].upper() + PARTS[part][1:]


# The figure.


def _is_drawn(result: Result) -> bool:
    timed = any(measured(result, name) for name in result.records)
    return timed and result.point.part in ("large", "cells", "lengths")


def draw(raw: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw `gpu.png`, if a layer was timed: by cell, and by sequence length."""
    from matplotlib.figure import Figure

    found = [result for result in results(raw) if _is_drawn(result)]
    if not found:
        return []
    bars = [result for result in found if result.point.part != "lengths"]
    lines = [result for result in found if result.point.part == "lengths"]
    height = max(4.0, 1.2 + 0.22 * sum(len(result.records) for result in bars))
    figure = Figure(figsize=(11, height), layout="constrained")
    panels = iter(figure.subplots(1, bool(bars) + bool(lines), squeeze=False)[0])
    if bars:
        _draw_bars(next(panels), bars)
    if lines:
        _draw_lines(next(panels), lines)
    path = folder / "gpu.png"
    with replacing(path) as scratch:
        figure.savefig(scratch, dpi=120)
    return [path]


def _draw_bars(panel: Any, found: Collection[Result]) -> None:
    """Milliseconds of each contender, in groups by cell and mode."""
    y, ticks, labels, seen = 0.0, [], [], set()
    for result in found:
        top = y
        for name in result.records:
            values = measured(result, name)
            if values:
                width = 1e3 * statistics.median(values)
                label = None if name in seen else name
                panel.barh(y, width, height=0.9, color=COLORS[name], label=label)
                seen.add(name)
                y += 1
        ticks.append((top + y - 1) / 2)
        labels.append(f"{result.point.cell}, {result.point.mode}, {result.point.precision}")
        y += 0.8
    panel.set_yticks(ticks, labels)
    panel.invert_yaxis()
    panel.set(xscale="log", xlabel="milliseconds", title=str(next(iter(found)).point.shape))
    panel.grid(axis="x", which="both", alpha=0.2)
    panel.legend(frameon=False, fontsize="small")


def _draw_lines(panel: Any, found: Collection[Result]) -> None:
    """Milliseconds by the number of steps."""
    for cell in dict.fromkeys(result.point.cell for result in found):
        for name in CONTENDERS:
            line = {
                result.point.shape.time: 1e3 * statistics.median(values)
                for result in found
                if result.point.cell == cell and (values := measured(result, name))
            }
            if line:
                times = sorted(line)
                panel.plot(
                    times,
                    [line[time] for time in times],
                    "o-" if cell not in BUILT_IN else "o--",
                    color=COLORS[name],
                    label=f"{cell}, {name}",
                    markersize=4,
                )
    shape = next(iter(found)).point.shape
    panel.set(
        xscale="log",
        yscale="log",
        xlabel="steps",
        ylabel="milliseconds",
        title=f"A training step, {shape.batch * shape.time:,} steps in the batch",
    )
    times = sorted({result.point.shape.time for result in found})
    panel.set_xticks(times, [f"{time:,}" for time in times])
    panel.set_xticks([], minor=True)
    panel.grid(which="both", alpha=0.2)
    panel.legend(frameon=False, fontsize="small")
