"""Estimate of a training's time and memory, reported before it starts."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

from kerasrnn.keras_internals import flatten_layers
from kerasrnn.training.batches import Batches
from kerasrnn.training.placement import Placement
from kerasrnn.training.progress import size
from kerasrnn.wording import counted

LOOKED_AT = 2000
"""Number of training examples from which the sequence length is estimated."""

ADAM = 5
"""Values per weight: itself, its gradient, the clipped gradient, and two moments."""


@dataclass(frozen=True)
class Summary:
    """Sizes of a training."""

    examples: int
    steps: int
    """Steps per epoch."""

    batch: int
    """Examples that a device computes at once."""

    parameters: int
    weights_bytes: int
    """Per device: weights, gradients, their sums over parts, and optimizer state."""

    activations_bytes: int
    """Per device, estimated: activations stored for the backward pass, and their gradients."""

    def __str__(self) -> str:
        return (
            f"{counted(self.steps, 'step')} per epoch; {self.parameters:,} parameters; memory per "
            f"device, about {size(self.weights_bytes)} for weights and optimizer, "
            f"{size(self.activations_bytes)} for {counted(self.batch, 'example')} at once"
        )


def of(model: keras.Model, batches: Batches, placement: Placement) -> Summary:
    """The summary of a training.

    Args:
        model: the model in training.
        batches: the training batches.
        placement: the devices.
    """
    rows = batches.batch_size // placement.replicas // placement.accumulate
    width = 4 if placement.precision == "float32" else 2
    steps = _longest(model, batches)
    numbers = sum(_kept(layer, rows, steps) for layer in model.layers)
    weights = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    return Summary(
        examples=batches.size,
        steps=batches.steps,
        batch=rows,
        parameters=model.count_params(),
        weights_bytes=4 * (ADAM + (placement.accumulate > 1)) * weights,
        activations_bytes=2 * width * numbers,
    )


def _longest(model: keras.Model, batches: Batches) -> int:
    """Length of the longest sequence among the examined ones; 1: no sequences."""
    inputs = keras.tree.flatten(model.input)
    lengths = [1]
    for batch in batches.some(LOOKED_AT):
        x, *_ = keras.utils.unpack_x_y_sample_weight(batch)
        for entry, value in zip(inputs, keras.tree.flatten(x), strict=True):
            if entry.shape[1:2] == (None,):  # static, such as the rows of an image
                lengths.append(value.shape[1])
    return max(lengths)


def _kept(layer: keras.layers.Layer, rows: int, steps: int) -> int:
    """Number of values in a layer's outputs and, for a recurrent layer, its gates."""
    if isinstance(layer, keras.layers.InputLayer):
        return 0
    if isinstance(layer, keras.Model) and hasattr(layer, "inputs"):  # functional or sequential
        return sum(_kept(inner, rows, steps) for inner in layer.layers)
    total = sum(_size(tensor, rows, steps) for tensor in keras.tree.flatten(layer.output))
    kernels = {}
    for part in flatten_layers(layer):
        kernel = getattr(part, "recurrent_kernel", None)
        if kernel is not None:
            kernels[id(kernel)] = kernel  # a layer has that of its cell
    if kernels:
        time = keras.tree.flatten(layer.input)[0].shape[1]
        steps = steps if time is None else time
    # For all steps: input projections, gates and states.
    return total + sum(
        rows * steps * (2 * kernel.shape[-1] + kernel.shape[0]) for kernel in kernels.values()
    )


def _size(tensor: keras.KerasTensor, rows: int, steps: int) -> int:
    # The first axis is the batch; another axis of unknown size is time.
    return rows * math.prod(steps if size is None else size for size in tensor.shape[1:])


def peak() -> Mapping[str, Any]:
    """The peak memory of this process and of its first GPU."""
    import tensorflow as tf

    peaks = {}
    try:
        import resource
        import sys

        unit = 1 if sys.platform == "darwin" else 1024
        peaks["process"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    except ImportError:  # on Windows
        pass
    if tf.config.list_logical_devices("GPU"):
        peaks["gpu"] = tf.config.experimental.get_memory_info("GPU:0")["peak"]
    return peaks
