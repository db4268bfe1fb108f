"""Outputs of the zoo's models, shared by all topologies.

An output defines its layer, its loss and metrics, the shape of its targets, and the decoding of its
predictions. `Classes`, `MultiLabel` and `Values` are outputs; a new kind is one subclass of
`Output`. The topology determines whether the output is a single one or a sequence.

>>> from kerasrnn import zoo
>>> model = zoo.many_to_one(zoo.Vectors(12), zoo.Classes(9), cell="gru", units=8)
>>> model.compile("adam")      # with the loss and the metrics of the output
>>> model.loss, zoo.decoded(model).output_shape
('sparse_categorical_crossentropy', (None,))
"""

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.distributions.forecast import Forecast
from kerasrnn.distributions.point import Point
from kerasrnn.heads.adaptive_softmax import AdaptiveSoftmax
from kerasrnn.heads.forecast_parameters import ForecastParameters
from kerasrnn.heads.large_softmax import LargeSoftmax, TokenSoftmax
from kerasrnn.heads.sampled_softmax import SampledSoftmax
from kerasrnn.losses.crossentropy import SequenceCrossentropy
from kerasrnn.losses.forecasts import StandardizedSquaredError
from kerasrnn.metrics.perplexity import Perplexity
from kerasrnn.validation import PositiveInteger, PositiveNumber
from kerasrnn.wording import counted
from kerasrnn.zoo.forecast_layer import ForecastLayer

Tensor = Any


