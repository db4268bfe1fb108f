"""The points to measure, their order of importance, and how many of them fit into the time."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from benchmarks.measuring.cells import first_of_families
from kerasrnn import catalogue


class Contender(NamedTuple):
    about: str
    """What it is, for the report."""

    package: str
    """The package that must be installed; `keras` stands for the chosen backend."""

    compiling: float
    """Estimated seconds of a first call, in which it compiles."""


CONTENDERS = {
    "kerasrnn": Contender("the layer with its defaults", "keras", 8),
    "kerasrnn-loop": Contender(
        "its own time loop, compiled: jit_compile=True, and use_cudnn=False if the layer has it",
        "keras",
        8,
    ),
    "kerasrnn-sqrt": Contender('with checkpoint_every="sqrt"', "keras", 10),
    "keras": Contender("the built-in layer with its defaults", "keras", 4),
    "keras-rnn": Contender(
        "keras.layers.RNN with kerasrnn's cell, compiled: lax.scan on JAX, a loop under XLA on "
        "TensorFlow",
        "keras",
        12,
    ),
    "jax-rnn": Contender(
        "jax.experimental.rnn.lstm, cuDNN from JAX; it takes float32 only", "jax", 4
    ),
    "torch": Contender("torch.nn.LSTM or GRU, cuDNN from PyTorch", "torch", 1),
}

BUILT_IN = ("LSTM", "GRU")
"""The cells that cuDNN has."""

LINEAR = ("MinGRU", "RGLRU", "LRU")
"""Cells whose recurrence is linear in the state, computed by scans, and measured by length: a
small one, one with decays close to 1, and a complex one."""

OTHERS = tuple(entry.layer for entry in catalogue.CELLS if entry.layer not in (*BUILT_IN, *LINEAR))
RECIPE = "translate"
CELLS = (*BUILT_IN, *OTHERS, *LINEAR, RECIPE)

PARTS = {
    "large": "LSTM and GRU, which cuDNN has",
    "lengths": "a training step by sequence length",
    "peak": "peak memory of a training step",
    "cells": "the other cells, one of each family first",
    "recipe": f"a training step of the recipe {RECIPE}",
}


class Shape(NamedTuple):
    batch: int
    time: int
    features: int
    units: int

    def __str__(self) -> str:
        return "x".join(map(str, self))


MODES = ("training", "inference")
LARGE = Shape(16, 1024, 768, 768)
TIMES = (512, 2048, 8192, 65_536)
ROWS_TIMES_STEPS = 65_536  # the same amount of work, and of memory, at each length
WMT14 = Shape(128, 40, 512, 1024)  # as in docs/scale.md, for one device
SMALL = Shape(2, 6, 8, 16)  # where results are compared with the reference

# Published for an H100: milliseconds at 16 x 1024 x 768 in bfloat16, by cell and mode.
PUBLISHED = {
    ("LSTM", "inference"): {"cuDNN": 2.0, "FlashRNN": 4.9, "haste": 18.0, "PyTorch loop": 147.0},
    ("LSTM", "training"): {"cuDNN": 5.2, "FlashRNN": 13.6, "haste": 44.0, "PyTorch loop": 484.0},
}


@dataclass(frozen=True)
class Point:
    """One configuration, measured with each contender in turn."""

    part: str
    cell: str
    """The cell; in the part `recipe`, the recipe."""

    shape: Shape
    mode: str
    """`training` or `inference`."""

    contenders: tuple[str, ...]
    precision: str = "bfloat16"
    """Of computations: `bfloat16`, `float16` or `float32`."""

    def __str__(self) -> str:
        return f"{self.part}: {self.cell} {self.shape}, {self.mode} in {self.precision}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"shape": list(self.shape), "contenders": list(self.contenders)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Point":
        parsed = {"shape": Shape(*values["shape"]), "contenders": tuple(values["contenders"])}
        return cls(**(values | parsed))


def points(
    quick: bool = False,
    parts: Collection[str] = tuple(PARTS),
    cells: Collection[str] = CELLS,
    contenders: Collection[str] = tuple(CONTENDERS),
    backend: str = "tensorflow",
) -> list[Point]:
    """Select points by part, cell and contender, the most important first for the backend."""
    selected = []
    for point in _all(quick, backend):
        left = tuple(name for name in point.contenders if name in contenders)
        if point.part in parts and point.cell in cells and left:
            selected.append(replace(point, contenders=left))
    return selected


def _all(quick: bool, backend: str) -> Iterator[Point]:
    large = SMALL if quick else LARGE
    cudnn = ("keras", "torch")
    for cell in BUILT_IN:
        for mode in MODES:
            yield Point(
                "large", cell, large, mode, ("kerasrnn", "kerasrnn-loop", *cudnn, "keras-rnn")
            )
    # From TensorFlow, cuDNN takes float16 and float32, from JAX float32, from neither bfloat16.
    of_cudnn = ("float32", "float16") if backend == "jax" else ("float16", "float32")
    yield from _in_cudnn(large, of_cudnn[0])
    for cell in LINEAR:
        yield from _by_length(cell, ("kerasrnn", "keras-rnn"), quick)
    memory = ("kerasrnn", "kerasrnn-loop", "kerasrnn-sqrt", *cudnn)
    yield Point("peak", "LSTM", large, "training", memory)
    yield Point("recipe", RECIPE, SMALL if quick else WMT14, "training", ("kerasrnn",))
    first = first_of_families(OTHERS)
    for cell in first:
        yield Point("cells", cell, large, "training", ("kerasrnn", "keras-rnn"))
    yield from _in_cudnn(large, of_cudnn[1])
    yield from _by_length("LSTM", ("kerasrnn", *cudnn), quick, of_cudnn[0])
    for cell in first:
        # Inference is not compiled by default.
        yield Point("cells", cell, large, "inference", ("kerasrnn-loop", "keras-rnn"))
    yield Point("peak", "GRU", large, "training", memory)
    for cell in OTHERS:
        if cell not in first:
            yield Point("cells", cell, large, "training", ("kerasrnn", "keras-rnn"))


def _in_cudnn(shape: Shape, precision: str) -> Iterator[Point]:
    for cell in BUILT_IN:
        for mode in MODES:
            by_jax = ("jax-rnn",) if (cell, precision) == ("LSTM", "float32") else ()
            names = ("kerasrnn", "keras", "torch", *by_jax)
            yield Point("large", cell, shape, mode, names, precision)


def _by_length(
    cell: str, contenders: tuple[str, ...], quick: bool, precision: str = "bfloat16"
) -> Iterator[Point]:
    """The same number of steps in total at each length."""
    total, times, large = (8, (4, 8), SMALL) if quick else (ROWS_TIMES_STEPS, TIMES, LARGE)
    for time in times:
        shape = large._replace(batch=total // time, time=time)
        yield Point("lengths", cell, shape, "training", contenders, precision)


# The time.

STARTING = 8.0  # seconds in which a process starts and imports its packages
CHECKING = 0.35  # share of `compiling` for the check, which two points share
STEP = 1e-4  # seconds of a time step, forward and backward, in a loop of many small operations
WARM = 3  # calls of a contender before it is timed
COMPILING_RECIPE = 60.0  # with that of the check


def seconds(point: Point, rounds: int, share: float) -> float:
    """Estimate how long it takes to measure a point, cautiously.

    Args:
        point: the point.
        rounds: the number of rounds.
        share: seconds per turn of a contender.
    """
    total = 0.0
    for name in point.contenders:
        compiling = CONTENDERS[name].compiling
        if point.part == "recipe":
            total += STARTING + COMPILING_RECIPE + rounds * share
            continue
        total += compiling * (1 + CHECKING)
        fused = ("keras", "torch", "jax-rnn", *(("kerasrnn",) if point.cell in LINEAR else ()))
        looping = name not in fused
        once = STEP * point.shape.time if looping else 0.0
        if point.part == "peak":
            total += STARTING + WARM * once
        else:
            # A process is started once for about four points.
            total += STARTING / 4 + WARM * once + rounds * max(share, once)
    return total


def fitting(
    wanted: Sequence[Point], available: float, rounds: int, share: float, pace: float = 1.0
) -> list[Point]:
    """Select the most important points whose measurement fits into the available seconds.

    Args:
        wanted: points, the most important first. One that does not fit is left out, and those
            after it are tried.
        available: seconds.
        rounds: the number of rounds.
        share: seconds per turn of a contender.
        pace: measured seconds divided by estimated ones so far.
    """
    selected = []
    for point in wanted:
        cost = pace * seconds(point, rounds, share)
        if cost <= available:
            selected.append(point)
            available -= cost
    return selected
