"""Convolutions of images with the channels last, with any number of spatial axes."""

import itertools
from collections.abc import Sequence

import numpy as np


def convolve(
    x: np.ndarray,
    kernel: np.ndarray,
    *,
    strides: Sequence[int] | None = None,
    padding: str = "same",
    dilation_rate: Sequence[int] | None = None,
) -> np.ndarray:
    """The sum over the kernel's positions of the products with the pixels below them.

    With padding="same" there are zeros around x, as many before as after it, or one more after, so
    that there is an output for every pixel of x (divided by the stride, rounded up).

    Args:
        x: (batch, *sizes, channels).
        kernel: (*kernel_size, channels, filters).
        strides: steps between outputs, for each spatial axis; default: 1.
        padding: "same" or "valid".
        dilation_rate: steps between positions of the kernel; default: 1.
    """
    size = kernel.shape[:-2]
    strides = strides or (1,) * len(size)
    dilation_rate = dilation_rate or (1,) * len(size)
    around, new_sizes = [(0, 0)], []
    for n, k, s, d in zip(x.shape[1:-1], size, strides, dilation_rate, strict=True):
        covered = (k - 1) * d + 1
        outputs = -(-n // s) if padding == "same" else (n - covered) // s + 1
        missing = max((outputs - 1) * s + covered - n, 0) if padding == "same" else 0
        around.append((missing // 2, missing - missing // 2))
        new_sizes.append(outputs)
    x = np.pad(x, [*around, (0, 0)])
    total = 0.0
    for position in itertools.product(*map(range, size)):
        pixels = tuple(
            slice(k * d, k * d + (outputs - 1) * s + 1, s)
            for k, d, outputs, s in zip(position, dilation_rate, new_sizes, strides, strict=True)
        )
        total = total + x[(slice(None), *pixels)] @ kernel[position]
    return total
