"""The rows of the conformance tests: every cell of `kerasrnn.catalogue`, with its oracle."""

import importlib
import inspect
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import keras

import kerasrnn
from kerasrnn import catalogue
from tests.measure import FIRST_BACKEND, passing_masks

ACTIVATIONS = ("activation", "recurrent_activation")


@dataclass(frozen=True)
class Row:
    """One cell, its layer and its independent twins."""

    cell: type[kerasrnn.Cell]
    layer: type[kerasrnn.RNN]
    oracle: ModuleType
    """The module of `tests.oracles` with the same name as the cell's module."""
    keras_layer: type[keras.layers.RNN] | None = None
    """The built-in layer, if there is one."""
    keras_cell: type[keras.layers.Layer] | None = None

    @property
    def name(self) -> str:
        return self.layer.__name__

    @property
    def module(self) -> str:
        """The name that the zoo accepts."""
        return self.cell.__module__.rpartition(".")[2]

    @property
    def variants(self) -> tuple[dict[str, Any], ...]:
        """Options that change the cell's mathematics."""
        return getattr(self.oracle, "VARIANTS", ({}, {"use_bias": False}))

    @property
    def steady(self) -> dict[str, Any]:
        """Options under which rounding errors stay small, in gradients too: for half precision."""
        return getattr(self.oracle, "STEADY", {})

    @property
    def oracle_options(self) -> tuple[str, ...]:
        """Constructor arguments that the oracle takes by the same name, besides activations."""
        parameters = inspect.signature(self.oracle.step).parameters.values()
        names = (p.name for p in parameters if p.kind is p.KEYWORD_ONLY)
        return tuple(name for name in names if name not in (*ACTIVATIONS, "training"))

    def of_mode(self, training: bool) -> dict[str, bool]:
        """The oracle's argument `training`, if the cell computes something else in training."""
        parameters = inspect.signature(self.oracle.step).parameters
        return {"training": training} if "training" in parameters else {}

    def with_arguments(self, **options: Any) -> dict[str, Any]:
        """Those of the options that are arguments of the cell."""
        return {name: value for name, value in options.items() if name in self.cell.arguments()}

    def twin(self, units: int, **options: Any) -> keras.layers.RNN:
        """The same layer in Keras's loop: the built-in one, or Keras's RNN with our cell.

        If there is no built-in layer, the step is our own, which is compared with the oracle.
        """
        if self.keras_layer is not None:
            return passing_masks(self.keras_layer(units, **options))
        of_cell = {*self.cell.arguments(), "implementation"} & set(options)
        cell = self.cell(
            units, dtype=options.get("dtype"), **{name: options.pop(name) for name in of_cell}
        )
        return passing_masks(keras.layers.RNN(cell, **options))


def _row(entry: catalogue.Entry) -> Row:
    return Row(
        getattr(kerasrnn, entry.cell),
        getattr(kerasrnn, entry.layer),
        importlib.import_module(f"tests.oracles.{entry.module}"),
        *(getattr(keras.layers, name, None) for name in (entry.layer, entry.cell)),
    )


ROWS = tuple(_row(entry) for entry in catalogue.CELLS)
BY_NAME = {row.name: row for row in ROWS}
BUILT_IN = [row for row in ROWS if row.keras_layer is not None]
# The options of the time loop are tested on these: a manual gradient; an automatic one, with
# weights used in the step; a product inside the step; an elementwise recurrent product.
PROBES = [BY_NAME[name] for name in ("LSTM", "PeepholeLSTM", "GRU", "IndRNN")]
# What follows from a cell's declarations is tested on the first backend; others compile each call.
ROWS_OR_PROBES = ROWS if FIRST_BACKEND else PROBES
# The two ways of differentiating a step.
MANUAL_AND_AUTOMATIC = PROBES[:2]
VARIANTS = [
    (row, variant)
    for row in ROWS
    for variant in row.variants
    if FIRST_BACKEND or variant in (row.variants[0], {"reset_after": False})
]
# Tests of models with many cells take a few at a time: graphs, and what converts them, take more
# than twice as long for twice as many.
PARTS = [ROWS[n : n + 8] for n in range(0, len(ROWS), 8)]


def part_id(part: tuple[Row, ...]) -> str:
    """So that `-k` finds the test by the name of a cell."""
    return "-".join(row.name for row in part)


@dataclass(frozen=True)
class ImageRow:
    """A convolutional cell of one rank, its layer and its independent twins."""

    cell: type[kerasrnn.ConvolutionalCell]
    layer: type[kerasrnn.RNN]
    oracle: ModuleType
    """The module of `tests.oracles` with the same name as the cell's module."""
    keras_layer: type[keras.layers.RNN] | None = None

    @property
    def name(self) -> str:
        return self.layer.__name__

    @property
    def image(self) -> tuple[int, ...]:
        """The shape of a small image, with two channels."""
        return (*{1: (5,), 2: (5, 4), 3: (3, 2, 2)}[self.cell.rank], 2)

    def arguments(self, **options: Any) -> dict[str, Any]:
        """Arguments of the constructor, with which the images keep their sizes by default."""
        kernel_size = 3 if self.cell.rank < 3 else 2
        return {"filters": 2, "kernel_size": kernel_size, "padding": "same", **options}

    @property
    def oracle_options(self) -> tuple[str, ...]:
        """Constructor arguments that the oracle takes by the same name, besides activations."""
        parameters = inspect.signature(self.oracle.step).parameters.values()
        names = (p.name for p in parameters if p.kind is p.KEYWORD_ONLY)
        return tuple(name for name in names if name not in ACTIVATIONS)


def _image_rows(entry: catalogue.ConvolutionalEntry) -> list[ImageRow]:
    return [
        ImageRow(
            getattr(kerasrnn, cell),
            getattr(kerasrnn, layer),
            importlib.import_module(f"tests.oracles.{entry.module}"),
            getattr(keras.layers, layer, None),
        )
        for layer, cell in zip(entry.layers, entry.cells, strict=True)
    ]


IMAGE_ROWS = tuple(row for entry in catalogue.CONVOLUTIONAL for row in _image_rows(entry))
IMAGES_IN_KERAS = [row for row in IMAGE_ROWS if row.keras_layer is not None]
# Those of rank 2, on which options are tested.
OF_PICTURES = [row for row in IMAGE_ROWS if row.cell.rank == 2]


def variant_id(value: Any) -> str | None:
    """Name parametrized tests after rows and variants; functions get pytest's names."""
    if isinstance(value, (Row, ImageRow)):
        return value.name
    if isinstance(value, dict):
        return ",".join(f"{key}={item}" for key, item in value.items()) or "default"
    # The text of a function contains its address, which differs between processes.
    return None if callable(value) else str(value)
