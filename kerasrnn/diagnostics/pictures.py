"""Plots of diagnoses: where gradients vanish, explode, or are carried through."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasrnn import validation
from kerasrnn.diagnostics.layer_diagnosis import LayerDiagnosis
from kerasrnn.files import Kind, check_place, create_folder, replacing, starts_with

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Axes = Any

# Distinguishable with any colour vision: Okabe & Ito (2008), "Color universal design".
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LOW, UNSATURATED, HIGH = "#56B4E9", "#E6E6E6", "#D55E00"
QUIET = "#666666"

PICTURE = Kind(
    "a picture",
    starts_with(rb"\x89PNG|%PDF|%!PS|<\?xml|<svg|\xff\xd8\xff|RIFF.{4}WEBP|II\*\0|MM\0\*|GIF8"),
)


def comparison(
    curves: Sequence[tuple[str, np.ndarray]], norms: Mapping[str, float], clipnorm: float | None
) -> "Figure":
    """Plot gradients by the distance to the loss and, with `clipnorm`, the effect of clipping.

    Args:
        curves: the name and the gradient norms of each model.
        norms: by label, the norm of the gradient of each model's weights, in the same order.
        clipnorm: the norm to clip to, or None.
    """
    figure = _figure(8.4 if clipnorm is None else 11, 4.6)
    columns = 1 if clipnorm is None else 2
    panels = figure.subplots(1, columns, width_ratios=(2.8, 1)[:columns], squeeze=False)[0]
    colours = [COLOURS[n % len(COLOURS)] for n in range(len(curves))]
    _draw_curves(panels[0], [norms for _, norms in curves], colours)
    _label_ends(panels[0], [label for label, _ in curves], colours)
    _title(panels[0], "Gradient by distance to the loss", "norm of dL/dh, mean over the batch")
    panels[0].set_xlabel("distance to the loss, in steps")
    if clipnorm is not None:
        _draw_clipping(panels[1], norms, colours, clipnorm)
    return figure


def layers(diagnosed: Mapping[str, LayerDiagnosis], axis: str) -> "Figure":
    """Plot a row for each layer: its gradients and its gates."""
    rows = list(diagnosed.values())
    figure = _figure(9, 2.9 * len(rows))
    grid = figure.subplots(len(rows), 2, width_ratios=(1.7, 1), squeeze=False)
    for (left, right), layer in zip(grid, rows, strict=True):
        states = list(layer.states.values())
        colours = COLOURS[: len(states)]
        _draw_curves(left, [s.gradient_norms for s in states], colours, axis == "step")
        _label_ends(left, [f"d{s.name}" for s in states], colours)
        _title(left, _short(layer.name), f"{layer.cell}: norm of dL/ds, mean over the batch")
        _draw_saturation(right, layer)
        if layer is rows[-1]:
            left.set_xlabel("step" if axis == "step" else "distance to the loss, in steps")
    return figure


def flow(history: Mapping[int, Mapping[str, LayerDiagnosis]], axis: str) -> "Figure":
    """Plot a panel for each layer and state, with one curve per epoch."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    last = history[max(history)]
    names = [(layer.name, state) for layer in last.values() for state in layer.states]
    epochs = Normalize(min(history), max(max(history), min(history) + 1))
    colours = ScalarMappable(epochs, colormaps["viridis"])
    columns = min(len(names), 2)
    rows = -(-len(names) // columns)
    figure = _figure(1 + 4.6 * columns, 3.2 * rows)
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel in panels.flat[len(names) :]:
        panel.set_axis_off()
    for panel, (layer, state) in zip(panels.flat, names, strict=False):
        curves = [of[layer].states[state].gradient_norms for of in history.values()]
        shades = [colours.to_rgba(epoch) for epoch in history]
        _draw_curves(panel, curves, shades, axis == "step")
        _title(panel, _short(layer), f"norm of dL/d{state}, mean over the batch")
        panel.set_xlabel("step" if axis == "step" else "distance to the loss, in steps")
    bar = figure.colorbar(colours, ax=panels, label="epochs trained", pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.yaxis.get_major_locator().set_params(integer=True)
    return figure


@validation.checked
def save(figure: "Figure", path: str | Path) -> None:
    """Write a plot, replacing an existing one.

    Raises:
        FileExistsError: `path` contains something else.
        OSError: it cannot be written.
    """
    check_place(path, PICTURE)
    create_folder(Path(path).parent)
    with replacing(path, PICTURE) as new:
        figure.savefig(new, dpi=150)


def check_installed() -> None:
    """Raise ImportError, with installation advice, if matplotlib is not installed."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "plots need matplotlib, which is not installed; install it with "
            "`pip install 'kerasrnn[recipes]'`."
        ) from error


def _figure(width: float, height: float) -> "Figure":
    check_installed()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _short(name: str) -> str:
    """Shorten a long path to its end."""
    return name if len(name) <= 44 else f"…{name[-43:]}"


def _draw_curves(
    panel: Axes, curves: Sequence[np.ndarray], colours: Sequence[Any], by_step: bool = False
) -> None:
    """Plot on a logarithmic axis, omitting zeros and NaN."""
    width = 2 if len(curves) <= len(COLOURS) else 1.2
    for norms, colour in zip(curves, colours, strict=True):
        visible = np.where((norms > 0) & np.isfinite(norms), norms, np.nan)
        start = 1 if by_step else 0
        panel.plot(np.arange(start, start + len(norms)), visible, color=colour, linewidth=width)
    panel.set_yscale("log")
    panel.margins(x=0.015)
    _quiet(panel)
    panel.grid(axis="y", color="#DDDDDD", linewidth=0.6)


def _label_ends(panel: Axes, labels: Sequence[str], colours: Sequence[Any]) -> None:
    """Write each curve's name at its end, moved apart where they would overlap."""
    figure = panel.figure
    low, high = np.log(panel.get_ylim())
    ends = []
    for line in panel.lines:
        y = line.get_ydata()
        y = y[np.isfinite(y)]
        ends.append((np.log(y[-1]) - low) / (high - low) if len(y) else 0.0)
    gap = 0.19 / (figure.get_figheight() / panel.get_gridspec().nrows)
    places = np.array(ends)
    order = np.argsort(places)
    for _ in range(100):
        for a, b in itertools.pairwise(order):
            overlap = gap - (places[b] - places[a])
            if overlap > 0:
                places[a] -= overlap / 2
                places[b] += overlap / 2
    for place, label, colour in zip(places, labels, colours, strict=True):
        panel.annotate(
            label,
            (1.0, place),
            xytext=(6, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            color=colour,
            va="center",
            fontweight="bold",
            annotation_clip=False,
        )


def _draw_clipping(
    panel: Axes, norms: Mapping[str, float], colours: Sequence[str], clipnorm: float
) -> None:
    """Plot the original norm as a filled marker and the norm after clipping as an open one."""
    _quiet(panel)
    panel.set_xscale("log")
    panel.axvline(clipnorm, color=QUIET, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    for n, (label, norm) in enumerate(norms.items()):
        colour = colours[n]
        panel.annotate(
            label,
            (0.02, n),
            xytext=(0, 7),
            xycoords=panel.get_yaxis_transform(),
            textcoords="offset points",
            color=colour,
            fontsize=9,
            fontweight="bold",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
        if not np.isfinite(norm):
            panel.annotate("not finite", (clipnorm, n), color=colour, va="center")
            continue
        panel.plot([norm, min(norm, clipnorm)], [n, n], color=colour, linewidth=1.5)
        panel.plot([min(norm, clipnorm)], [n], "o", color=colour, markerfacecolor="white")
        panel.plot([norm], [n], "o", color=colour)
    panel.set_ylim(len(norms) - 0.5, -0.6)
    panel.set_yticks([])
    panel.margins(x=0.1)
    panel.set_xlabel("norm of the weights' gradient")
    _title(panel, "Effect of clipping", f"● unclipped   ○ clipped to {clipnorm:g}")


def _draw_saturation(panel: Axes, layer: LayerDiagnosis) -> None:
    """Plot the fractions of steps at which each gate is below 0.1, between, and above 0.9."""
    bars = [(gate.name, gate.low.mean(), gate.high.mean()) for gate in layer.gates.values()]
    if layer.saturated is not None:
        bars.append(("candidate", 0.0, layer.saturated.mean()))
    if not bars:
        panel.set_axis_off()
        return
    _quiet(panel)
    for n, (_, low, high) in enumerate(bars):
        panel.barh(n, 1, color=UNSATURATED, height=0.6)
        panel.barh(n, low, color=LOW, height=0.6)
        panel.barh(n, high, left=1 - high, color=HIGH, height=0.6)
    panel.set_xlim(0, 1)
    panel.set_ylim(len(bars) - 0.5, -0.5)
    panel.set_yticks(range(len(bars)), labels=[name for name, *_ in bars])
    panel.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    panel.tick_params(axis="y", length=0)
    _title(panel, "Saturation", "share of the steps", "■ < 0.1", "■ > 0.9; |tanh| > 0.95")
    for text, colour in zip(panel.texts[1:], (LOW, HIGH), strict=True):
        text.set_color(colour)


def _title(panel: Axes, title: str, *parts: str) -> None:
    """Draw a title and, below it in smaller letters, a description."""
    panel.set_title(title, loc="left", fontweight="bold", fontsize=11, pad=20)
    for n, part in enumerate(parts):
        before = "" if n == 0 else "   ".join(parts[:n]) + "   "
        panel.annotate(
            part,
            (0, 1),
            xytext=(_width(before), 6),
            xycoords="axes fraction",
            textcoords="offset points",
            color=QUIET,
            fontsize=9,
        )


def _width(text: str) -> float:
    """The width in points, of letters of 9 points."""
    from matplotlib.textpath import TextPath

    return TextPath((0, 0), text + ".", size=9).get_extents().width - 2 if text else 0.0


def _quiet(panel: Axes) -> None:
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["left", "bottom"]].set_color("#AAAAAA")
    panel.tick_params(which="both", colors=QUIET, labelsize=9)
