"""The losses of forecasts: the negative log-likelihood, of quantiles, of standardized errors."""

from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.base_layer import fits
from kerasrnn.distributions.forecast import Distribution, Forecast, full_precision
from kerasrnn.distributions.point import Point
from kerasrnn.distributions.quantiles import Quantiles
from kerasrnn.keras_internals import is_concrete, set_keras_mask
from kerasrnn.losses.weights import as_weights, mask_of, of_targets
from kerasrnn.validation import ArgumentError

Tensor = Any
Reduction = Literal["sum_over_batch_size", "mean", "mean_with_sample_weight", "sum", "none"] | None


class ForecastLoss(keras.losses.Loss):
    """The base class of losses of forecasts, which average a score over targets in use."""

    kind: type[Forecast] = Forecast

    def __init__(self, forecast: Any, reduction: Reduction, name: str) -> None:
        super().__init__(name=name, reduction=reduction)
        self.forecast = checked_forecast(forecast, self.kind)

    def score(self, parameters: Tensor, y: Tensor) -> Tensor:
        """The loss of each target, `(...)`."""
        raise NotImplementedError(f"{type(self).__name__} must define `score`.")

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The loss of each target, `(batch, ...)`. Neither masks nor weights are applied."""
        return self.score(*in_use(self.forecast, y_true, y_pred)[:2])

    def __call__(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        mask = mask_of_targets(y_pred)
        parameters, y, weights = in_use(self.forecast, y_true, y_pred, mask, sample_weight)
        if mask is not None:
            set_keras_mask(parameters, mask)
        return super().__call__(y, parameters, weights)

    def get_config(self) -> dict[str, Any]:
        forecast = keras.saving.serialize_keras_object(self.forecast)
        return {**super().get_config(), "forecast": forecast}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ForecastLoss":
        return cls(**deserialized(config))


@keras.saving.register_keras_serializable(package="kerasrnn")
class NegativeLogLikelihood(ForecastLoss):
    """The negative log-likelihood of targets, for models that predict a distribution.

        l = - log p(y)

    Its differences are what matters: densities may be above 1, and the loss below 0. It is averaged
    over the targets in use, as Keras's losses are, and computed in float32.

    Args:
        forecast: a distribution of `kerasrnn.distributions`, the one of the model's last layer,
            `kerasrnn.ForecastParameters`.
        reduction: as in Keras.
        name: name of the loss.

    Call arguments:
        y_true: targets, `(batch, ..., size)`; the last axis may be missing if the size is 1.
        y_pred: parameters, `(batch, ..., count)`.
        sample_weight: of rows, `(batch,)` or `(batch, 1)`, or of steps, `(batch, time)`.

    Returns:
        A scalar, in nats per target; `(batch, ...)` without a reduction.

    Masking: masked steps of the predictions are excluded. Neither predictions nor targets there
    have an influence, even NaN; nor those of weight 0.

    Raises:
        ValueError: `forecast` is not a distribution; the shapes do not match; a target in use is
            NaN or impossible, such as a negative count. Where values are unknown, in a graph or
            under `jit`, the loss is NaN instead.

    Example:

        >>> import numpy as np, kerasrnn
        >>> loss = kerasrnn.losses.NegativeLogLikelihood(kerasrnn.distributions.Normal())
        >>> p = np.array([[0.0, 1.0], [5.0, 2.0]], "float32")
        >>> round(float(loss(np.array([0.0, 5.0]), p)), 4)       # log(2 pi) / 2 + log(2) / 2
        1.2655
    """

    kind = Distribution

    @validation.checked
    def __init__(
        self,
        forecast: Distribution,
        reduction: Reduction = "sum_over_batch_size",
        name: str = "negative_log_likelihood",
    ) -> None:
        super().__init__(forecast, reduction, name)

    def score(self, parameters: Tensor, y: Tensor) -> Tensor:
        return -self.forecast.log_prob(parameters, y)


@keras.saving.register_keras_serializable(package="kerasrnn")
class QuantileLoss(ForecastLoss):
    """The pinball loss of quantiles (Koenker & Bassett 1978, "Regression quantiles").

        l = mean_tau max(tau e, (tau - 1) e),   e = (y - q_tau) / std

    the mean over the levels tau and the numbers of a target. It is the smallest if q_tau is the
    quantile. It is in units of `std`, so that its gradients do not depend on those of the targets.

    Args:
        forecast: a `kerasrnn.distributions.Quantiles`.
        reduction: as in Keras.
        name: name of the loss.

    Call arguments:
        y_true: targets, `(batch, ..., size)`; the last axis may be missing if the size is 1.
        y_pred: quantiles, `(batch, ..., count)`.
        sample_weight: of rows, `(batch,)` or `(batch, 1)`, or of steps, `(batch, time)`.

    Returns:
        A scalar; `(batch, ...)` without a reduction.

    Masking: see `NegativeLogLikelihood`.

    Raises:
        ValueError: `forecast` is not `Quantiles`; the shapes do not match; a target in use is not
            finite: see `NegativeLogLikelihood`.

    Example:

        >>> import numpy as np, kerasrnn
        >>> loss = kerasrnn.losses.QuantileLoss(kerasrnn.distributions.Quantiles((0.1, 0.5)))
        >>> round(float(loss(np.array([2.0]), np.array([[1.0, 4.0]], "float32"))), 4)
        0.55
    """

    kind = Quantiles

    @validation.checked
    def __init__(
        self,
        forecast: Quantiles,
        reduction: Reduction = "sum_over_batch_size",
        name: str = "quantile_loss",
    ) -> None:
        super().__init__(forecast, reduction, name)

    def score(self, parameters: Tensor, y: Tensor) -> Tensor:
        of_levels = ops.mean(self.forecast.pinball(parameters, y), axis=-1)
        return ops.mean(of_levels / _std(self.forecast, y), axis=-1)


@keras.saving.register_keras_serializable(package="kerasrnn")
class StandardizedSquaredError(ForecastLoss):
    """The mean squared error in units of the standard deviation of the targets.

        l = mean ((y - z) / std)^2

    for predictions z, the mean over the numbers of a target. The units of the targets have no
    influence on its gradients with respect to the outputs of the dense layer.

    Args:
        forecast: a `kerasrnn.distributions.Point`.
        reduction: as in Keras.
        name: name of the loss.

    Call arguments:
        y_true: targets, `(batch, ..., size)`; the last axis may be missing if the size is 1.
        y_pred: predictions, `(batch, ..., size)`.
        sample_weight: of rows, `(batch,)` or `(batch, 1)`, or of steps, `(batch, time)`.

    Returns:
        A scalar; `(batch, ...)` without a reduction.

    Masking: see `NegativeLogLikelihood`.

    Raises:
        ValueError: `forecast` is not a `Point`; the shapes do not match; a target in use is not
            finite: see `NegativeLogLikelihood`.

    Example:

        >>> import numpy as np, kerasrnn
        >>> point = kerasrnn.distributions.Point(std=10.0)
        >>> loss = kerasrnn.losses.StandardizedSquaredError(point)
        >>> float(loss(np.array([105.0]), np.array([[100.0]], "float32")))
        0.25
    """

    kind = Point

    @validation.checked
    def __init__(
        self,
        forecast: Point,
        reduction: Reduction = "sum_over_batch_size",
        name: str = "standardized_squared_error",
    ) -> None:
        super().__init__(forecast, reduction, name)

    def score(self, parameters: Tensor, y: Tensor) -> Tensor:
        return ops.mean(ops.square((y - parameters) / _std(self.forecast, y)), axis=-1)


def checked_forecast(forecast: Any, kind: type[Forecast] = Forecast) -> Any:
    """Return a forecast of a kind.

    Raises:
        ValueError: it is another one, or none.
    """
    if not isinstance(forecast, kind):
        names = {Forecast: "forecast", Distribution: "distribution"}
        what = names.get(kind, kind.__name__)
        raise ArgumentError("forecast", forecast, f"a {what} of kerasrnn.distributions")
    return forecast


def deserialized(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration, with its forecast."""
    return {**config, "forecast": keras.saving.deserialize_keras_object(config["forecast"])}


