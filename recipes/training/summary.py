"""What a training is going to take, told before it begins."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

from kerasrnn.keras_internals import flatten_layers
from kerasrnn.recipes.training.batches import Batches
from kerasrnn.recipes.training.execution import Placement
from kerasrnn.recipes.training.progress import size
from kerasrnn.wording import counted

LOOKED_AT = 2000
"""Training examples, whose longest batch says how long sequences are."""

ADAM = 5
"""Numbers for each weight: itself, its gradient, this clipped, and its two moments."""


@dataclass(frozen=True)
class Summary:
    """Sizes of a training."""

    examples: int
    steps: int
    """Of an epoch."""

    batch: int
    """Examples of a step that a device computes at once."""

    parameters: int
    weights_bytes: int
    """Of a device: weights, gradients, their sums over parts, and what the optimizer remembers."""

    activations_bytes: int
    """Of a device, about: what a step's forward pass keeps for its backward pass, and gradients of
    it."""

    def __str__(self) -> str:
        return (
            f"{counted(self.steps, 'step')} an epoch; {self.parameters:,} parameters; memory of a "
            f"device, about: {size(self.weights_bytes)} for weights and optimizer, "
            f"{size(self.activations_bytes)} for {counted(self.batch, 'example')} at once"
        )


def of(model: keras.Model, batches: Batches, placement: Placement) -> Summary:
    """The summary of a training.

    Args:
        model: in training.
        batches: that it is trained on.
        placement: the devices.
    """
    rows = batches.batch_size // placement.replicas // placement.execution.accumulate
    width = 4 if placement.execution.precision == "float32" else 2
    steps = _longest(model, batches)
    numbers = sum(_kept(layer, rows, steps) for layer in model.layers)
    weights = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    return Summary(
        examples=batches.size,
        steps=batches.steps,
        batch=rows,
        parameters=model.count_params(),
        weights_bytes=4 * (ADAM + (placement.execution.accumulate > 1)) * weights,
        activations_bytes=2 * width * numbers,
    )


def _longest(model: keras.Model, batches: Batches) -> int:
    """Steps of the longest sequence, of those that are looked at; 1: there are none."""
    inputs = keras.tree.flatten(model.input)
    lengths = [1]
    for batch in batches.some(LOOKED_AT):
        x, *_ = keras.utils.unpack_x_y_sample_weight(batch)
        for entry, value in zip(inputs, keras.tree.flatten(x), strict=True):
            if entry.shape[1:2] == (None,):  # rows of a picture, say, are known beforehand
                lengths.append(value.shape[1])
    return max(lengths)


def _kept(layer: keras.layers.Layer, rows: int, steps: int) -> int:
    """Numbers that a layer's outputs have, and, of a recurrent one, its gates."""
    if isinstance(layer, keras.layers.InputLayer):
        return 0
    if isinstance(layer, keras.Model) and hasattr(layer, "inputs"):  # functional, or sequential
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
    # Of all steps at once: what comes from the inputs, the gates, and the states.
    return total + sum(
        rows * steps * (2 * kernel.shape[-1] + kernel.shape[0]) for kernel in kernels.values()
    )


def _size(tensor: keras.KerasTensor, rows: int, steps: int) -> int:
    # The first axis is that of the rows; another whose size is not known is time.
    return rows * math.prod(steps if size is None else size for size in tensor.shape[1:])


def peak() -> Mapping[str, Any]:
    """The most memory that was taken so far: of this process, and of its first GPU."""
    import tensorflow as tf

    found = {}
    try:
        import resource
        import sys

        unit = 1 if sys.platform == "darwin" else 1024
        found["process"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    except ImportError:  # on Windows
        pass
    if tf.config.list_logical_devices("GPU"):
        found["gpu"] = tf.config.experimental.get_memory_info("GPU:0")["peak"]
    return found