class Output(abc.ABC):
    """The output of a model, for one vector or for every step of a sequence.

    The topologies and `zoo.Model` use outputs only through this interface. A new kind of output is
    a subclass with a `layer` and a `loss`, and where they differ from the defaults, `metrics`,
    `target_shape`, `target_ids`, `check_targets` and `decode`. Register it with
    `keras.saving.register_keras_serializable`, so that its models can be loaded; if it is not a
    dataclass, it also needs `get_config`.

    - A loss that needs more than targets and predictions, such as the transition scores of a
      conditional random field, reads it from the layer that is passed to it. The mask is also
      available there, or as the mask of the predictions.
    - A layer that needs the padding mask has an argument `mask` in `call`, as any Keras layer.
    - The layer is also passed to the metrics, which may decode.

    Example: directions, as angles. 0 and 2 pi are the same, which a number does not express.

        >>> from dataclasses import dataclass
        >>> import keras
        >>> import numpy as np
        >>> from keras import ops
        >>> from kerasrnn import zoo
        >>> @keras.saving.register_keras_serializable(package="example")
        ... class AngularError(keras.losses.Loss):
        ...     def call(self, y_true, y_pred):
        ...         return 1 - ops.cos(y_true - ops.arctan2(y_pred[..., 1], y_pred[..., 0]))
        >>> @keras.saving.register_keras_serializable(package="example")
        ... @dataclass(frozen=True)
        ... class Direction(zoo.Output):
        ...     name = "direction"
        ...
        ...     def layer(self, name=None):
        ...         return keras.layers.Dense(2, name=name or self.name)
        ...
        ...     def loss(self, layer):
        ...         return AngularError()
        ...
        ...     def target_shape(self, shape):
        ...         return shape[:-1]      # one angle, for the two numbers of a prediction
        ...
        ...     def decode(self, predictions, layer, mask=None):
        ...         return ops.arctan2(predictions[..., 1], predictions[..., 0])
        >>> model = zoo.many_to_one(zoo.Vectors(2), Direction(), "gru", units=4)
        >>> model.compile("adam", jit_compile=False)
        >>> x, y = np.ones((8, 5, 2)), np.linspace(0, 2 * np.pi, 8)
        >>> history = model.fit(x, y, verbose=0)
        >>> zoo.decoded(model).predict(x, verbose=0).shape
        (8,)
    """

    name: ClassVar[str] = "predictions"
    """The default name of the output, in the model and in its exports."""

    target_ids: int | None = None
    """Number of ids if the targets are ids, 0 to target_ids - 1; None if they are numbers."""

    @abc.abstractmethod
    def layer(self, name: str | None = None) -> keras.layers.Layer:
        """The layer from features, `(batch, ..., features)`, to predictions."""

    @abc.abstractmethod
    def loss(self, layer: keras.layers.Layer) -> Any:
        """The loss, an object or a name that `keras.Model.compile` accepts.

        Args:
            layer: the model's output layer, whose weights the loss may read.
        """

    def metrics(self, layer: keras.layers.Layer) -> list[Any]:
        """The metrics that `keras.Model.compile` reports by default; see `loss`."""
        return []

    def target_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The shape of the targets, given that of the predictions; None is any size.

        A second axis of unknown size has as many steps as the predictions if `aligned`.
        """
        return shape

    aligned: ClassVar[bool] = True
    """Whether the targets of a sequence have a step for each step of the predictions."""

    def check_targets(self, name: str, targets: np.ndarray) -> None:
        """Raise ValueError if a target is impossible. Targets are finite, and ids in their range.

        Args:
            name: name of the argument.
            targets: in the shape of `target_shape`.
        """
        return

    def decode(
        self, predictions: Tensor, layer: keras.layers.Layer, mask: Tensor | None = None
    ) -> Tensor:
        """Decode predictions, with operations of `keras.ops`.

        Args:
            predictions: the model's output.
            layer: the model's output layer.
            mask: boolean, `(batch, time)`, for sequences with padding: True for valid steps.
        """
        return predictions

    def decoder(self, layer: keras.layers.Layer) -> keras.layers.Layer | None:
        """A layer from the first argument of the model's output layer to decoded predictions.

        For outputs whose layer has further arguments that are unknown when a model is used, such as
        the labels. None: `decode` applies.

        Args:
            layer: the model's output layer.
        """
        return None

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor.

        Raises:
            NotImplementedError: the class is not a dataclass and does not override this method.
        """
        if not dataclasses.is_dataclass(self):
            raise NotImplementedError(
                f"{type(self).__name__} is not a dataclass: expected its own get_config, which "
                "returns the arguments of its constructor."
            )
        return {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Output":
        """An output from its `get_config`."""
        return cls(**config)


class GeneratedOutput(Output):
    """Base class of outputs that decoders can generate: they read their own previous outputs."""

    kind: ClassVar[str]
    """The name of this kind in `kerasrnn.Decoder`."""

    size: int
    """The number of classes, or the width of a frame."""

    @property
    def forecast(self) -> Forecast | None:
        """What the numbers of a decoder are the parameters of; None if there is nothing to map."""
        return None

    def softmax(self) -> keras.layers.Layer | None:
        """The layer that computes a decoder's classes, if it is not a dense one."""
        return None

    def previous(self, name: str, batch_size: int | None = None) -> Tensor:
        """An input of previous outputs, as a decoder reads them.

        Ids `(batch, time)` for classes, otherwise frames `(batch, time, size)`.
        """
        if self.kind == "classes":
            return keras.Input((None,), batch_size=batch_size, dtype="int32", name=name)
        return keras.Input((None, self.size), batch_size=batch_size, name=name)

    @abc.abstractmethod
    def probabilities(self, name: str | None = None) -> keras.layers.Layer:
        """The layer from a decoder's numbers to the output."""


@validation.checked
@dataclass(frozen=True)
class DenseOutput(GeneratedOutput):
    """Base class of `Classes`, `MultiLabel` and `Values`: a dense layer with an activation.

    Args:
        count: number of classes, labels or values; the size of the output.

    Raises:
        ValueError: `count` is not a positive integer.
    """

    count: PositiveInteger

    activation: ClassVar[str]

    @property
    def size(self) -> int:
        return self.count

    def layer(self, name: str | None = None) -> keras.layers.Layer:
        return keras.layers.Dense(
            self.count,
            activation=self.activation,
            dtype=dtype_of_predictions(),
            name=name or self.name,
        )

    def probabilities(self, name: str | None = None) -> keras.layers.Layer:
        return keras.layers.Activation(
            self.activation, dtype=dtype_of_predictions(), name=name or self.name
        )


def dtype_of_predictions() -> str:
    """The dtype of predictions, which with mixed precision is that of the weights.

    In float16, values above 65,504 would be infinite; in bfloat16, they have three digits.
    """
    return keras.config.dtype_policy().variable_dtype


@keras.saving.register_keras_serializable(package="kerasrnn")
class Classes(DenseOutput):
    """One of `count` classes: probabilities from a softmax.

    The loss is the sparse categorical cross-entropy, the metric the accuracy. The targets are class
    ids; so are the decoded predictions: the most probable ones.
    """

    kind = "classes"
    activation = "softmax"
    name = "probabilities"

    @property
    def target_ids(self) -> int:
        return self.count

    def loss(self, layer: keras.layers.Layer) -> str:
        return "sparse_categorical_crossentropy"

    def metrics(self, layer: keras.layers.Layer) -> list[Any]:
        return ["accuracy"]

    def target_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return shape[:-1]

    def decode(
        self, predictions: Tensor, layer: keras.layers.Layer, mask: Tensor | None = None
    ) -> Tensor:
        return ops.argmax(predictions, axis=-1)


@keras.saving.register_keras_serializable(package="kerasrnn")
class MultiLabel(DenseOutput):
    """`count` independent labels: a probability for each, from a sigmoid.

    The loss is the binary cross-entropy. Decoded, a label is 1 if its probability is at least 0.5,
    otherwise 0.
    """

    kind = "flags"
    activation = "sigmoid"
    name = "probabilities"

    def loss(self, layer: keras.layers.Layer) -> str:
        return "binary_crossentropy"

    def decode(
        self, predictions: Tensor, layer: keras.layers.Layer, mask: Tensor | None = None
    ) -> Tensor:
        return ops.cast(predictions >= 0.5, "int32")


@keras.saving.register_keras_serializable(package="kerasrnn")
@validation.checked
@dataclass(frozen=True)
class Values(DenseOutput):
    """`count` numbers: regression, forecasts.

    The loss is the mean squared error. Decoded predictions are the values themselves.

        y = mean + std (h V + c)

    With the mean and the standard deviation of the targets, the network computes numbers of the
    order of 1 and the loss is that of standardized targets,
    `kerasrnn.losses.StandardizedSquaredError`. Targets, predictions, prompts and what is generated
    are in the units of the targets. Targets of the order of 100 need that: to reach them without,
    the weights must become as large.

    Args:
        count: how many numbers are predicted.
        mean: mean of the targets over the training data, or one for each number; default 0.
        std: standard deviation of the targets over the training data, or one for each number;
            default 1.

    Raises:
        ValueError: an argument is out of its range.

    Example:

        >>> import numpy as np
        >>> from kerasrnn import zoo
        >>> values = zoo.Values(1, mean=1013.0, std=9.0)      # air pressure
        >>> model = zoo.many_to_one(zoo.Vectors(2), values, "gru", units=4)
        >>> bool((model.predict(np.ones((3, 5, 2)), verbose=0) > 980).all())
        True
    """

    mean: float | Sequence[float] | None = None
    std: float | Sequence[float] | None = None

    kind = "values"
    activation = "linear"
    name = "values"

    def __post_init__(self) -> None:
        units = Point(self.count, self.mean, self.std)  # which checks them
        object.__setattr__(self, "mean", units.mean)
        object.__setattr__(self, "std", units.std)

    @property
    def forecast(self) -> Point | None:
        if self.mean is None and self.std is None:
            return None
        return Point(self.count, self.mean, self.std)

    def layer(self, name: str | None = None) -> keras.layers.Layer:
        if self.forecast is None:
            return super().layer(name)
        return ForecastLayer(self.forecast, name=name or self.name)

    def probabilities(self, name: str | None = None) -> keras.layers.Layer:
        if self.forecast is None:
            return super().probabilities(name)
        return ForecastParameters(self.forecast, name=name or self.name)

    def loss(self, layer: keras.layers.Layer) -> Any:
        if self.forecast is None:
            return "mean_squared_error"
        return StandardizedSquaredError(self.forecast)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {k: list(v) if isinstance(v, tuple) else v for k, v in config.items()}


class LargeClasses(GeneratedOutput):
    """The base class of `AdaptiveClasses` and `SampledClasses`: one of many classes at each step.

    The loss is `kerasrnn.losses.SequenceCrossentropy`. Masked steps are excluded.
    """

    count: int

    kind = "classes"
    name = "probabilities"

    @property
    def size(self) -> int:
        return self.count

    @property
    def target_ids(self) -> int:
        return self.count

    @abc.abstractmethod
    def layer(self, name: str | None = None) -> LargeSoftmax:
        """The large softmax itself."""

    def softmax(self) -> LargeSoftmax:
        return self.layer("softmax")

    def probabilities(self, name: str | None = None) -> keras.layers.Layer:
        return TokenSoftmax(dtype=dtype_of_predictions(), name=name or self.name)

    def loss(self, layer: keras.layers.Layer) -> Any:
        return SequenceCrossentropy()

    def target_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return shape[:-1]

    def decode(
        self, predictions: Tensor, layer: keras.layers.Layer, mask: Tensor | None = None
    ) -> Tensor:
        return ops.argmax(predictions, axis=-1)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {k: list(v) if isinstance(v, tuple) else v for k, v in config.items()}


@keras.saving.register_keras_serializable(package="kerasrnn")
@validation.checked
@dataclass(frozen=True)
class AdaptiveClasses(LargeClasses):
    """One of many classes at each step, rare ones in clusters: see `kerasrnn.AdaptiveSoftmax`.

    It takes the place of `Classes` in `zoo.next_step`, `one_to_many`, `encoder_decoder` and
    `many_to_many`, where the classes are the words of a large vocabulary, numbered from the most
    frequent one. Training computes the clusters of the targets. The loss is
    `kerasrnn.losses.SequenceCrossentropy`, the metric the perplexity.

    Args:
        count: number of classes.
        cutoffs: where the clusters begin: increasing numbers, from 1 to `count` - 1.
        factor: by which number the features are divided from one cluster to the next.

    Raises:
        ValueError: an argument is out of its range.

    Example:

        >>> from kerasrnn import zoo
        >>> words = zoo.AdaptiveClasses(10_000, cutoffs=[500, 3000])
        >>> model = zoo.next_step(words, "gru", units=16)
        >>> model.compile("adam")
        >>> model.loss.name, zoo.generator(model, max_length=5).output_shape
        ('sequence_crossentropy', (None, 5))
    """

    count: PositiveInteger
    cutoffs: Sequence[int]
    factor: PositiveNumber = 4.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "cutoffs", tuple(self.layer().cutoffs))  # which checks them

    def layer(self, name: str | None = None) -> LargeSoftmax:
        return AdaptiveSoftmax(self.count, self.cutoffs, self.factor, name=name or self.name)

    def metrics(self, layer: keras.layers.Layer) -> list[Any]:
        return [Perplexity()]


