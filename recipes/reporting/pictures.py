"""Plots of a run: learning curves, confusion matrices, attention."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerasrnn.files import FILE, Kind, replacing, starts_with
from kerasrnn.training.history import TIMES

CJK_FAMILIES = ("Noto Sans CJK JP", "Source Han Sans", "Hiragino Sans", "Yu Gothic", "MS Gothic")

MARK = "kerasrnn"
OURS = Kind("a picture of kerasrnn", starts_with(rb"\x89PNG.*Software\0kerasrnn"))
"""Recognizes files written by `save`, in folders that may hold the user's own pictures."""


def learning_curves(log: Path, path: Path) -> None:
    """Plot every metric of a CSV log against the epoch, one panel each.

    A metric that changes by more than a factor of 100 has a logarithmic axis.
    """
    from matplotlib.figure import Figure

    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    others = ("epoch", *TIMES)
    names = [name for name in rows[0] if name not in others and not name.startswith("val_")]
    figure = Figure(figsize=(4.5 * len(names), 3.4), layout="constrained")
    epochs = [int(row["epoch"]) + 1 for row in rows]
    for panel, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
        drawn = []
        for column, label in ((name, "training"), (f"val_{name}", "validation")):
            if rows[0].get(column):
                values = [float(row[column]) for row in rows]
                panel.plot(epochs, values, label=label)
                drawn += values
        if max(drawn) > 100 * min(drawn) > 0:
            panel.set_yscale("log")
        panel.set(xlabel="epoch", title=name.replace("_", " "))
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.grid(alpha=0.3)
        panel.legend(frameon=False)
    save(figure, path)


