"""The layer of outputs that are forecasts."""

from typing import Any

import keras

import kerasrnn
from kerasrnn.base_layer import BaseLayer
from kerasrnn.distributions.forecast import Forecast

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class ForecastLayer(BaseLayer):
    """A dense layer and the `kerasrnn.ForecastParameters` of its outputs.

    Args:
        forecast: see `ForecastParameters`.
    """

    def __init__(self, forecast: Forecast, **kwargs: Any) -> None:
        policy = keras.dtype_policies.get(kwargs.pop("dtype", None) or keras.config.dtype_policy())
        super().__init__(dtype=policy.variable_dtype, **kwargs)
        self.forecast = forecast
        self.dense = keras.layers.Dense(forecast.count, dtype=self.dtype_policy, name="dense")
        self.into_parameters = kerasrnn.ForecastParameters(forecast, dtype=self.dtype_policy)
        self.supports_masking = True

    def build(self, features_shape: Any) -> None:
        self.dense.build(features_shape)
        self.into_parameters.build((*features_shape[:-1], self.forecast.count))
        self.built = True

    def call(self, features: Tensor) -> Tensor:
        return self.into_parameters(self.dense(features))

    def get_config(self) -> dict[str, Any]:
        forecast = keras.saving.serialize_keras_object(self.forecast)
        return {**super().get_config(), "forecast": forecast}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "ForecastLayer":
        forecast = keras.saving.deserialize_keras_object(config["forecast"], custom_objects)
        return cls(**{**config, "forecast": forecast})
