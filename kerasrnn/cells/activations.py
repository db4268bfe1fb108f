"""Activations of adjacent gates, and their derivatives in terms of their values."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

Tensor = Any
Activation = Callable[[Tensor], Tensor]

# The derivative at x as a function of y = activation(x), so that the backward pass needs no x.
DERIVATIVES: dict[Activation, Activation] = {
    keras.activations.tanh: lambda y: 1 - y * y,
    keras.activations.sigmoid: lambda y: y * (1 - y),
    keras.activations.relu: lambda y: ops.cast(y > 0, y.dtype),
    keras.activations.linear: ops.ones_like,
}

# scale * tanh(scale * x) + 1 - scale
_SCALES = {keras.activations.tanh: 1.0, keras.activations.sigmoid: 0.5}


def activate(p: Tensor, activations: Sequence[Activation]) -> Tensor:
    """Apply one activation to each block of columns of p, `(batch, gates * units)`.

    Adjacent gates of sigmoid and tanh are computed as one tanh, since

        sigmoid(x) = tanh(x / 2) / 2 + 1 / 2,

    which takes one kernel and one stored array instead of one per gate.
    """
    if len(set(activations)) == 1:
        return activations[0](p)
    if all(activation in _SCALES for activation in activations):
        units = p.shape[-1] // len(activations)
        scales = np.repeat([_SCALES[activation] for activation in activations], units)
        scale = ops.convert_to_tensor(scales, dtype=p.dtype)
        return scale * ops.tanh(scale * p) + (1 - scale)
    blocks = ops.split(p, len(activations), axis=-1)
    return ops.concatenate(
        [activation(block) for activation, block in zip(activations, blocks, strict=True)], axis=-1
    )
