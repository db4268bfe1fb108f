"""Inputs of the zoo's models, shared by all topologies.

An input is one of `Vectors`, `Tokens`, `Images` and `Labels`, or several of them: `Inputs`. The
topology determines whether it is a single one or a sequence.

Every input has two methods. `input(name, steps, batch_size)` creates the model's input;
`encode(x, steps)` returns vectors, `(batch, features)`, or with `steps` `(batch, time, features)`,
with a mask if some steps are padding.

>>> from kerasrnn import zoo
>>> model = zoo.many_to_one(zoo.Tokens(1000, 16), zoo.Classes(3), cell="gru", units=8)
>>> model.output_shape
(None, 3)
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, NamedTuple

import keras
import numpy as np

import kerasrnn
from kerasrnn import validation
from kerasrnn.layers.joining import JoinedSteps
from kerasrnn.validation import PositiveInteger, Rate
from kerasrnn.wording import counted, snake_case

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
        missing: whether a feature may be missing, which is NaN in the data: the mean replaces it,
            and a second number for each feature, 1 or 0, says so: see `kerasrnn.MissingIndicator`.
            The cell "grud" reads missing values itself.

    Raises:
        ValueError: an argument is out of range.
    """

    features: PositiveInteger
    mean: float | Sequence[float] | None = None
    std: float | Sequence[float] | None = None
    padding: float | None = 0.0
    missing: bool = False

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

    def encode(self, x: Tensor, steps: bool, prefix: str = "") -> Tensor:
        """`(x - mean) / std`, with the padding mask and with what is missing."""
        # In half precision, 1987 would become 1984, and numbers near the padding equal to it.
        dtype = keras.backend.result_type(x.dtype, keras.config.dtype_policy().compute_dtype)
        if steps and self.padding is not None:
            x = keras.layers.Masking(self.padding, dtype=dtype, name=f"{prefix}padding")(x)
        if self.mean is not None or self.std is not None:
            scale = [1 / d for d in self.std or [1.0] * self.features]
            means = self.mean or [0.0] * self.features
            offset = [-m * s for m, s in zip(means, scale, strict=True)]
            x = keras.layers.Rescaling(scale, offset, dtype=dtype, name=f"{prefix}standardize")(x)
        return kerasrnn.MissingIndicator(name=f"{prefix}missing")(x) if self.missing else x


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

    def encode(self, x: Tensor, steps: bool, prefix: str = "") -> Tensor:
        """The embeddings, `(batch, time, units)`, with the padding mask."""
        embedding = keras.layers.Embedding(
            self.vocabulary, self.units, mask_zero=True, name=f"{prefix}embedding"
        )
        if self.bigrams is None:
            return embedding(x)
        pairs = kerasrnn.BigramEmbedding(
            self.bigrams, self.bigram_units, self.bigram_dropout, name=f"{prefix}bigrams"
        )
        return keras.layers.Concatenate(name=f"{prefix}with_bigrams")([embedding(x), pairs(x)])


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
                f"shape={self.shape}: each of {len(self.filters)} filters halves the image; "
                f"expected a height and a width of at least {2 ** len(self.filters)}."
            )

    def input(self, name: str, steps: bool, batch_size: int | None = None) -> Tensor:
        """The model's input: `(batch, *shape)`, or `(batch, time, *shape)` with `steps`."""
        shape = (None, *self.shape) if steps else self.shape
        return keras.Input(shape, batch_size=batch_size, name=name)

    def encode(self, x: Tensor, steps: bool, prefix: str = "") -> Tensor:
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
        encoder = keras.Sequential(layers, name=f"{prefix}image_encoder")
        if steps:
            return kerasrnn.BatchedTimeDistributed(
                encoder, padding=self.padding, name=f"{prefix}each_frame"
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

    def encode(self, x: Tensor, steps: bool, prefix: str = "") -> Tensor:
        """The embeddings, `(batch, units)`."""
        return keras.layers.Embedding(self.count, self.units, name=f"{prefix}embedding")(x)


class Part(NamedTuple):
    """One of several inputs of a model."""

    name: str
    """The name of the model's input, and the beginning of the names of the layers that encode it,
    such as "words_embedding"."""
    input: "Vectors | Tokens | Images | Labels"
    static: bool
    """Whether it is the same at all steps."""


class Inputs:
    """Several inputs of one model: features beside text, covariates, static features.

    Each part is encoded as if it were the only one, and the encodings are concatenated. With
    sequences e^i of parts that have steps, and vectors v^j of static parts, the model reads at
    step t

        x_t = [e^1_t, ..., e^n_t, v^1, ..., v^m]

    A static part is repeated at every step, as in DeepAR (Salinas et al. 2020, section 3), GluonTS
    and neuralforecast. In topologies that read a single vector, all parts are static, and x is the
    concatenation of their vectors.

    A step is valid if it is valid in all parts, so one part is enough to determine the lengths:
    set `padding=None` for the others, or if a part may be all zeros at a valid step. All sequences
    have the same number of steps, padding included; a `zoo.Model` raises an error that names the
    parts that do not.

    The model's inputs are one tensor per part. Data are a list in the order of the parts (static
    parts last), or a dict by name.

    Args:
        *parts: `zoo.Vectors`, `Tokens`, `Images` or `Labels`. Labels are always static. A part
            without a name is named after its type, "vectors", or "vectors_1" and "vectors_2" if
            there are several.
        static: vectors or images that are the same at all steps: one input, a list of them, or a
            dict by name.
        **named: further parts by name.

    Raises:
        ValueError: there is no part; a part is not an input of the zoo, or has the name of another.

    Example: word classes from words, their capitalization and the genre of the text.

        >>> import numpy as np
        >>> from kerasrnn import zoo
        >>> inputs = zoo.Inputs(
        ...     words=zoo.Tokens(5000, 32),
        ...     capitals=zoo.Vectors(2, padding=None),
        ...     genre=zoo.Labels(4, 8),
        ... )
        >>> model = zoo.many_to_many(inputs, zoo.Classes(12), units=16, bidirectional=True)
        >>> [x.name for x in model.inputs], model.get_layer("joined").output.shape
        (['words', 'capitals', 'genre'], (None, None, 42))
        >>> data = {
        ...     "words": [[17, 4, 0], [8, 2, 9]],
        ...     "capitals": np.zeros((2, 3, 2)),
        ...     "genre": [3, 1],
        ... }
        >>> model.predict(data, verbose=0).shape
        (2, 3, 12)
        >>> model.predict({**data, "capitals": np.zeros((2, 4, 2))}, verbose=0)
        Traceback (most recent call last):
            ...
        ValueError: x['capitals'] has 4 steps, and x['words'] 3: expected equal numbers.
    """

    def __init__(self, *parts: Any, static: Any = (), **named: Any) -> None:
        entries = [(None, part, False) for part in parts]
        entries += [(name, part, False) for name, part in named.items()]
        if isinstance(static, Mapping):
            entries += [(name, part, True) for name, part in static.items()]
        else:
            one = isinstance(static, Single)
            several = [static] if one else validation.sequence("static", static)
            entries += [(None, part, True) for part in several]
        if not entries:
            raise ValueError("Inputs(): expected zoo.Vectors, Tokens, Images or Labels.")
        for name, part, static_part in entries:
            if not isinstance(part, Single):
                place = name or ("static" if static_part else "parts")
                raise ValueError(
                    f"{place}={part!r}: expected zoo.Vectors, Tokens, Images or Labels."
                )
            if static_part and isinstance(part, Tokens):
                raise ValueError(f"static={part!r}: tokens come in sequences; expected Labels.")
        self.parts = _parts(entries)
        """Sequences first, then static parts."""

    def __repr__(self) -> str:
        shown = [f"{part.name}={part.input!r}" for part in self.parts if not part.static]
        static = {part.name: part.input for part in self.parts if part.static}
        return f"Inputs({', '.join([*shown, *([f'static={static!r}'] if static else [])])})"

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Inputs) and self.parts == other.parts

    def __hash__(self) -> int:
        return hash(self.parts)

    def input(self, name: str, steps: bool, batch_size: int | None = None) -> list[Tensor]:
        """The model's inputs, one for each part, under the names of the parts."""
        if steps and all(part.static for part in self.parts):
            raise ValueError(f"{self}: no part is a sequence; expected Tokens, Vectors or Images.")
        return [
            part.input.input(part.name, steps and not part.static, batch_size)
            for part in self.parts
        ]

    def encode(self, x: Sequence[Tensor], steps: bool) -> Tensor:
        """The encodings of the parts, concatenated, with the mask of the steps valid in all."""
        encoded = [
            part.input.encode(each, steps and not part.static, prefix=f"{part.name}_")
            for part, each in zip(self.parts, x, strict=True)
        ]
        if steps:
            sequences = sum(not part.static for part in self.parts)
            return JoinedSteps(sequences, name="joined")(encoded)
        return keras.layers.Concatenate(name="joined")(encoded)


