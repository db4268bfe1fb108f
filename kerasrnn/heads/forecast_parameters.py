"""The layer from any numbers to the parameters of a forecast."""

from typing import Any

import keras
from keras import ops

from kerasrnn.base_layer import BaseLayer
from kerasrnn.distributions.forecast import Forecast
from kerasrnn.validation import ArgumentError

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class ForecastParameters(BaseLayer):
    """The parameters of a distribution, or quantiles, in the units of the targets.

        y_t = parameters(x_t)

    for the outputs x of a `keras.layers.Dense(forecast.count)` without activation: means, which may
    be any numbers, scales, which are positive, quantiles, which do not cross. The class of the
    forecast has the equations. Train with `kerasrnn.losses.NegativeLogLikelihood` or `QuantileLoss`
    and evaluate with `kerasrnn.metrics.CRPS`, `Coverage` and `CalibrationError`, which take the
    same forecast. The layer has no weights, and computes in float32 under mixed precision, too.

    Args:
        forecast: a forecast of `kerasrnn.distributions`, such as `Normal()`.

    Call arguments:
        inputs: x, `(batch, ..., forecast.count)`.

    Returns:
        The parameters, `(batch, ..., forecast.count)`: `forecast.split` names them.

    Masking: the mask is passed on.

    Raises:
        ValueError: `forecast` is not one of `kerasrnn.distributions`, or the last axis of the
            inputs has another size.

    Example:

        >>> import keras, kerasrnn
        >>> normal = kerasrnn.distributions.Normal(mean=20.0, std=8.0)
        >>> x = keras.Input((None, 3))
        >>> h = keras.layers.Dense(normal.count)(kerasrnn.GRU(8)(x))
        >>> model = keras.Model(x, kerasrnn.ForecastParameters(normal)(h))
        >>> metrics = [kerasrnn.metrics.CRPS(normal)]
        >>> model.compile("adam", kerasrnn.losses.NegativeLogLikelihood(normal), metrics=metrics)
        >>> p = model.predict(keras.ops.ones((2, 5, 3)), verbose=0)
        >>> tuple(normal.sample(p, n=100, seed=1).shape)
        (100, 2, 1)
    """

    def __init__(self, forecast: Forecast, **kwargs: Any) -> None:
        if not isinstance(forecast, Forecast):
            raise ArgumentError(
                "forecast", forecast, "a forecast of kerasrnn.distributions, such as Normal()"
            )
        policy = keras.dtype_policies.get(kwargs.pop("dtype", None) or keras.config.dtype_policy())
        super().__init__(dtype=policy.variable_dtype, autocast=False, **kwargs)
        self.forecast = forecast
        self.supports_masking = True

    def build(self, inputs_shape: Any) -> None:
        if inputs_shape[-1] != self.forecast.count:
            raise ValueError(
                f"{self.name}: inputs of the shape {tuple(inputs_shape)}; expected (batch, ..., "
                f"{self.forecast.count}), the outputs of keras.layers.Dense({self.forecast.count})."
            )
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        return ops.cast(self.forecast.parameters(inputs), self.compute_dtype)

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        return keras.KerasTensor(inputs.shape, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        forecast = keras.saving.serialize_keras_object(self.forecast)
        return {**super().get_config(), "forecast": forecast}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Any = None
    ) -> "ForecastParameters":
        forecast = keras.saving.deserialize_keras_object(config["forecast"], custom_objects)
        return cls(**{**config, "forecast": forecast})
