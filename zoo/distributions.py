"""Outputs that are distributions or quantiles, with their losses, scores and samples."""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

import kerasrnn
from kerasrnn import validation
from kerasrnn.distributions.forecast import Forecast
from kerasrnn.validation import ArgumentError, NonNegativeInteger, PositiveInteger
from kerasrnn.zoo.forecast_layer import ForecastLayer
from kerasrnn.zoo.outputs import GeneratedOutput

Tensor = Any


class ForecastOutput(GeneratedOutput):
    """The base class of outputs whose predictions are the parameters of a `forecast`."""

    name = "parameters"
    kind = "values"

    @property
    @abc.abstractmethod
    def forecast(self) -> Forecast:
        """The forecast: see `kerasrnn.distributions`."""

    @property
    def size(self) -> int:
        return self.forecast.size

    def layer(self, name: str | None = None) -> keras.layers.Layer:
        return ForecastLayer(self.forecast, name=name or self.name)

    def probabilities(self, name: str | None = None) -> keras.layers.Layer:
        return kerasrnn.ForecastParameters(self.forecast, name=name or self.name)

    def loss(self, layer: keras.layers.Layer) -> keras.losses.Loss:
        return kerasrnn.losses.NegativeLogLikelihood(self.forecast)

    def target_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*shape[:-1], self.forecast.size)

    def check_targets(self, name: str, targets: np.ndarray) -> None:
        right = ops.convert_to_numpy(
            self.forecast.supported(ops.convert_to_tensor(targets, dtype="float32"))
        )
        if not right.all():
            index = tuple(map(int, np.unravel_index(right.argmin(), right.shape)))
            entry = f"{name}[{', '.join(map(str, index))}]"
            raise ArgumentError(entry, targets[index].item(), self.forecast.support)

    def decode(
        self, predictions: Tensor, layer: keras.layers.Layer, mask: Tensor | None = None
    ) -> Tensor:
        return self.forecast.point(predictions)

    def sample(self, predictions: Tensor, n: int = 1, seed: Any = None) -> Tensor:
        """Independent draws, `(n, ..., count)`.

        Args:
            predictions: the result of `predict`.
            n: how many for each prediction.
            seed: an integer, a `keras.random.SeedGenerator`, or None.

        Raises:
            ValueError: an argument is out of its range, or the forecast is no distribution.
        """
        if not isinstance(self.forecast, kerasrnn.distributions.Distribution):
            raise ValueError(
                f"{self!r} is no distribution to sample from; expected zoo.Normal or another one."
            )
        return self.forecast.sample(predictions, n, seed)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {k: list(v) if isinstance(v, tuple) else v for k, v in config.items()}

    def _store_units(self) -> None:
        """Check the arguments, and store units as tuples, which are equal after loading, too."""
        for name in ("mean", "std"):
            if hasattr(self, name):
                object.__setattr__(self, name, getattr(self.forecast, name))


# The forecasts are registered under the names of these classes.
@keras.saving.register_keras_serializable(package="kerasrnn", name="NormalOutput")
@validation.checked
@dataclass(frozen=True)
class Normal(ForecastOutput):
    """`count` numbers, each with a normal distribution: `kerasrnn.distributions.Normal`.

    The predictions are the means and the standard deviations. The loss is the negative
    log-likelihood, the metric the CRPS. Decoded, predictions are the means.

    Args:
        count: how many numbers are predicted.
        mean: mean of the targets over the training data, or one for each number; default 0.
        std: standard deviation of the targets over the training data, or one for each number;
            default 1. The network computes numbers of the order of 1; predictions, samples and
            scores are in the units of the targets.
        correlated: whether two numbers are correlated.

    Raises:
        ValueError: an argument is out of its range.

    Example:

        >>> import numpy as np
        >>> from kerasrnn import zoo
        >>> y = np.array([310.0, 290.0, 305.0, 295.0])
        >>> normal = zoo.Normal(1, mean=y.mean(), std=y.std())
        >>> model = zoo.many_to_one(zoo.Vectors(2), normal, "gru", units=4)
        >>> model.compile("adam", jit_compile=False)
        >>> x = np.ones((4, 5, 2))
        >>> sorted(model.fit(x, y, verbose=0).history)
        ['crps', 'loss']
        >>> p = model.predict(x, verbose=0)
        >>> tuple(normal.sample(p, n=100, seed=0).shape)
        (100, 4, 1)
    """

    count: PositiveInteger = 1
    mean: float | Sequence[float] | None = None
    std: float | Sequence[float] | None = None
    correlated: bool = False

    def __post_init__(self) -> None:
        self._store_units()

    @property
    def forecast(self) -> kerasrnn.distributions.Normal:
        return kerasrnn.distributions.Normal(self.count, self.mean, self.std, self.correlated)

    def metrics(self, layer: keras.layers.Layer) -> list[Any]:
        return [kerasrnn.metrics.CRPS(self.forecast)]


@keras.saving.register_keras_serializable(package="kerasrnn", name="StudentTOutput")
@validation.checked
@dataclass(frozen=True)
class StudentT(ForecastOutput):
    """`count` numbers, each with a t distribution: `kerasrnn.distributions.StudentT`.

    Outliers have less influence than on `Normal`. The predictions are locations, scales and degrees
    of freedom. The loss is the negative log-likelihood. Decoded, predictions are the means, which
    are the locations.

    Args:
        count: how many numbers are predicted.
        mean: mean of the targets over the training data, or one for each number; default 0.
        std: standard deviation of the targets over the training data, or one for each number;
            default 1.

    Raises:
        ValueError: an argument is out of its range.
    """

    count: PositiveInteger = 1
    mean: float | Sequence[float] | None = None
    std: float | Sequence[float] | None = None

    def __post_init__(self) -> None:
        self._store_units()

    @property
    def forecast(self) -> kerasrnn.distributions.StudentT:
        return kerasrnn.distributions.StudentT(self.count, self.mean, self.std)


