"""What MUT1 and MUT2 share: a gate that reads the inputs without weights."""

from typing import Any

from keras import ops

Tensor = Any


def with_identity(kernel: Tensor, units: int, block: int) -> Tensor:
    """Insert the identity as a block of columns, unless the kernel has all three blocks.

    Args:
        kernel: `(features, 3 * units)`, or `(units, 2 * units)` without the block.
        units: the width of a block.
        block: the block's place.
    """
    if kernel.shape[-1] == 3 * units:
        return kernel
    blocks = ops.split(kernel, 2, axis=-1)
    blocks.insert(block, ops.eye(units, dtype=kernel.dtype))
    return ops.concatenate(blocks, axis=-1)
