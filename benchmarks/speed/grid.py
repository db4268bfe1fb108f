"""The points to measure, and the contenders at each."""

import os
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from benchmarks.measuring.cells import first_of_families
from kerasrnn import catalogue

CONTENDERS = {
    "kerasrnn": "the layer with its defaults",
    "kerasrnn-xla": "with jit_compile=True; only for inference, since training is always compiled",
    "kerasrnn-sqrt": 'with checkpoint_every="sqrt"',
    "kerasrnn-cached": "with the programs of an earlier process: see kerasrnn.cache_programs",
    "keras": "the built-in layer with its defaults",
    "keras-xla": "the same compiled with XLA, with use_cudnn=False if the layer has it",
    "keras-unrolled": "the same with unroll=True, up to 64 steps",
    "keras-rnn": "keras.layers.RNN with kerasrnn's cell",
    "keras-rnn-xla": "the same compiled with XLA",
    "flax": "flax.linen.RNN, with OptimizedLSTMCell, GRUCell or SimpleCell; only on JAX",
    "torch": "torch.nn.RNN, LSTM or GRU; packed sequences if masked",
    "floor": "only the matrix products that the computation needs, with torch.mm",
}
# On JAX everything is compiled by XLA, and the contenders without Keras are measured once.
OF_BACKEND = {
    "tensorflow": tuple(name for name in CONTENDERS if name != "flax"),
    "jax": ("kerasrnn", "kerasrnn-sqrt", "keras", "keras-unrolled", "keras-rnn", "flax"),
}

CACHED = "kerasrnn-cached"
KERAS = ("keras", "keras-xla", "keras-unrolled")
KERAS_RNN = ("keras-rnn", "keras-rnn-xla")

BUILT_IN = tuple(entry.layer for entry in catalogue.CELLS if entry.in_keras)
OTHERS = tuple(entry.layer for entry in catalogue.CELLS if not entry.in_keras)
PICTURES = {entry.layers[1]: entry.in_keras for entry in catalogue.CONVOLUTIONAL}
"""The convolutional layers with two spatial axes, and whether Keras has them."""

CELLS = BUILT_IN + OTHERS + tuple(PICTURES)
# One of each kind is measured on long sequences, too: all of them would take half an hour.
ON_LONG = first_of_families(OTHERS)
LINEAR = tuple(
    entry.layer
    for family in catalogue.FAMILIES
    if family.name == "Linear recurrences"
    for entry in family.cells
)

PARTS = {
    "grid": "the built-in cells, training and inference, unmasked and masked",
    "lengths": "fit and predict on batches of random lengths, for which steps are unknown",
    "cells": "a training step of the cells that Keras lacks; on long sequences, one per family",
    "linear": "a training step of the linear recurrences, and of LSTM",
    "pictures": "a training step of convolutional layers, with kernels of 3x3",
    "eager": "the layer called eagerly",
    "memory": "peak memory of a training step",
    "compile": "the first call of a training step, in a fresh process",
    "start": "fit of a small model, from the call to the end of its only step, in a fresh process",
    "growth": "a training step by sequence length",
}


def backend() -> str:
    """Keras's backend in all processes of this benchmark: that of `KERAS_BACKEND`.

    Raises:
        ValueError: the backend is not measured.
    """
    name = os.environ.get("KERAS_BACKEND", "tensorflow")
    if name not in OF_BACKEND:
        raise ValueError(f"KERAS_BACKEND={name}: expected one of {', '.join(OF_BACKEND)}")
    return name


class Shape(NamedTuple):
    batch: int
    time: int
    features: int
    units: int

    def __str__(self) -> str:
        return "x".join(map(str, self))


SHORT = Shape(32, 50, 64, 128)
LARGE = Shape(64, 100, 256, 256)
LONG = Shape(32, 400, 32, 128)
SHAPES = (SHORT, LARGE, LONG, Shape(1, 100, 128, 256), Shape(16, 2000, 32, 64))
SMALL = Shape(16, 100, 32, 64)
FEW = 4  # time steps, with negligible memory
TIMES = (100, 300, 1000, 3000, 10000)
ALONE = Shape(1, 1024, 128, 256)

# Batches of random lengths: the shape of the longest, and the length of the shortest.
BATCHES = 12
LENGTHS = (
    (Shape(32, 400, 32, 128), 60),
    (Shape(64, 100, 128, 256), 40),
    (Shape(1, 200, 64, 128), 40),
)

# Pictures of so many rows and columns, with so many channels as there are features.
SIZED = ((32, Shape(4, 10, 16, 32)), (16, Shape(8, 20, 8, 16)))

QUICK_SHAPES = (Shape(4, 12, 8, 16),)
QUICK_SIZED = ((4, Shape(4, 3, 2, 2)),)
QUICK_TIMES = (10, 20, 40)