@keras.saving.register_keras_serializable(package="kerasrnn")
@validation.checked
@dataclass(frozen=True)
class SampledClasses(LargeClasses):
    """One of many classes at each step, trained on samples: see `kerasrnn.SampledSoftmax`.

    It takes the place of `Classes` in `zoo.next_step`, `one_to_many`, `encoder_decoder` and
    `many_to_many`, where the classes are the words of a large vocabulary. The loss is
    `kerasrnn.losses.SequenceCrossentropy`: that of training is an estimate, that of `evaluate` is
    exact. There is no metric, which would compute all classes in training.

    Args:
        count: number of classes.
        samples: number of samples for each batch.
        frequencies: how often each class is drawn, up to a factor: positive numbers, `(count,)`.
            Default: those of words that are numbered from the most frequent one.

    Raises:
        ValueError: an argument is out of its range.

    Example:

        >>> from kerasrnn import zoo
        >>> model = zoo.next_step(zoo.SampledClasses(10_000, samples=200), "gru", units=16)
        >>> model.compile("adam")
        >>> model.output_shape
        (None, None, 10000)
    """

    count: PositiveInteger
    samples: PositiveInteger
    frequencies: Sequence[float] | None = None

    def __post_init__(self) -> None:
        frequencies = self.layer().frequencies  # checked
        if frequencies is not None:
            object.__setattr__(self, "frequencies", tuple(frequencies))

    def layer(self, name: str | None = None) -> LargeSoftmax:
        return SampledSoftmax(self.count, self.samples, self.frequencies, name=name or self.name)