@keras.saving.register_keras_serializable(package="kerasrnn", name="NegativeBinomialOutput")
@validation.checked
@dataclass(frozen=True)
class NegativeBinomial(ForecastOutput):
    """`count` counts, such as sales: `kerasrnn.distributions.NegativeBinomial`.

    The predictions are means and dispersions. The loss is the negative log-likelihood. Decoded,
    predictions are the means, or the medians.

    Args:
        count: how many counts are predicted.
        mean: mean of the targets over the training data, positive, or one for each number;
            default 1.
        point_of: the point forecast, of `zoo.decoded` and of what a generator reads by default:
            "mean", or "median", which is a count.

    Raises:
        ValueError: an argument is out of its range.
    """

    count: PositiveInteger = 1
    mean: float | Sequence[float] | None = None
    point_of: Literal["mean", "median"] = "mean"

    def __post_init__(self) -> None:
        self._store_units()

    @property
    def forecast(self) -> kerasrnn.distributions.NegativeBinomial:
        return kerasrnn.distributions.NegativeBinomial(
            self.count, self.mean, point_of=self.point_of
        )


@keras.saving.register_keras_serializable(package="kerasrnn", name="MixtureOutput")
@validation.checked
@dataclass(frozen=True)
class Mixture(ForecastOutput):
    """A mixture of normal distributions: `kerasrnn.distributions.Mixture`.

    The predictions are the weights and the parameters of the components, then the probabilities of
    the flags. The loss is the negative log-likelihood, the metric the CRPS. Decoded, predictions
    are the means, or the medians, and the probabilities of the flags.

    Args:
        component: a `zoo.Normal`: how many numbers, and their units.
        components: how many components.
        flags: how many numbers of the target, the last ones, are 0 or 1, such as the end of a pen's
            stroke.
        point_of: the point forecast of numbers, of `zoo.decoded` and of what a generator reads by
            default: "mean" or "median".

    Raises:
        ValueError: an argument is out of its range.

    Example: handwriting, as the offsets of a pen and the ends of its strokes.

        >>> from kerasrnn import zoo
        >>> pen = zoo.Mixture(zoo.Normal(2, correlated=True), 20, flags=1)
        >>> model = zoo.many_to_many(zoo.Vectors(3), pen, units=8)
        >>> model.output_shape
        (None, None, 121)
    """

    component: Normal
    components: PositiveInteger
    flags: NonNegativeInteger = 0
    point_of: Literal["mean", "median"] = "mean"

    def __post_init__(self) -> None:
        if not isinstance(self.component, Normal):
            raise ArgumentError("component", self.component, "a zoo.Normal")

    @property
    def forecast(self) -> kerasrnn.distributions.Mixture:
        component = self.component.forecast
        return kerasrnn.distributions.Mixture(
            component, self.components, self.flags, point_of=self.point_of
        )

    def metrics(self, layer: keras.layers.Layer) -> list[Any]:
        return [kerasrnn.metrics.CRPS(self.forecast)]

    def get_config(self) -> dict[str, Any]:
        component = keras.saving.serialize_keras_object(self.component)
        return {**super().get_config(), "component": component}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Mixture":
        component = keras.saving.deserialize_keras_object(config["component"])
        return cls(**{**config, "component": component})


@keras.saving.register_keras_serializable(package="kerasrnn", name="QuantilesOutput")
@validation.checked
@dataclass(frozen=True)
class Quantiles(ForecastOutput):
    """Quantiles of `count` numbers, which do not cross: `kerasrnn.distributions.Quantiles`.

    The predictions are the quantiles, those of the first number first. The loss is
    `kerasrnn.losses.QuantileLoss`, the metric the CRPS of these levels. Decoded, predictions are
    the medians, or the quantiles whose level is closest to 0.5.

    Args:
        levels: increasing probabilities in (0, 1).
        count: how many numbers are predicted.
        mean: mean of the targets over the training data, or one for each number; default 0.
        std: standard deviation of the targets over the training data, or one for each number;
            default 1.

    Raises:
        ValueError: an argument is out of its range, or the levels do not increase.

    Example:

        >>> from kerasrnn import zoo
        >>> quantiles = zoo.Quantiles((0.1, 0.5, 0.9), mean=20.0, std=5.0)
        >>> model = zoo.many_to_one(zoo.Vectors(2), quantiles, "gru", units=4)
        >>> model.output_shape, zoo.decoded(model).output_shape
        ((None, 3), (None, 1))
    """

    levels: Sequence[float]
    count: PositiveInteger = 1
    mean: float | Sequence[float] | None = None
    std: float | Sequence[float] | None = None

    name = "quantiles"

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", self.forecast.levels)
        self._store_units()

    @property
    def forecast(self) -> kerasrnn.distributions.Quantiles:
        return kerasrnn.distributions.Quantiles(self.levels, self.count, self.mean, self.std)

    def loss(self, layer: keras.layers.Layer) -> keras.losses.Loss:
        return kerasrnn.losses.QuantileLoss(self.forecast)

    def metrics(self, layer: keras.layers.Layer) -> list[Any]:
        return [kerasrnn.metrics.CRPS(self.forecast)]
