"""Sequences cut into segments, for `checkpoint_every`."""

import math
from collections.abc import Callable
from typing import Any

from keras import ops, tree

Tensor = Any


class Segments:
    """A sequence cut into segments of equal length, and the remaining steps, at least one.

    The last segment is not stacked with the others, since it may be shorter. If the number of steps
    is unknown when the graph is built, there may be no full segment. A loop needs at least one
    (TensorFlow cannot stack an empty list of tensors of unknown shape, and XLA cannot read from an
    empty array), so the first step is then run as a segment, and its results are discarded.
    """

    def __init__(self, checkpoint_every: int | str, x: Tensor) -> None:
        steps = ops.shape(x)[0]
        length = length_of(checkpoint_every, steps)
        full = (steps - 1) // length  # 0 only if the number of steps is unknown
        self.stacked = full * length
        self.known = isinstance(full, int)
        if not self.known:
            self.any = full > 0
            length, full = ops.where(self.any, length, 1), ops.maximum(full, 1)
        self.length, self.count = length, full

    def cut(self, xs: Any) -> tuple[Any, Any]:
        """All full segments, `(segments, steps, ...)`, and the remaining steps."""

        def stack(x: Tensor) -> Tensor:
            shape = (self.count, self.length, *ops.shape(x)[1:])
            return ops.reshape(x[: self.count * self.length], shape)

        return map_some(stack, xs), map_some(lambda x: x[self.stacked :], xs)

    def joined(self, full: Tensor, rest: Tensor) -> Tensor:
        """Concatenate the steps of both, `(steps, ...)`."""
        full = ops.reshape(full, (self.count * self.length, *ops.shape(full)[2:]))
        return ops.concatenate([full if self.known else full[: self.stacked], rest])

    def if_any(self, after: Any, before: Any) -> Any:
        """`after`, the result of the full segments, or `before` if there are none."""
        if self.known:
            return after
        return map_some(lambda a, b: ops.where(self.any, a, b), after, before)


def length_of(checkpoint_every: int | str, steps: Any) -> Any:
    """The length of a segment; with "sqrt", the square root of the steps, rounded up."""
    if checkpoint_every != "sqrt":
        return checkpoint_every
    if isinstance(steps, int):
        return math.isqrt(max(steps - 1, 0)) + 1
    return ops.cast(ops.ceil(ops.sqrt(ops.cast(steps, "float32"))), "int32")


def map_some(function: Callable[..., Any], *structures: Any) -> Any:
    """`tree.map_structure`, with None for None."""
    return tree.map_structure(lambda *x: None if x[0] is None else function(*x), *structures)
