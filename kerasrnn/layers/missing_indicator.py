"""Missing values: replaced, and named."""

from typing import Any

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.base_layer import SequenceLayer

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class MissingIndicator(SequenceLayer):
    """Replaces missing values, NaN, and adds which they were.

        y = [where(m, v, x), m],   m = isnan(x)

    Whether a value is missing is often informative (Lipton, Kale & Wetzel 2016, "Directly modeling
    missing data in sequences with RNNs"). `GRUD` reads missing values itself.

    Args:
        fill_value: v, which replaces missing values; 0 is the mean of standardized features.

    Call arguments:
        inputs: x, `(..., features)`.

    Returns:
        y, `(..., 2 * features)`.

    Masking: the mask is passed on.

    Raises:
        ValueError: `fill_value` is not a finite number; the inputs have no axis of features, or one
            of unknown size.

    Example:

        >>> import numpy as np, kerasrnn
        >>> x = np.array([[[0.5, np.nan], [np.nan, 2.0]]], "float32")
        >>> np.asarray(kerasrnn.MissingIndicator()(x)).tolist()
        [[[0.5, 0.0, 0.0, 1.0], [0.0, 2.0, 1.0, 0.0]]]
    """

    @validation.checked
    def __init__(self, fill_value: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fill_value = fill_value
        self.supports_masking = True

    def build(self, inputs_shape: Any) -> None:
        if len(inputs_shape) < 2 or inputs_shape[-1] is None:
            raise ValueError(
                f"{self.name}: inputs of the shape {tuple(inputs_shape)}; expected (..., features) "
                "with a known number of features."
            )
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        x = self.in_compute_dtype(inputs)
        missing = ops.isnan(x)
        filled = ops.where(missing, ops.full_like(x, self.fill_value), x)
        return ops.concatenate([filled, ops.cast(missing, x.dtype)], axis=-1)

    def compute_output_shape(self, inputs_shape: Any) -> tuple[int | None, ...]:
        return (*inputs_shape[:-1], 2 * inputs_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "fill_value": self.fill_value}
