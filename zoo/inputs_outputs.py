"""Inputs and outputs of the zoo's models, shared by all topologies.

Inputs are `Vectors`, `Tokens`, `Images` or `Labels`; outputs are `Classes`, `MultiLabel` or
`Values`. The topology determines whether an input or output is a single one or a sequence.

>>> from kerasrnn import zoo
>>> model = zoo.many_to_one(zoo.Tokens(1000, 16), zoo.Classes(3), cell="gru", units=8)
>>> model.output_shape
(None, 3)
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, ClassVar

import keras
import numpy as np

import kerasrnn
from kerasrnn import validation
from kerasrnn.validation import PositiveInteger, Rate
from kerasrnn.wording import counted

Tensor = Any


@validation.checked
@dataclass(frozen=True)
class Vectors:
    """Vectors of measurements: a frame of speech, the weather of a day, a row of an image.

    Args:
        features: number of features of a vector.
        mean: mean of each feature over the training data, or one number for all; default 0.
        std: standard deviation of each feature over the training data, or one number for all;
            default 1.
        padding: in a sequence, a step whose features all have this value is padding; None if no
            value can be reserved for padding.

    Raises:
        ValueError: an argument is out of range.
    """

    features: PositiveInteger
    mean: float | Sequence[float] | None = None
    std: float | Sequence[float] | None = None
    padding: float | None = 0.0

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            value = getattr(self, name)
            if value is None:
                continue
            numbers = [value] * self.features if isinstance(value, Real) else value
            if not isinstance(numbers, (Sequence, np.ndarray)) or isinstance(numbers, str):
                raise ValueError(
                    f"{name}={value!r}: expected a number, or one for each of the {self.features} "
                    "features."
                )
            if len(numbers) != self.features:
                raise ValueError(
                    f"{name} has {counted(len(numbers), 'number')}; expected one, or one for each "
                    f"of the {counted(self.features, 'feature')}."
                )
            above = 0 if name == "std" else None
            numbers = tuple(validation.number(name, number, above=above) for number in numbers)
            object.__setattr__(self, name, numbers)

    def input(self, name: str, steps: bool, batch_size: int | None = None) -> Tensor:
        """The model's input: `(batch, features)`, or `(batch, time, features)` with `steps`."""
        shape = (None, self.features) if steps else (self.features,)
        return keras.Input(shape, batch_size=batch_size, name=name)

    def encode(self, x: Tensor, steps: bool) -> Tensor:
        """`(x - mean) / std`, with the padding mask."""
        if steps and self.padding is not None:
            x = keras.layers.Masking(self.padding, name="padding")(x)
        if self.mean is None and self.std is None:
            return x
        scale = [1 / d for d in self.std or [1.0] * self.features]
        offset = [-m * s for m, s in zip(self.mean or [0.0] * self.features, scale, strict=True)]
        return keras.layers.Rescaling(scale, offset, name="standardize")(x)


@validation.checked
@dataclass(frozen=True)
class Tokens:
    """Sequences of ids: words, characters, notes.

    Args:
        vocabulary: number of ids, from 0 to vocabulary - 1; 0 is padding.
        units: size of the embeddings.
        bigrams: pairs of adjacent ids, `(count, 2)`, with embeddings in addition to those of the
            ids: see `kerasrnn.BigramEmbedding`, whose `frequent` finds them. None: no bigram
            embeddings.
        bigram_units: size of the bigram embeddings.
        bigram_dropout: fraction of the bigrams replaced by unknown in training.

    Raises:
        ValueError: an argument is out of range.
    """

    vocabulary: PositiveInteger
    units: PositiveInteger = 64
    bigrams: Any = field(default=None, repr=False, compare=False)
    bigram_units: PositiveInteger = 32
    bigram_dropout: Rate = 0.0

    def __post_init__(self) -> None:
        if self.vocabulary < 2:
            raise ValueError(f"vocabulary={self.vocabulary!r}: expected at least 2; 0 is padding.")
        if self.bigrams is None:
            # Class attributes store the defaults.
            for name in ("bigram_units", "bigram_dropout"):
                if (value := getattr(self, name)) != getattr(Tokens, name):
                    raise ValueError(f"{name}={value!r}: expected none without bigrams.")

    def input(self, name: str, steps: bool, batch_size: int | None = None) -> Tensor:
        """The model's input, `(batch, time)`."""
        if not steps:
            raise ValueError(f"{self}: tokens come in sequences; expected Labels for single ids.")
        return keras.Input((None,), batch_size=batch_size, dtype="int32", name=name)

    def encode(self, x: Tensor, steps: bool) -> Tensor:
        """The embeddings, `(batch, time, units)`, with the padding mask."""
        embedding = keras.layers.Embedding(
            self.vocabulary, self.units, mask_zero=True, name="embedding"
        )
        if self.bigrams is None:
            return embedding(x)
        pairs = kerasrnn.BigramEmbedding(
            self.bigrams, self.bigram_units, self.bigram_dropout, name="bigrams"
        )
        return keras.layers.Concatenate(name="with_bigrams")([embedding(x), pairs(x)])


