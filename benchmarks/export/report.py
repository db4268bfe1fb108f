"""The report on the latency of exports: targets, tables and a figure."""

import statistics
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from benchmarks.export.contenders import CONTENDERS, FILES, MADE, Model, Point
from benchmarks.measuring.reports import opening, table, targets_table
from benchmarks.measuring.summary import (
    MEAN,
    WORST,
    Result,
    Spread,
    Target,
    measured,
    over,
    ratio,
    spread,
)
from kerasrnn.files import replacing

OWN = "onnx"
OTHERS = ("keras-onnx", "litert", "saved-model", "tf-function", "predict-on-batch", "predict")
COLORS = {
    "onnx": "#000000",
    "onnx-int8": "#7f7f7f",
    "keras-onnx": "#d55e00",
    "litert": "#009e73",
    "saved-model": "#56b4e9",
    "tf-function": "#0072b2",
    "predict-on-batch": "#cc79a7",
    "predict": "#e69f00",
    "step": "#f0e442",
}


def results(raw: Mapping[str, Any]) -> list[Result]:
    """The results in `export.json`."""
    return [Result(Point.from_json(each["point"]), each["records"]) for each in raw["points"]]


def targets(found: Collection[Result]) -> list[Target]:
    gru = [result for result in found if not result.point.model.masked]
    lstm = [result for result in found if result.point.model.masked]
    named = "Keras's own ONNX file"
    return [
        Target(f"GRU, {named}", MEAN, 0.25, over(gru, ["keras-onnx"], OWN)),
        Target(f"GRU, {named}", WORST, 0.25, over(gru, ["keras-onnx"], OWN)),
        Target(f"masked LSTM, {named}", MEAN, 0.5, over(lstm, ["keras-onnx"], OWN)),
        Target(f"masked LSTM, {named}", WORST, 0.5, over(lstm, ["keras-onnx"], OWN)),
        Target("all, predict", MEAN, 0.1, over(found, ["predict"], OWN)),
        Target("all, predict", WORST, 0.1, over(found, ["predict"], OWN)),
        *[
            Target(f"all, {name}", MEAN, None, over(found, [name], OWN))
            for name in ("predict-on-batch", "tf-function", "saved-model", "litert")
        ],
        Target("all, int8 over float32", MEAN, None, over(found, [OWN], "onnx-int8")),
    ]


# Tables.


def report(raw: Mapping[str, Any], command: str) -> str:
    """All tables, in Markdown."""
    found = results(raw)
    threads = raw["options"]["threads"] or "the default, one per core"
    lines = opening("Exports", raw, command, "export")
    lines += targets_table(
        targets(found),
        "The time of kerasrnn's ONNX file for one sequence, divided by that of the contender "
        "named after the comma.",
    )
    lines += ["## Contenders", "", *table(["name", ""], list(CONTENDERS.items()))]
    lines += [
        "The GRUs read frames of 64 numbers. The masked LSTMs read tokens through an embedding of "
        "size 128; no token is masked here. A dense layer predicts ten classes from the last "
        "output, or from each output in the bidirectional models. Threads of onnxruntime: "
        f"{threads}.",
        "",
    ]
    lines += _times(found) + _ratios(found)
    if found:
        lines += ["![Exports](export.png)", ""]
    return "\n".join(lines + _files(raw, found) + _failures(raw, found)).rstrip() + "\n"


def _microseconds(values: Spread) -> str:
    return f"{_short(values.median)} ({_short(values.lowest)}–{_short(values.highest)})"


def _short(microseconds: float) -> str:
    return f"{microseconds:.3g}" if microseconds < 1000 else f"{microseconds:.0f}"


def _times(found: Collection[Result]) -> list[str]:
    names = [name for name in CONTENDERS if any(name in result.records for result in found)]
    rows = []
    for result in found:
        row = [str(result.point.model), str(result.point.time)]
        for name in names:
            values = measured(result, name)
            if values is None:
                row.append("error" if name in result.records else "")
            else:
                row.append(_microseconds(spread(1e6 * seconds for seconds in values)))
        rows.append(row)
    return [
        "## Latency",
        "",
        "Microseconds per sequence, or per time step in the last column: the median over rounds, "
        "and their range.",
        "",
        *table(["model", "steps", *names], rows),
    ]


def _ratios(found: Collection[Result]) -> list[str]:
    names = [name for name in OTHERS if any(name in result.records for result in found)]
    rows = []
    for result in found:
        row = [str(result.point.model), str(result.point.time)]
        for name in names:
            of_rounds = ratio(result, OWN, name)
            row.append(
                ""
                if of_rounds is None
                else f"{of_rounds.median:.2g} ({of_rounds.lowest:.2g}–{of_rounds.highest:.2g})"
            )
        rows.append(row)
    return [
        "## kerasrnn's ONNX file relative to the others",
        "",
        "The ratio of the times: the median over rounds, and their range.",
        "",
        *table(["model", "steps", *names], rows),
    ]


