"""The results of a measurement of one layer."""

from dataclasses import dataclass

import numpy as np

# Karpathy, Johnson & Li (2016): a gate is saturated below LOW or above HIGH.
LOW, HIGH = 0.1, 0.9
# The threshold for a tanh unit, in absolute value.
SATURATED = 0.95


@dataclass(frozen=True, eq=False)
class StateDiagnosis:
    """The gradient flow through one state of a layer."""

    name: str
    """h or c."""

    gradient_norms: np.ndarray
    """Mean over the rows of the batch of the L2 norm of dL/ds_t: at index d, d valid steps before
    the last; if the axis is "step", at index n, for the n-th step in the layer's order."""

    memory: float
    """The largest distance in steps at which the norm is 1/e of that at distance 0, interpolated
    logarithmically; infinite if it never falls that low, NaN if the axis is "step"."""

    carry: np.ndarray | None
    """Mean over the valid steps of ds_t/ds_{t-1} of each unit, along the path without a product or
    an activation: LSTM's forget gate, GRU's update gate. None without such a path."""

    @property
    def time_constants(self) -> np.ndarray | None:
        """-1 / log(carry) for each unit: the steps after which 1/e of its state is left."""
        if self.carry is None:
            return None
        with np.errstate(divide="ignore"):
            return np.where(self.carry >= 1, np.inf, -1 / np.log(np.clip(self.carry, 0, 1)))


@dataclass(frozen=True, eq=False)
class GateDiagnosis:
    """The saturation of a gate, for each unit, `(units,)`."""

    name: str
    low: np.ndarray
    """Fraction of the valid steps at which the gate is below 0.1: left-saturated."""

    high: np.ndarray
    """Fraction of the valid steps at which the gate is above 0.9: right-saturated."""

    mean: np.ndarray


@dataclass(frozen=True)
class KernelDiagnosis:
    """One gate's block of the recurrent kernel, `(units, units)`."""

    gate: str
    spectral_radius: float
    largest_singular_value: float


@dataclass(frozen=True, eq=False)
class LayerDiagnosis:
    """One recurrent layer; a layer that is called twice appears twice, the second as `name:2`."""

    name: str
    cell: str
    """The class of its cell."""

    states: dict[str, StateDiagnosis]
    gates: dict[str, GateDiagnosis]
    kernels: dict[str, KernelDiagnosis]
    saturated: np.ndarray | None
    """For a cell whose `activation` is tanh: the fraction of the valid steps at which the candidate
    (`SimpleRNN`'s h) of each unit is above 0.95 in absolute value, `(units,)`."""

    @property
    def memory(self) -> float:
        """The longest memory of its states."""
        return max(state.memory for state in self.states.values())


def format_memory(memory: float, length: int) -> str:
    """Format a memory, measured on a curve with this number of norms."""
    if np.isnan(memory):
        return ""
    return f"> {length - 1}" if np.isinf(memory) else f"{memory:.3g}"


def memory_length(norms: np.ndarray) -> float:
    """The largest distance at which a curve of norms is 1/e of its first value.

    The logarithm is interpolated between distances, so the memory of a gradient that falls by the
    factor f per step is -1 / log(f).
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


def states_table(layer: LayerDiagnosis, axis: str) -> list[list[str]]:
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


def gates_table(layer: LayerDiagnosis) -> list[list[str]]:
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
