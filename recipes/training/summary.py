"""What a training is going to take, told before it begins."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

from kerasrnn.recipes.recipe import Data
from kerasrnn.recipes.training.execution import Placement
from kerasrnn.recipes.training.progress import size

LOOKED_AT = 256
"""Test examples, whose longest says how long sequences are."""

ADAM = 4
"""Numbers for each weight: itself, its gradient, and its two moments."""


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
    """Of a device: weights, gradients, and what the optimizer remembers."""

    activations_bytes: int
    """Of a device, about: what a step's forward pass keeps for its backward pass, and gradients of
    it."""

    def __str__(self) -> str:
        return (
            f"{self.steps} steps an epoch; {self.parameters:,} parameters; memory of a device, "
            f"about: {size(self.weights_bytes)} for weights and optimizer, "
            f"{size(self.activations_bytes)} for {self.batch} examples at once"
        )


def of(
    model: keras.Model, data: Data, batch_size: int, steps: int, placement: Placement
) -> Summary:
    """The summary of a training.

    Args:
        model: in training.
        data: of the recipe.
        batch_size: of a step, over all devices.
        steps: of an epoch.
        placement: the devices.
    """
    rows = batch_size // placement.replicas // placement.execution.accumulate
    width = 4 if placement.execution.precision == "float32" else 2
    numbers = sum(_kept(layer, rows, _longest(data)) for layer in model.layers)
    weights = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    return Summary(
        examples=data.train_size,
        steps=steps,
        batch=rows,
        parameters=model.count_params(),
        weights_bytes=4 * ADAM * weights,
        activations_bytes=2 * width * numbers,
    )


def _longest(data: Data) -> int:
    """Steps of the longest sequence, of those that are looked at; 1: there are none."""
    lengths = [1]
    for example in data.test.take(LOOKED_AT).as_numpy_iterator():
        shapes = [value.shape for value in keras.tree.flatten(example) if hasattr(value, "shape")]
        lengths.append(max((shape[0] for shape in shapes if shape), default=1))
    return max(lengths)


def _kept(layer: keras.layers.Layer, rows: int, steps: int) -> int:
    """Numbers that a layer's outputs have, and, of a recurrent one, its gates."""
    if isinstance(layer, keras.layers.InputLayer):
        return 0
    total = 0
    for tensor in keras.tree.flatten(layer.output):
        # The first axis is that of the rows; another whose size is not known is time.
        known = [steps if size is None else size for size in tensor.shape[1:]]
        total += rows * math.prod(known)
    kernels = {}
    for part in layer._flatten_layers():  # has no public name
        kernel = getattr(part, "recurrent_kernel", None)
        if kernel is not None:
            kernels[id(kernel)] = kernel  # a layer has that of its cell
    return total + sum(
        rows * steps * (kernel.shape[-1] + 2 * kernel.shape[0]) for kernel in kernels.values()
    )


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