@validation.checked
@dataclass(frozen=True)
class Images:
    """Images, or the frames of a video, with intensities from 0 to 255.

    A small convolutional encoder maps each image to a vector: for each of `filters`, a 3x3
    convolution with ReLU and 2x2 max pooling; then a dense layer with layer normalization (Ba et
    al. 2016) and ReLU.

    Args:
        shape: height, width and channels.
        filters: number of filters of each convolution.
        units: size of the vector.
        padding: in a video, a frame whose intensities all have this value is padding; None if such
            frames are valid data.

    Raises:
        ValueError: an argument is out of range; the image is too small for the max pooling.
    """

    shape: tuple[int, int, int]
    filters: tuple[int, ...] = (32, 64)
    units: PositiveInteger = 128
    padding: float | None = 0.0

    def __post_init__(self) -> None:
        for name in ("shape", "filters"):
            object.__setattr__(self, name, validation.sizes(name, getattr(self, name)))
        if len(self.shape) != 3:
            raise ValueError(f"shape={self.shape}: expected (height, width, channels).")
        if min(self.shape[:2]) < 2 ** len(self.filters):
            raise ValueError(
                f"shape={self.shape}: {len(self.filters)} filters halve the image as often; "
                f"expected a height and a width of at least {2 ** len(self.filters)}."
            )

    def input(self, name: str, steps: bool, batch_size: int | None = None) -> Tensor:
        """The model's input: `(batch, *shape)`, or `(batch, time, *shape)` with `steps`."""
        shape = (None, *self.shape) if steps else self.shape
        return keras.Input(shape, batch_size=batch_size, name=name)

    def encode(self, x: Tensor, steps: bool) -> Tensor:
        """A vector for each image, with the padding mask."""
        layers: list[Any] = [keras.Input(self.shape), keras.layers.Rescaling(1 / 255)]
        for filters in self.filters:
            layers.append(keras.layers.Conv2D(filters, 3, padding="same", activation="relu"))
            layers.append(keras.layers.MaxPooling2D())
        # Without normalization, the vector can grow until it saturates a recurrent network that
        # reads it as its first step, which then never learns the content of the image.
        layers += [
            keras.layers.Flatten(),
            keras.layers.Dense(self.units),
            keras.layers.LayerNormalization(),
            keras.layers.ReLU(),
        ]
        encoder = keras.Sequential(layers, name="image_encoder")
        if steps:
            return kerasrnn.BatchedTimeDistributed(
                encoder, padding=self.padding, name="each_frame"
            )(x)
        return encoder(x)


@validation.checked
@dataclass(frozen=True)
class Labels:
    """One label per row, such as a speaker, a genre, or a class to generate.

    Args:
        count: number of labels, from 0 to count - 1. None of them is padding.
        units: size of the embeddings.

    Raises:
        ValueError: an argument is out of range.
    """

    count: PositiveInteger
    units: PositiveInteger = 64

    def input(self, name: str, steps: bool, batch_size: int | None = None) -> Tensor:
        """The model's input, `(batch,)`."""
        if steps:
            raise ValueError(f"{self}: a label is a single id; expected Tokens for sequences.")
        return keras.Input((), batch_size=batch_size, dtype="int32", name=name)

    def encode(self, x: Tensor, steps: bool) -> Tensor:
        """The embeddings, `(batch, units)`."""
        return keras.layers.Embedding(self.count, self.units, name="embedding")(x)


@validation.checked
@dataclass(frozen=True)
class Output:
    """Base class of the three kinds of outputs.

    Args:
        count: number of classes, labels or values; the size of the output.

    Raises:
        ValueError: `count` is not a positive integer.
    """

    count: PositiveInteger

    kind: ClassVar[str]
    """The name of this kind in `kerasrnn.Decoder`."""
    activation: ClassVar[str]
    name: ClassVar[str]
    """The default name of the output, in the model and in its exports."""

    def layer(self, name: str | None = None) -> keras.layers.Layer:
        """The layer from features to the output."""
        return keras.layers.Dense(self.count, activation=self.activation, name=name or self.name)

    def previous(self, name: str, batch_size: int | None = None) -> Tensor:
        """An input of previous outputs, as a decoder reads them.

        Ids `(batch, time)` for classes, otherwise frames `(batch, time, count)`.
        """
        if self.kind == "classes":
            return keras.Input((None,), batch_size=batch_size, dtype="int32", name=name)
        return keras.Input((None, self.count), batch_size=batch_size, name=name)

    def probabilities(self, name: str | None = None) -> keras.layers.Layer:
        """The activation from logits to the output."""
        return keras.layers.Activation(self.activation, name=name or self.name)


class Classes(Output):
    """One of `count` classes: probabilities from a softmax."""

    kind = "classes"
    activation = "softmax"
    name = "probabilities"


class MultiLabel(Output):
    """`count` independent labels: a probability for each, from a sigmoid."""

    kind = "flags"
    activation = "sigmoid"
    name = "probabilities"


class Values(Output):
    """`count` numbers: regression, forecasts."""

    kind = "values"
    activation = "linear"
    name = "values"


Input = Vectors | Tokens | Images | Labels


def check_inputs_outputs(inputs: Any, outputs: Any) -> None:
    """Raise ValueError unless these are inputs and outputs of the zoo."""
    if not isinstance(inputs, Input):
        raise ValueError(f"inputs={inputs!r}: expected zoo.Vectors, Tokens, Images or Labels.")
    check_outputs(outputs)


def check_outputs(outputs: Any) -> None:
    """Raise ValueError unless these are outputs of the zoo."""
    if type(outputs) not in (Classes, MultiLabel, Values):
        raise ValueError(f"outputs={outputs!r}: expected zoo.Classes, MultiLabel or Values.")