def in_use(
    forecast: Forecast,
    y_true: Any,
    y_pred: Any,
    mask: Tensor | None = None,
    sample_weight: Any = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The parameters, the targets `(batch, ..., size)`, and the weights, if any, in the rank of the
    losses.

    Parameters and targets that are masked or have the weight 0 become others, which are possible.

    Raises:
        ValueError: the shapes do not match, or a target in use is known to be impossible.
    """
    y_pred = validation.tensor("y_pred", y_pred)
    if len(y_pred.shape) < 2 or y_pred.shape[-1] != forecast.count:
        raise ValueError(
            f"y_pred of the shape {tuple(y_pred.shape)}: expected parameters (batch, ..., "
            f"{forecast.count}) for {forecast!r}."
        )
    parameters = full_precision(y_pred)
    y = ops.cast(validation.tensor("y_true", y_true), parameters.dtype)
    shape = (*parameters.shape[:-1], forecast.size)
    if forecast.size == 1 and len(y.shape) == len(shape) - 1:
        y = ops.expand_dims(y, -1)
    if not fits(y.shape, shape):
        raise ValueError(f"y_true of the shape {tuple(y.shape)}: expected {shape}.")
    weights, used = None, mask
    if sample_weight is not None:
        weights = as_weights(sample_weight, keras.backend.standardize_dtype(parameters.dtype))
        weights = of_targets("sample_weight", weights, parameters)
        used = weights != 0
        used = used if mask is None else ops.logical_and(used, mask)
    if used is not None:
        used = ops.expand_dims(used, -1)
        origin = ops.zeros((1,) * (len(shape) - 1) + (forecast.count,), dtype=parameters.dtype)
        parameters = ops.where(used, parameters, ops.stop_gradient(forecast.parameters(origin)))
        y = ops.where(used, y, 0)
    _check_support(forecast, y)
    return parameters, y, weights


def mask_of_targets(y_pred: Tensor) -> Tensor | None:
    """The mask that Keras attached to predictions `(batch, ..., count)`, if any, of each target:
    boolean, `(batch, ...)`."""
    mask = mask_of(y_pred)
    return None if mask is None else of_targets("mask", ops.cast(mask, "bool"), y_pred)


def _check_support(forecast: Forecast, y: Tensor) -> None:
    """Raise ValueError if a target is known to be impossible."""
    if not is_concrete(y):
        return
    wrong = ~ops.convert_to_numpy(forecast.supported(y))
    if wrong.any():
        index = tuple(map(int, np.unravel_index(wrong.argmax(), wrong.shape)))
        place = f"y_true[{', '.join(map(str, index))}]"
        raise ArgumentError(place, float(ops.convert_to_numpy(y)[index]), forecast.support)


def _std(forecast: Forecast, like: Tensor) -> Tensor:
    std = 1.0 if forecast.std is None else forecast.std
    return ops.convert_to_tensor(std, dtype=keras.backend.standardize_dtype(like.dtype))
