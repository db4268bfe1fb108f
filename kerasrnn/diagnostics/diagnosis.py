"""What a measurement found."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kerasrnn.diagnostics import pictures
from kerasrnn.diagnostics.tables import indented

# Karpathy, Johnson & Li (2016): a gate is saturated below the one or above the other.
LOW, HIGH = 0.1, 0.9
# Of a tanh unit, by its absolute value.
SATURATED = 0.95


@dataclass(frozen=True, eq=False)
class StateDiagnosis:
    """How the gradient of one state of a layer flows."""

    name: str
    """h or c."""

    gradient_norms: np.ndarray
    """Mean over the rows of the batch of the L2 norm of dL/ds_t: at index d, d used steps before
    the last; where the axis is "step", at index n, of the n-th step that the layer reads."""

    memory: float
    """How many steps back the norm last is 1/e of what it is at distance 0, by interpolation of its
    logarithm; infinite where it never falls so far, NaN where the axis is "step"."""

    carry: np.ndarray | None
    """Mean over the used steps of ds_t/ds_{t-1} of each unit along the path on which there is
    neither a product nor an activation: LSTM's forget gate, GRU's update gate. None without one."""

    @property
    def time_constants(self) -> np.ndarray | None:
        """-1 / log(carry) of each unit: the steps after which 1/e of its state is left."""
        if self.carry is None:
            return None
        with np.errstate(divide="ignore"):
            return np.where(self.carry >= 1, np.inf, -1 / np.log(np.clip(self.carry, 0, 1)))


@dataclass(frozen=True, eq=False)
class GateDiagnosis:
    """Where a gate spends its time, for each unit, `(units,)`."""

    name: str
    low: np.ndarray
    """Fraction of the used steps at which it is below 0.1: left-saturated."""

    high: np.ndarray
    """Fraction of the used steps at which it is above 0.9: right-saturated."""

    mean: np.ndarray


@dataclass(frozen=True)
class KernelDiagnosis:
    """One gate's block of the recurrent kernel, `(units, units)`."""

    gate: str
    spectral_radius: float
    largest_singular_value: float


@dataclass(frozen=True, eq=False)
class LayerDiagnosis:
    """One recurrent layer; a layer that is called twice has two, the second named `name:2`."""

    name: str
    cell: str
    """The class of its cell."""

    states: dict[str, StateDiagnosis]
    gates: dict[str, GateDiagnosis]
    kernels: dict[str, KernelDiagnosis]
    saturated: np.ndarray | None
    """Of a cell whose `activation` is tanh: the fraction of the used steps at which each unit's
    candidate (`SimpleRNN`'s h) is above 0.95 in absolute value, `(units,)`."""

    @property
    def memory(self) -> float:
        """That of the state which remembers longest."""
        return max(state.memory for state in self.states.values())


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What `diagnose` found out about a model on a batch."""

    model: str
    loss: float
    weight_gradient_norm: float
    """Global norm of the loss's gradient with respect to the trainable weights."""

    axis: Literal["distance", "step"]
    """What the gradients' norms are by."""

    layers: dict[str, LayerDiagnosis]
    """In the order in which the model calls them."""

    def summary(self) -> str:
        """A table of everything, as text."""
        lines = [
            f"{self.model}: loss {self.loss:.4g}, norm of the weights' gradient "
            f"{self.weight_gradient_norm:.3g}"
        ]
        for layer in self.layers.values():
            lines += ["", f"{layer.name} ({layer.cell})"]
            lines += indented(_states_table(layer, self.axis))
            if layer.gates or layer.kernels:
                lines += indented(_gates_table(layer))
            if layer.saturated is not None:
                lines.append(f"  |candidate| > {SATURATED}: {layer.saturated.mean():.2f}")
        return "\n".join(lines)

    def figure(self) -> Any:
        """A `matplotlib.figure.Figure`: for each layer its gradients, and its gates.

        Raises:
            ImportError: matplotlib is not installed; it comes with the extra `recipes`.
        """
        return pictures.layers(self)

    def draw(self, path: str | Path) -> None:
        """Write `figure()` to a file, whose suffix says its format.

        Raises:
            ImportError: matplotlib is not installed; it comes with the extra `recipes`.
        """
        pictures.save(self.figure(), path)


def format_memory(memory: float, length: int) -> str:
    """As text, of a curve of so many norms."""
    if np.isnan(memory):
        return ""
    return f"> {length - 1}" if np.isinf(memory) else f"{memory:.3g}"


def memory_length(norms: np.ndarray) -> float:
    """How far back a curve of norms by distance last is 1/e of its first value.

    Between two distances the logarithm is interpolated, so that of a gradient that falls by the
    factor f a step it is -1 / log(f).
    """
    if np.isnan(norms).any() or not norms[0] > 0:
        return float("nan")
    level = norms[0] / np.e
    last = int(np.flatnonzero(norms >= level)[-1])
    if last == len(norms) - 1:
        return float("inf")
    if not np.isfinite(norms[last]) or norms[last + 1] == 0:
        return float(last)
    here, there = np.log(norms[last : last + 2])
    return last + float((here - np.log(level)) / (here - there))


def _states_table(layer: LayerDiagnosis, axis: str) -> list[list[str]]:
    length = max(len(state.gradient_norms) for state in layer.states.values())
    first = 1 if axis == "step" else 0
    at = sorted({0, length // 2, length - 1})
    header = ["state", *(f"{axis} {n + first}" for n in at), "memory", "time constant"]
    table = [header]
    for state in layer.states.values():
        constants = state.time_constants
        table.append(
            [
                state.name,
                *(f"{state.gradient_norms[n]:.2e}" for n in at),
                format_memory(state.memory, length),
                "" if constants is None else f"{np.median(constants):.3g}",
            ]
        )
    return table


def _gates_table(layer: LayerDiagnosis) -> list[list[str]]:
    table = [["gate", "mean", f"< {LOW}", f"> {HIGH}", "spectral radius", "singular value"]]
    for name in dict.fromkeys([*layer.kernels, *layer.gates]):
        gate, kernel = layer.gates.get(name), layer.kernels.get(name)
        values = [None] * 3 if gate is None else [gate.mean, gate.low, gate.high]
        row = [name, *("" if v is None else f"{v.mean():.2f}" for v in values)]
        if kernel is None:
            row += ["", ""]
        else:
            row += [f"{kernel.spectral_radius:.3g}", f"{kernel.largest_singular_value:.3g}"]
        table.append(row)
    return table