def check_outputs(outputs: Any) -> None:
    """Raise ValueError unless this is an output of the zoo."""
    if not isinstance(outputs, Output):
        raise ValueError(
            f"outputs={outputs!r}: expected zoo.Classes, MultiLabel, Values or another zoo.Output."
        )


def check_generated(outputs: Any) -> None:
    """Raise ValueError unless this is an output that a decoder can generate."""
    if not isinstance(outputs, GeneratedOutput):
        raise ValueError(
            f"outputs={outputs!r}: expected zoo.Classes, MultiLabel, Values or Normal, or another "
            "output that a decoder can read."
        )


def check_dense(outputs: Any) -> None:
    """Raise ValueError unless this is an output that can be fed back."""
    if not isinstance(outputs, DenseOutput):
        raise ValueError(f"outputs={outputs!r}: expected zoo.Classes, MultiLabel or Values.")


def predictions(outputs: Output, name: str | None, features: Tensor) -> Tensor:
    """Apply the layer of an output.

    Raises:
        ValueError: it is not a layer, or does not return a single tensor.
    """
    layer = outputs.layer(name)
    if not isinstance(layer, keras.layers.Layer):
        raise ValueError(
            f"outputs={outputs!r}: layer() returned {layer!r}; expected a Keras layer."
        )
    y = layer(features)
    if not isinstance(y, keras.KerasTensor):
        raise ValueError(
            f"outputs={outputs!r}: its layer returns a {type(y).__name__} of "
            f"{counted(len(keras.tree.flatten(y)), 'tensor')}; expected one tensor."
        )
    return y