def _parts(entries: Sequence[tuple[str | None, Any, bool]]) -> tuple[Part, ...]:
    """Name the parts that have no name, and sort static ones to the end."""
    kinds = [snake_case(type(part).__name__) for _, part, _ in entries]
    unnamed = Counter(kind for kind, (name, _, _) in zip(kinds, entries, strict=True) if not name)
    numbers: Counter[str] = Counter()
    result = []
    for kind, (name, part, static) in zip(kinds, entries, strict=True):
        if name is None:
            numbers[kind] += 1
            name = f"{kind}_{numbers[kind]}" if unnamed[kind] > 1 else kind
        result.append(Part(name, part, static or isinstance(part, Labels)))
    for name, count in Counter(part.name for part in result).items():
        if count > 1:
            raise ValueError(
                f"Inputs: {count} parts have the name {name!r}; expected different names."
            )
    return tuple(sorted(result, key=lambda part: part.static))


Single = Vectors | Tokens | Images | Labels
"""One input."""

Input = Single | Inputs


def check_inputs(inputs: Any) -> None:
    """Raise ValueError unless these are inputs of the zoo."""
    if not isinstance(inputs, Input):
        raise ValueError(
            f"inputs={inputs!r}: expected zoo.Vectors, Tokens, Images or Labels, or several of "
            "them in zoo.Inputs."
        )
