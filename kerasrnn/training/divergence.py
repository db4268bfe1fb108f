"""Diagnosis of losses and gradients that are not finite."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasrnn.training.step import TrainingModel


def explain(model: TrainingModel, batch: Any) -> str:
    """Find the first values of a step that are not finite, and suggest a remedy.

    Args:
        model: the model before the step.
        batch: the batch of the step.
    """
    x, y, weights = keras.utils.unpack_x_y_sample_weight(batch)
    for name, value in (("inputs", x), ("targets", y), ("weights of the examples", weights)):
        if not _finite(value):
            return f"the {name} of this batch are not finite: check the data"
    for variable in model.weights:
        if not _finite(variable):
            return (
                f"the weights {variable.path} were not finite before the step; try a lower "
                "learning_rate"
            )
    names: list[str] = []
    with tf.GradientTape() as tape, _watched(model, names):
        predicted = model(x, training=True)
        loss = model.compute_loss(x, y, predicted, weights, training=True)
    if names:
        return (
            f"the layer {names[0]} is the first whose outputs are not finite; try a lower "
            "learning_rate, or clipping at a lower threshold"
        )
    if not _finite(loss):
        return (
            "the outputs are finite, but the loss is not: a target is not among the classes, or "
            "has a probability of zero; check the targets"
        )
    gradients = tape.gradient(loss, model.trainable_weights)
    # Backpropagation starts at the outputs.
    for variable, gradient in reversed(list(zip(model.trainable_weights, gradients, strict=True))):
        if gradient is not None and not _finite(tf.convert_to_tensor(gradient)):
            return (
                f"the loss is finite; going back from the outputs, the gradient of "
                f"{variable.path} is the first that is not; try a lower learning_rate, or shorter "
                "sequences"
            )
    return (
        "the step is finite when it is computed again: dropout drew different numbers, or sums "
        "were computed in a different order; try a lower learning_rate, or deterministic to "
        "reproduce it"
    )


class _watched:
    """A context that records, in order, the names of layers whose outputs are not finite."""

    def __init__(self, model: keras.Model, names: list[str]) -> None:
        self.layers = [
            layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)
        ]
        self.names = names

    def __enter__(self) -> None:
        for layer in self.layers:
            # An attribute of the object overrides the method of its class; a layer would track it.
            object.__setattr__(layer, "call", self._checked(layer))

    def __exit__(self, *error: Any) -> None:
        for layer in self.layers:
            object.__delattr__(layer, "call")

    def _checked(self, layer: keras.layers.Layer) -> Any:
        call = layer.call

        def checked(*args: Any, **kwargs: Any) -> Any:
            outputs = call(*args, **kwargs)
            if not _finite(outputs):
                self.names.append(f"{layer.name!r} ({type(layer).__name__})")
            return outputs

        return checked


def _finite(values: Any) -> bool:
    for value in keras.tree.flatten(values):
        if value is None:
            continue
        array = np.asarray(keras.ops.convert_to_numpy(value))
        if array.dtype.kind not in "fc" and array.dtype.name != "bfloat16":
            continue
        if not np.isfinite(array.astype("float32")).all():
            return False
    return True
