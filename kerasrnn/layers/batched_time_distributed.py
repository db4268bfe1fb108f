"""Applies a layer to every step of a sequence, such as an image encoder to video frames."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.base_layer import BaseLayer
from kerasrnn.keras_internals import takes_training

Tensor = Any


def batched_over_time(function: Callable[[Tensor], Tensor], sequences: Tensor) -> Tensor:
    """Apply a function of a step, `(batch, ...)`, to all steps of `(batch, time, ...)` at once."""
    batch, time, *step = ops.shape(sequences)
    y = function(ops.reshape(sequences, (-1, *step)))
    return ops.reshape(y, (batch, time, *ops.shape(y)[1:]))


@keras.saving.register_keras_serializable(package="kerasrnn")
class BatchedTimeDistributed(BaseLayer):
    """Applies a layer to all steps of a sequence at once.

        y_t = layer(x_t)

    The layer receives the steps of all rows as one batch, `(batch * time, ...)`, in a single call,
    for any number of steps, which may be unknown. `keras.layers.TimeDistributed` calls the layer
    once per step.

    Args:
        layer: a layer or a model from one step, `(batch, ...)`, to one tensor.
        padding: a step is masked if all its entries have this value; None masks none.

    Call arguments:
        sequences: `(batch, time, ...)`.
        training: passed to the layer, if it takes this argument.

    Returns:
        `(batch, time, ...)`, where `...` is the shape of the layer's output for one step.

    Masking: the layer also processes masked steps. Their outputs are marked in the output mask: the
    mask from `padding`, combined with the mask of the sequences, if any.

    Raises:
        ValueError: `layer` is not a layer; the sequences have fewer than three axes.

    Example:

        >>> import keras, numpy as np, kerasrnn
        >>> encoder = keras.Sequential([keras.layers.Conv2D(4, 3), keras.layers.Flatten()])
        >>> layer = kerasrnn.BatchedTimeDistributed(encoder)
        >>> tuple(layer(np.ones((2, 5, 8, 8, 1), "float32")).shape)
        (2, 5, 144)
    """

    @validation.checked
    def __init__(
        self, layer: keras.layers.Layer, padding: float | None = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.layer = layer
        self.padding = padding
        self.supports_masking = True
        self.input_spec = keras.layers.InputSpec(min_ndim=3)

    def build(self, sequences_shape: Any) -> None:
        if not self.layer.built:
            self.layer.build((None, *sequences_shape[2:]))
        self.built = True

    def call(self, sequences: Tensor, training: bool | None = None) -> Tensor:
        options = {"training": training} if takes_training(self.layer) else {}
        return batched_over_time(lambda steps: self.layer(steps, **options), sequences)

    def compute_output_shape(self, sequences_shape: Any) -> tuple[int | None, ...]:
        batch, time, *step = sequences_shape
        return (batch, time, *self.layer.compute_output_shape((None, *step))[1:])

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor | None:
        if self.padding is None:
            return mask
        used = ops.any(ops.not_equal(inputs, self.padding), axis=tuple(range(2, len(inputs.shape))))
        return used if mask is None else ops.logical_and(used, ops.cast(mask, "bool"))

    def get_config(self) -> dict[str, Any]:
        layer = keras.saving.serialize_keras_object(self.layer)
        layer.pop("build_config", None)
        return {**super().get_config(), "layer": layer, "padding": self.padding}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "BatchedTimeDistributed":
        layer = keras.saving.deserialize_keras_object(config["layer"])
        return cls(**{**config, "layer": layer})