def _files(raw: Mapping[str, Any], found: Collection[Result]) -> list[str]:
    rows = []
    names = [name for name in MADE if any(name in each["files"] for each in raw["files"])]
    for each in raw["files"]:
        model = Point.from_json(each["point"]).model
        row = [str(model)]
        for name in names:
            file = each["files"].get(name)
            if file is None:
                row.append("")
            elif "error" in file:
                row.append("error")
            else:
                differences = [file["difference"], *_differences(found, model, name)]
                row.append(f"{file['bytes'] / 1024:.0f}; {max(differences):.1e}")
        rows.append(row)
    if not rows:
        return []
    return [
        "## Files",
        "",
        "The size in KiB, and the largest absolute difference of an output from the Keras model, "
        "on random batches (padded and with gaps, if the model masks) and on the timed sequences. "
        "`predict` has the `.keras` file.",
        "",
        *table(["model", *names], rows),
    ]


def _differences(found: Collection[Result], model: Model, file: str) -> list[float]:
    """The differences on the timed sequences, of all contenders that run this file."""
    return [
        record["facts"][0]
        for result in found
        if result.point.model == model
        for name, record in result.records.items()
        if FILES[name] == FILES[file] and "facts" in record
    ]


def _failures(raw: Mapping[str, Any], found: Collection[Result]) -> list[str]:
    lines = []
    for each in raw["files"]:
        model = Point.from_json(each["point"]).model
        for name, file in each["files"].items():
            if "error" in file:
                lines.append(f"- {model}: no file for {name}: {file['error']}")
    for result in found:
        for name, record in result.records.items():
            # Contenders without a file are listed above.
            if "error" in record and not any(line.endswith(record["error"]) for line in lines):
                lines.append(f"- {result.point}: {name} failed: {record['error']}")
    return ["## Failures", "", *lines, ""] if lines else []


# The figure.


def draw(raw: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw `export.png`: microseconds, with one panel per model."""
    found = results(raw)
    if not any(measured(result, name) for result in found for name in result.records):
        return []
    path = folder / "export.png"
    with replacing(path) as scratch:
        _picture(found).savefig(scratch, dpi=120)
    return [path]


def _picture(found: Collection[Result]) -> Any:
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    models = list(dict.fromkeys(result.point.model for result in found))
    cells = list(dict.fromkeys(model.cell for model in models))
    rows = [[model for model in models if model.cell == cell] for cell in cells]
    names = [name for name in CONTENDERS if any(measured(r, name) for r in found)]
    counts = [
        max(sum(r.point.model == row[n] for r in found) for row in rows if n < len(row))
        for n in range(max(map(len, rows)))
    ]
    width = 1.6 + 2.1 * sum(counts)
    figure = Figure(figsize=(width, 1.3 + 2.9 * len(rows)), layout="constrained")
    panels = figure.subplots(
        len(rows), len(counts), squeeze=False, sharey=True, width_ratios=counts
    )
    for row, of_row in zip(rows, panels, strict=True):
        for n, panel in enumerate(of_row):
            if n >= len(row):
                panel.set_visible(False)
                continue
            of_model = [result for result in found if result.point.model == row[n]]
            _bars(panel, of_model, names)
            panel.set_title(str(row[n]), fontsize="medium")
            panel.set_xlabel("steps")
        of_row[0].set_ylabel("microseconds")
    marks = [Patch(color=COLORS[name], label=name) for name in names]
    columns = min(len(names), int(width / 1.7))
    figure.legend(handles=marks, loc="outside lower center", ncols=columns, frameon=False)
    figure.suptitle("Latency of one sequence; step: of one time step")
    return figure


def _bars(panel: Any, of_model: Collection[Result], names: Collection[str]) -> None:
    width = 0.84 / len(names)
    for x, result in enumerate(of_model):
        for k, name in enumerate(names):
            if (values := measured(result, name)) is None:
                continue
            at = x + (k - (len(names) - 1) / 2) * width
            low, middle, high = min(values), statistics.median(values), max(values)
            panel.bar(at, 1e6 * middle, 0.94 * width, color=COLORS[name], zorder=2)
            panel.plot([at, at], [1e6 * low, 1e6 * high], color="#666666", linewidth=1, zorder=3)
    panel.set_yscale("log")
    panel.set_xticks(range(len(of_model)), [str(result.point.time) for result in of_model])
    panel.set_xlim(-0.5, len(of_model) - 0.5)
    panel.grid(axis="y", alpha=0.3)
    panel.set_axisbelow(True)
