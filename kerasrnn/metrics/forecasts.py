"""How good forecasts are: their score, the coverage of their intervals, their calibration."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.distributions.forecast import Forecast
from kerasrnn.distributions.quantiles import Quantiles
from kerasrnn.losses.forecasts import checked_forecast, deserialized, in_use, mask_of_targets
from kerasrnn.validation import ArgumentError

Tensor = Any


class _ForecastMetric(keras.metrics.Mean):
    """The mean of a score over targets in use and their numbers."""

    def __init__(self, forecast: Forecast, name: str, dtype: Any) -> None:
        super().__init__(name=name, dtype=dtype)
        self.forecast = checked_forecast(forecast)

    def score(self, parameters: Tensor, y: Tensor) -> Tensor:
        """`(..., size)`"""
        raise NotImplementedError(f"{type(self).__name__} must define `score`.")

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        parameters, y, weights = _weighed(self.forecast, y_true, y_pred, sample_weight)
        values = ops.mean(self.score(parameters, y), axis=-1)
        # One axis: Keras would divide by the length of further axes.
        super().update_state(ops.reshape(values, (-1,)), ops.reshape(weights, (-1,)))

    def get_config(self) -> dict[str, Any]:
        forecast = keras.saving.serialize_keras_object(self.forecast)
        return {"forecast": forecast, **super().get_config()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "_ForecastMetric":
        return cls(**deserialized(config))


@keras.saving.register_keras_serializable(package="kerasrnn")
class CRPS(_ForecastMetric):
    """The continuous ranked probability score: how far a forecast is from the target.

        CRPS(F, y) = integral (F(x) - [x >= y])^2 dx = E|Y - y| - E|Y - Y'| / 2

    for independent Y and Y' from the forecast (Gneiting & Raftery 2007, "Strictly proper scoring
    rules, prediction, and estimation"). It has the unit of the targets; that of a `Point` is its
    absolute error, so forecasts of both kinds can be compared. That of a distribution is exact, and
    of `Quantiles` twice the mean pinball loss of its levels. With several numbers in a target, it
    is the mean of theirs, and of a `Mixture`'s flag Brier's score.

    Args:
        forecast: a forecast of `kerasrnn.distributions`, the one of the predictions.
        name: name of the metric.
        dtype: dtype of its sums.

    Call arguments:
        y_true: targets, `(batch, ..., size)`; the last axis may be missing if the size is 1.
        y_pred: parameters, `(batch, ..., count)`.
        sample_weight: of rows, `(batch,)` or `(batch, 1)`, or of steps, `(batch, time)`.

    Masking: if the predictions have a mask, its masked steps are excluded.

    Raises:
        ValueError: `forecast` is not one of `kerasrnn.distributions`, or the shapes do not match.

    Example:

        >>> import numpy as np, kerasrnn
        >>> metric = kerasrnn.metrics.CRPS(kerasrnn.distributions.Normal())
        >>> metric.update_state(np.array([0.0]), np.array([[0.0, 1.0]]))
        >>> round(float(metric.result()), 4)                  # (sqrt(2) - 1) / sqrt(pi)
        0.2337
    """

    _direction = "down"  # used by callbacks with mode="auto"

    @validation.checked
    def __init__(self, forecast: Forecast, name: str = "crps", dtype: Any = None) -> None:
        super().__init__(forecast, name, dtype)

    def score(self, parameters: Tensor, y: Tensor) -> Tensor:
        return self.forecast.crps(parameters, y)


@keras.saving.register_keras_serializable(package="kerasrnn")
class Coverage(_ForecastMetric):
    """The fraction of targets in the central interval of the forecast.

        mean [q_{(1 - level) / 2} < y <= q_{(1 + level) / 2}]

    It is `level` if the forecast is right. Of a count that is a bound of the interval, the part is
    counted that makes this hold.

    Args:
        forecast: a forecast of `kerasrnn.distributions`. `Quantiles` needs the levels
            (1 - level) / 2 and (1 + level) / 2.
        level: the probability of the interval, in (0, 1).
        name: name of the metric.
        dtype: dtype of its sums.

    Call arguments:
        y_true: targets, `(batch, ..., size)`; the last axis may be missing if the size is 1.
        y_pred: parameters, `(batch, ..., count)`.
        sample_weight: of rows, `(batch,)` or `(batch, 1)`, or of steps, `(batch, time)`.

    Masking: if the predictions have a mask, its masked steps are excluded.

    Raises:
        ValueError: `forecast` is not one of `kerasrnn.distributions` or has no such interval, the
            level is out of its range, or the shapes do not match.

    Example:

        >>> import numpy as np, kerasrnn
        >>> metric = kerasrnn.metrics.Coverage(kerasrnn.distributions.Normal(), level=0.9)
        >>> metric.update_state(np.array([1.6, 1.7]), np.array([[0.0, 1.0], [0.0, 1.0]]))
        >>> float(metric.result())
        0.5
    """

    @validation.checked
    def __init__(
        self, forecast: Forecast, level: float = 0.9, name: str = "coverage", dtype: Any = None
    ) -> None:
        super().__init__(forecast, name, dtype)
        self.level = validation.number("level", level, above=0, below=1)
        for sign, bound in zip("-+", self._bounds(), strict=True):
            forecast.check_level(f"(1 {sign} level) / 2", bound)

    def _bounds(self) -> tuple[float, float]:
        return (1 - self.level) / 2, (1 + self.level) / 2

    def score(self, parameters: Tensor, y: Tensor) -> Tensor:
        low, high = (self.forecast.below(parameters, y, bound) for bound in self._bounds())
        return high - low

    def get_config(self) -> dict[str, Any]:
        return {"level": self.level, **super().get_config()}


@keras.saving.register_keras_serializable(package="kerasrnn")
class CalibrationError(keras.metrics.Metric):
    """How far the quantiles of a forecast are from their levels.

        mean_tau |mean [y <= q_tau] - tau|

    over some levels tau. It is 0 if each quantile is above the fraction of targets that it should
    be above; `by_level` returns these fractions.

    Args:
        forecast: a forecast of `kerasrnn.distributions`.
        levels: probabilities in (0, 1). Default: those of `Quantiles`, or 0.1, 0.2, ..., 0.9.
        name: name of the metric.
        dtype: dtype of its sums.

    Call arguments:
        y_true: targets, `(batch, ..., size)`; the last axis may be missing if the size is 1.
        y_pred: parameters, `(batch, ..., count)`.
        sample_weight: of rows, `(batch,)` or `(batch, 1)`, or of steps, `(batch, time)`.

    Masking: if the predictions have a mask, its masked steps are excluded.

    Raises:
        ValueError: `forecast` is not one of `kerasrnn.distributions` or has no such quantiles, a
            level is out of its range, or the shapes do not match.

    Example: the median should be above one of two targets.

        >>> import numpy as np, kerasrnn
        >>> metric = kerasrnn.metrics.CalibrationError(kerasrnn.distributions.Normal(), [0.5])
        >>> metric.update_state(np.array([-1.0, -2.0]), np.array([[0.0, 1.0], [0.0, 1.0]]))
        >>> float(metric.result()), metric.by_level()
        (0.5, {0.5: 1.0})
    """

    _direction = "down"  # used by callbacks with mode="auto"

    @validation.checked
    def __init__(
        self,
        forecast: Forecast,
        levels: Sequence[float] | None = None,
        name: str = "calibration_error",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.forecast = checked_forecast(forecast)
        if levels is None:
            tenths = [n / 10 for n in range(1, 10)]
            levels = forecast.levels if isinstance(forecast, Quantiles) else tenths
        levels = validation.sequence("levels", levels)
        self.levels = [
            validation.number(f"levels[{n}]", level, above=0, below=1)
            for n, level in enumerate(levels)
        ]
        if not self.levels:
            raise ArgumentError("levels", levels, "at least one probability")
        for n, level in enumerate(self.levels):
            forecast.check_level(f"levels[{n}]", level)
        self.total = self.add_variable((len(self.levels),), "zeros", name="total")
        self.count = self.add_variable((), "zeros", name="count")

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        parameters, y, weights = _weighed(self.forecast, y_true, y_pred, sample_weight)
        sums = []
        for level in self.levels:
            below = ops.mean(self.forecast.below(parameters, y, level), axis=-1)
            sums.append(ops.sum(weights * below))
        self.total.assign_add(ops.cast(ops.stack(sums), self.total.dtype))
        self.count.assign_add(ops.cast(ops.sum(weights), self.count.dtype))

    def _fractions(self) -> Tensor:
        return ops.divide_no_nan(self.total, self.count)

    def by_level(self) -> dict[float, float]:
        """The fraction of targets below the quantile of each level."""
        return dict(zip(self.levels, ops.convert_to_numpy(self._fractions()).tolist(), strict=True))

    def result(self) -> Tensor:
        levels = ops.convert_to_tensor(self.levels, dtype=self.dtype)
        error = ops.mean(ops.abs(self._fractions() - levels))
        return ops.where(self.count > 0, error, 0)

    def get_config(self) -> dict[str, Any]:
        forecast = keras.saving.serialize_keras_object(self.forecast)
        return {"forecast": forecast, "levels": self.levels, **super().get_config()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "CalibrationError":
        return cls(**deserialized(config))


def _weighed(
    forecast: Forecast, y_true: Any, y_pred: Any, sample_weight: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """The parameters, the targets and the weight of each target; 0 where it is masked."""
    mask = mask_of_targets(y_pred)
    parameters, y, weights = in_use(forecast, y_true, y_pred, mask, sample_weight)
    total = ops.ones_like(parameters[..., 0]) if weights is None else weights
    return parameters, y, total if mask is None else ops.where(mask, total, 0)
