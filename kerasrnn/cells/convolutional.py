"""The base class of convolutional recurrent cells, and how a cell gets a class for each rank."""

import types
from collections.abc import Sequence
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.cells.arguments import REMOVED, REQUIRED
from kerasrnn.cells.cell import Cell
from kerasrnn.cells.declaration import Wording
from kerasrnn.cells.layer import Recurrent
from kerasrnn.recurrence.convolutions import ConvolutionProduct, convolved_input_part
from kerasrnn.recurrence.loop import Weights

Tensor = Any

AXES = {1: ("steps",), 2: ("rows", "cols"), 3: ("depth", "rows", "cols")}
"""Names of the spatial axes, by rank."""


def _wording(rank: int) -> Wording:
    return Wording(
        inputs=f"{', '.join(AXES[rank])}, channels",
        outputs=f"{', '.join(f'new_{axis}' for axis in AXES[rank])}, filters",
        arguments="4, kernel_size=3",
        input_shape=(*(6 for _ in range(rank)), 3),
        output_shape=(*(4 for _ in range(rank)), 4),
        built=True,
    )


class ConvolutionalCell(Cell):
    """The base class of cells with convolutions in place of matrix products.

    A subclass declares its `rank`, the number of spatial axes, and its equations as any `Cell`
    does. The columns of a cell's kernels, its gates, are here the channels of kernels of
    convolutions, written `*`:

        a_t = W * x_t + b                        input part
        r_t = U * h_{t-1}                        recurrent part
        y_t, s_t = update(a_t, r_t, s_{t-1})     pointwise

    The input part is one convolution for all steps, with `strides`, `padding` and `dilation_rate`.
    The recurrent part has strides of 1, and zeros around h: the states keep the sizes of the input
    part. Inside `update` and `step`, the channels are the last axis for each `data_format`.

    Weights: `kernel` W `(*kernel_size, channels, gates * filters)`, `recurrent_kernel` U
    `(*kernel_size, filters, gates * filters)`, `bias` b `(gates * filters,)`.

    Args:
        dropout: fraction of the inputs to drop in training, in [0, 1); one mask per gate and
            sequence.

    Call arguments:
        inputs: `(batch, *sizes, channels)`.
        states: the previous states, each `(batch, *new_sizes, filters)`: a list, or a single tensor
            if there is only one.
        training: whether dropout is applied.

    Returns:
        `(output, new_states)`; the states have the same structure as the input.

    Raises:
        ValueError: an argument is out of its range; the sizes of the images are unknown, or smaller
            than the kernel with padding="valid"; a state is missing.
        TypeError: an argument of the constructor is unknown, or a required one is missing.

    Example: a leaky convolutional unit.

        >>> import numpy as np, kerasrnn
        >>> class LeakyCell(kerasrnn.ConvolutionalCell):
        ...     rank = 2
        ...
        ...     def update(self, a, r, states, weights):
        ...         h = 0.9 * states[0] + 0.1 * self.activation(a + r)
        ...         return h, [h]
        >>> layer = kerasrnn.RNN(LeakyCell(4, kernel_size=3, padding="same"))
        >>> tuple(layer(np.ones((2, 7, 6, 5, 3), "float32")).shape)
        (2, 6, 5, 4)
    """

    own_arguments: ClassVar[dict[str, Any]] = {
        "units": REMOVED,
        "filters": REQUIRED,
        "kernel_size": REQUIRED,
        "strides": 1,
        "padding": "valid",
        "data_format": None,
        "dilation_rate": 1,
        "dropout": 0.0,
        "recurrent_parametrization": REMOVED,
    }
    rank: ClassVar[int] = 2
    wording = _wording(2)
    product_class = ConvolutionProduct
    xla_pays_off = False
    # As in Keras: one dropout mask of the inputs for each gate; its seed is drawn first.
    default_implementation = 1
    draws_seed_first = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        cls.wording = _wording(cls.rank)
        super().__init_subclass__(**kwargs)

    def __post_init__(self) -> None:
        for name in ("kernel_size", "strides", "dilation_rate"):
            setattr(self, name, _sizes(name, getattr(self, name), self.rank))
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(
                f"strides={self.strides}, dilation_rate={self.dilation_rate}: expected 1 for one "
                "of them."
            )
        self.padding = validation.one_of("padding", self.padding.lower(), ("valid", "same"))
        data_format = self.data_format or keras.config.image_data_format()
        formats = ("channels_last", "channels_first")
        self.data_format = validation.one_of("data_format", data_format, formats)

    @property
    def feature_axes(self) -> int:
        return self.rank + 1

    @property
    def units(self) -> int:
        """The width of a gate's block, under the name that all cells share."""
        return self.filters

    # Shapes: those of images are in the order of the data format.

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        return self._image(getattr(self, "new_sizes", (None,) * self.rank))

    @property
    def state_shapes(self) -> list[Any]:
        return [self.output_shape for _ in self.state_names]

    @property
    def step_output_shape(self) -> tuple[int | None, ...]:
        return (*self.new_sizes, self.filters)

    def shapes_of(self, input_shape: Sequence[int | None]) -> tuple[Any, list[Any]]:
        output = self._image(self._new_sizes(input_shape))
        return output, [output for _ in self.state_names]

    def kernel_shape(self, features: int) -> tuple[int, ...]:
        return (*self.kernel_size, *super().kernel_shape(features))

    @property
    def recurrent_kernel_shape(self) -> tuple[int, ...]:
        return (*self.kernel_size, *super().recurrent_kernel_shape)

    def build(self, input_shape: Sequence[int | None]) -> None:
        self.new_sizes = self._new_sizes(input_shape[1:])
        super().build(input_shape)

    def _features(self, input_shape: Sequence[int | None]) -> int:
        if None in input_shape[1:]:
            raise ValueError(
                f"input_shape={tuple(input_shape)}: the sizes and the channels of the images must "
                "be known."
            )
        self.input_spec = keras.layers.InputSpec(
            ndim=len(input_shape), axes=dict(enumerate(input_shape[1:], start=1))
        )
        return input_shape[1] if self.channels_first else input_shape[-1]

    def _new_sizes(self, image: Sequence[int | None]) -> tuple[int | None, ...]:
        """The sizes of the input part, from the shape of an image."""
        sizes = image[1:] if self.channels_first else image[:-1]
        new_sizes = []
        for size, kernel, stride, dilation in zip(
            sizes, self.kernel_size, self.strides, self.dilation_rate, strict=True
        ):
            covered = 1 if self.padding == "same" else (kernel - 1) * dilation + 1
            if size is not None and size < covered:
                raise ValueError(
                    f"{self.name}: images of {tuple(sizes)} are smaller than the kernel; expected "
                    f"at least {covered}, or padding='same'."
                )
            new_sizes.append(None if size is None else (size - covered) // stride + 1)
        return tuple(new_sizes)

    def _image(self, sizes: Sequence[int | None]) -> tuple[int | None, ...]:
        return (self.filters, *sizes) if self.channels_first else (*sizes, self.filters)

    @property
    def channels_first(self) -> bool:
        """Whether the channels precede the spatial axes in inputs, outputs and states."""
        return self.data_format == "channels_first"

    # Convolutions.

    def input_part(self, x: Tensor, weights: Weights) -> Tensor:
        masks = weights.noise.get("inputs")
        return convolved_input_part(
            self.into_step(x),
            weights["kernel"],
            self._biases(weights)[0],
            None if masks is None else [self.into_step(mask) for mask in masks],
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
        )

    def into_step(self, state: Tensor) -> Tensor:
        return ops.moveaxis(state, -self.feature_axes, -1) if self.channels_first else state

    def out_of_step(self, x: Tensor) -> Tensor:
        return ops.moveaxis(x, -1, -self.feature_axes) if self.channels_first else x


def _sizes(name: str, value: Any, rank: int) -> tuple[int, ...]:
    """A positive integer for each spatial axis, from one for all of them or a sequence."""
    try:
        sizes = validation.sizes(name, (value,) * rank if np.ndim(value) == 0 else value)
    except ValueError:  # also of NumPy, for a list of lists of different lengths
        sizes = ()
    if len(sizes) != rank:
        expected = "a positive integer" if rank == 1 else f"a positive integer, or {rank} of them"
        raise validation.ArgumentError(name, value, expected)
    return sizes


# A class for each rank.


def of_each_rank(cell: type[ConvolutionalCell]) -> tuple[type[ConvolutionalCell], ...]:
    """The classes of a cell, with one, two and three spatial axes.

    Args:
        cell: a class named `_XCell`; the new ones are `X1DCell`, `X2DCell` and `X3DCell`. In its
            docstring, {rank} stands for the rank.
    """
    base = cell.__name__.strip("_").removesuffix("Cell")
    doc, _, _ = (cell.__doc__ or "").partition("\n\nArgs:\n")  # without what was derived for it
    return tuple(
        _made(f"{base}{rank}DCell", cell, {"rank": rank, "__doc__": _with(doc, rank)})
        for rank in AXES
    )


def layers_of(
    cells: Sequence[type[ConvolutionalCell]], doc: str, **options: Any
) -> tuple[type[Recurrent], ...]:
    """The layers of the cells of each rank.

    Args:
        cells: the result of `of_each_rank`.
        doc: the first line of their docstrings, in which {rank} stands for the rank.
        **options: further options of `Recurrent`, such as `after_loop`.
    """
    return tuple(
        _made(
            cell.__name__.removesuffix("Cell"),
            Recurrent,
            {"__doc__": _with(doc, cell.rank), "__module__": cell.__module__},
            cell_class=cell,
            **options,
        )
        for cell in cells
    )


def _made(name: str, base: type, namespace: dict[str, Any], **options: Any) -> type:
    """A registered class, as a class statement in the module of its base makes it."""
    namespace = {"__module__": base.__module__, "__qualname__": name, **namespace}
    made = types.new_class(name, (base,), options, lambda body: body.update(namespace))
    return keras.saving.register_keras_serializable(package="kerasrnn")(made)


def _with(doc: str, rank: int) -> str:
    return doc.replace("{rank}", str(rank))