@dataclass(frozen=True)
class Point:
    """One configuration, measured with each contender in turn."""

    part: str
    cell: str
    shape: Shape
    mode: str
    """`training`, `inference`, or `eager`: inference outside `tf.function`."""

    contenders: tuple[str, ...]
    masked: bool = False
    shortest: int | None = None
    """The fewest steps of a batch; None if all batches have the steps of the shape."""

    size: int | None = None
    """The rows and columns of pictures; None: the inputs are vectors."""

    @property
    def image(self) -> tuple[int, ...]:
        """The axes of an input between time and features."""
        return () if self.size is None else (self.size, self.size)

    def __str__(self) -> str:
        mask = " masked" if self.masked else ""
        lengths = "" if self.shortest is None else f" from {self.shortest} steps"
        pictures = "" if self.size is None else f" of {self.size}x{self.size}"
        return f"{self.part}: {self.cell} {self.shape}{pictures}{mask}{lengths}, {self.mode}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"shape": list(self.shape), "contenders": list(self.contenders)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Point":
        parsed = {"shape": Shape(*values["shape"]), "contenders": tuple(values["contenders"])}
        return cls(**(values | parsed))


def shapes(quick: bool) -> tuple[Shape, ...]:
    """The shapes of the grid."""
    return QUICK_SHAPES if quick else SHAPES


def points(
    quick: bool = False,
    parts: Collection[str] = tuple(PARTS),
    cells: Collection[str] = CELLS,
    grid: Collection[Shape] | None = None,
    contenders: Collection[str] = OF_BACKEND["tensorflow"],
) -> list[Point]:
    """Select points by part, cell, grid shape and contender."""
    selected = []
    for point in _all(quick):
        left = tuple(name for name in point.contenders if name in contenders)
        wanted = point.part in parts and point.cell in cells and left
        if wanted and (point.part != "grid" or grid is None or point.shape in grid):
            selected.append(replace(point, contenders=left))
    return selected


def _all(quick: bool) -> Iterator[Point]:
    some = shapes(quick)
    for cell in BUILT_IN:
        for shape in some:
            keras = KERAS if shape.time <= 64 else KERAS[:2]
            for mode in ("training", "inference"):
                own = ("kerasrnn",) if mode == "training" else ("kerasrnn", "kerasrnn-xla")
                for masked in (False, True):
                    yield Point(
                        "grid", cell, shape, mode, (*own, *keras, "flax", "torch", "floor"), masked
                    )
    for cell in BUILT_IN[1:]:
        for shape, shortest in [(QUICK_SHAPES[0], 5)] if quick else LENGTHS:
            for mode in ("training", "inference"):
                names = ("kerasrnn", "keras", "torch")
                yield Point("lengths", cell, shape, mode, names, shortest=shortest)
    for cell in OTHERS:
        for shape in some if quick else (SHORT, LONG)[: 2 if cell in ON_LONG else 1]:
            yield Point("cells", cell, shape, "training", ("kerasrnn", *KERAS_RNN))
    for shape in some if quick else (SHAPES[-1], ALONE):
        for cell in ("LSTM", *LINEAR):
            yield Point("linear", cell, shape, "training", ("kerasrnn",))
    for time in QUICK_TIMES if quick else TIMES[::4]:
        shape = some[-1]._replace(time=time)
        yield Point("linear", LINEAR[0], shape, "training", ("kerasrnn",))
    for cell, in_keras in PICTURES.items():
        for size, shape in QUICK_SIZED if quick else SIZED:
            names = ("kerasrnn", "keras" if in_keras else "keras-rnn")
            yield Point("pictures", cell, shape, "training", names, size=size)
    for cell in BUILT_IN:
        yield Point("eager", cell, some[0], "eager", ("kerasrnn", "keras"))
    shape, times = some[-1], QUICK_TIMES if quick else TIMES
    of_memory = ("kerasrnn", "kerasrnn-sqrt", "keras", "keras-xla", "torch")
    yield Point("memory", "LSTM", shape, "training", of_memory)
    yield Point("memory", LINEAR[0], shape, "training", ("kerasrnn",))
    for time, names in (
        (times[0], ("kerasrnn", "keras", "keras-xla")),
        (times[len(times) // 2], ("keras-xla",)),  # compiling it for longer sequences is slow
        (times[-1], ("kerasrnn", "keras")),
    ):
        yield Point("compile", "LSTM", shape._replace(time=time), "training", names)
    of_start = ("kerasrnn", "kerasrnn-cached", "keras")
    yield Point("start", "LSTM", some[0] if quick else SMALL, "training", of_start)
    for time in times:
        names = ("kerasrnn", "kerasrnn-sqrt", "keras", "torch")
        yield Point("growth", "LSTM", shape._replace(time=time), "training", names)