def alignments(translations: Sequence[Any], path: Path) -> None:
    """Plot the attention of output symbols over source symbols, one panel per text.

    Args:
        translations: as returned by `kerasrnn.zoo.Translator.explain`, with attention.
        path: the output file.
    """
    from matplotlib.figure import Figure

    columns = min(3, len(translations))
    rows = -(-len(translations) // columns)
    wide = max(len(translation.source) for translation in translations)
    high = max(len(translation.symbols) for translation in translations) + 1
    cell = 0.3 if max(wide, high) < 16 else 0.2  # inches
    figure = Figure(
        figsize=(columns * (1.2 + cell * wide), rows * (1.0 + cell * high)), layout="constrained"
    )
    panels = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    family = families()
    for panel, translation in zip(panels, translations, strict=False):
        written = [*translation.symbols, "end"][: len(translation.attention)]
        panel.imshow(translation.attention, cmap="Greys", vmin=0, vmax=1, aspect="auto")
        panel.set_xticks(
            range(len(translation.source)), translation.source, rotation=90, family=family
        )
        panel.set_yticks(range(len(written)), written, family=family)
        panel.xaxis.tick_top()
        panel.xaxis.set_label_position("top")
        panel.set_xlabel("source")
        panel.set_ylabel("result")
    for panel in panels[len(translations) :]:
        panel.axis("off")
    save(figure, path)


def curves(
    values: Mapping[str, Sequence[Sequence[float]]],
    places: Sequence[str],
    xlabel: str,
    ylabel: str,
    path: Path,
) -> None:
    """Plot a metric of several models along an axis: mean and range over the seeds.

    Args:
        values: by model name, a row of values for each seed.
        places: the labels of the axis.
        xlabel: the label of the x axis.
        ylabel: the label of the y axis.
        path: the output file.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    panel = figure.subplots()
    for name, seeds in values.items():
        (line,) = panel.plot(places, np.mean(seeds, axis=0), marker="o", label=name)
        panel.fill_between(
            places, np.min(seeds, axis=0), np.max(seeds, axis=0), color=line.get_color(), alpha=0.2
        )
    panel.set(xlabel=xlabel, ylabel=ylabel, ylim=(0, None))
    panel.grid(alpha=0.3)
    panel.legend(frameon=False)
    save(figure, path)


def quality_by_time(
    panels: Mapping[str, Mapping[str, tuple[float, float]]],
    ylabel: str,
    path: Path,
) -> None:
    """Plot what models reach against the time that they were trained, a labelled point for each.

    Args:
        panels: by title, the minutes and the quality of each model by its name.
        ylabel: the name of the quality.
        path: the output file.
    """
    from matplotlib.figure import Figure

    names = sorted({name for models in panels.values() for name in models})
    color = dict(zip(names, colors(len(names)), strict=True))
    size = (1.2 + 4 * len(panels), 4.2)
    figure = Figure(figsize=size, layout="constrained")
    for panel, (title, models) in zip(
        figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels.items(), strict=True
    ):
        for name, (minutes, quality) in models.items():
            panel.plot(minutes, quality, "o", color=color[name])
            panel.annotate(
                name, (minutes, quality), (6, 4), textcoords="offset points", fontsize="small"
            )
        panel.set(title=title, xlabel="minutes of training")
        panel.margins(x=0.25, y=0.12)
        panel.grid(alpha=0.3)
    figure.axes[0].set_ylabel(ylabel)
    save(figure, path)


def hyperparameters(
    trials: Sequence[tuple[Mapping[str, Any], float]],
    space: Mapping[str, Any],
    measure: str,
    best: Mapping[str, Any],
    path: Path,
) -> None:
    """Plot the results of a search's trials against each hyperparameter, one panel each.

    Args:
        trials: the values and the result of each trial.
        space: the search space by name, see `kerasrnn.recipes.base.search_space`.
        measure: the name of the result.
        best: the values of the best trial, which is highlighted.
        path: the output file.
    """
    from matplotlib.figure import Figure

    columns = min(4, len(space))
    rows = -(-len(space) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.8 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    reached = [value for _, value in trials]
    random = np.random.default_rng(0)
    for panel, (name, kind) in zip(panels, space.items(), strict=False):
        # Trials in which the hyperparameter had no effect have no value for it.
        points = [(values[name], value) for values, value in trials if name in values]
        places = [place for place, _ in points]
        if hasattr(kind, "values"):
            # Categories keep their order; their trials are side by side.
            order = {value: n for n, value in enumerate(kind.values)}
            words = {False: "no", True: "yes"}
            panel.set_xticks(
                range(len(order)),
                [words[v] if isinstance(v, bool) else str(v).replace("_", "\n") for v in order],
            )
            panel.set_xlim(-0.6, len(order) - 0.4)
            places = [order[place] + random.uniform(-0.15, 0.15) for place in places]
        elif kind.log:
            panel.set_xscale("log")
            marks = kind.values_between() if kind.step else _marks(kind.low, kind.high)
            panel.set_xticks(marks, [f"{mark:g}" for mark in marks])
            panel.minorticks_off()
            panel.set_xlim(kind.low / 1.2, kind.high * 1.2)
        elif kind.step == 1:
            panel.xaxis.get_major_locator().set_params(integer=True)
        panel.scatter(places, [value for _, value in points], s=22, alpha=0.7)
        if name in best:
            best_index = next(n for n, (values, _) in enumerate(trials) if values is best)
            best_index = sum(name in values for values, _ in trials[:best_index])
            panel.scatter(
                places[best_index],
                points[best_index][1],
                s=80,
                facecolors="none",
                edgecolors="C3",
                zorder=3,
            )
        panel.set_xlabel(name.replace("_", " "))
        panel.grid(alpha=0.3)
    for panel in panels[len(space) :]:
        panel.axis("off")
    if max(reached) > 10 * min(reached) > 0:
        panels[0].set_yscale("log")
    figure.supylabel(measure, fontsize="medium")
    save(figure, path)


def _marks(low: float, high: float) -> list[float]:
    """Powers of ten, and three times those, from `low` to `high`."""
    exponents = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    marks = [float(f"{digit}e{exponent}") for exponent in exponents for digit in (1, 3)]
    return [mark for mark in marks if low <= mark <= high]


def families() -> list[str]:
    """Fonts for texts of any language: matplotlib's own, and one with Japanese.

    The latter comes with the extra `japanese`, or is one of the common system fonts.
    """
    import matplotlib
    from matplotlib import font_manager

    names = list(matplotlib.rcParams["font.family"])
    try:
        with matplotlib.rc_context():  # importing it changes the font of all plots
            import matplotlib_fontja
    except ImportError:
        pass
    else:
        names.append(matplotlib_fontja.matplotlib_fontja.FONT_NAME)
    known = set(font_manager.get_font_names())
    return names + [name for name in CJK_FAMILIES if name in known]


def confusion_matrix(
    expected: np.ndarray, predicted: np.ndarray, names: Sequence[str], title: str, path: Path
) -> None:
    """Plot a confusion matrix."""
    from matplotlib.figure import Figure
    from sklearn.metrics import ConfusionMatrixDisplay

    figure = Figure(figsize=(6, 5.4), layout="constrained")
    panel = figure.subplots()
    ConfusionMatrixDisplay.from_predictions(
        expected,
        predicted,
        labels=range(len(names)),
        display_labels=names,
        cmap="Blues",
        colorbar=False,
        ax=panel,
    )
    panel.set_title(title)
    save(figure, path)


def colors(count: int) -> list[Any]:
    """Distinct colours."""
    from matplotlib import colormaps

    if count <= 10:
        return [colormaps["tab10"](n) for n in range(count)]
    return [colormaps["turbo"](0.05 + 0.9 * n / (count - 1)) for n in range(count)]


def save(figure: object, path: Path, kind: Kind = FILE) -> None:
    """Write a PNG file atomically, with the mark of `OURS`."""
    with replacing(path, kind) as scratch:
        figure.savefig(scratch, dpi=120, metadata={"Software": MARK})
