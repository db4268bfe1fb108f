"""The valid inputs before each step, for cells that read a window of them."""

from typing import Any

from keras import ops

Tensor = Any


def delays(x: Tensor, start: Tensor, last: Tensor | None) -> list[Tensor]:
    """Delay a sequence by one valid step, by two, and so on.

    Args:
        x: values at each step, `(steps, batch, ...)`.
        start: the n values before the first step, latest first, `(batch, n, ...)`.
        last: which step is the last valid one up to each, `(steps, batch, 1)`, -1 if there is none;
            None: all are valid.

    Returns:
        n tensors, `(steps + 1, batch, ...)`: the last valid value before each step and after the
        last step, the one before it, and so on.
    """
    index = None
    if last is not None:
        index = ops.cast(ops.concatenate([ops.zeros_like(last[:1]), last + 1]), "int32")
        index = ops.reshape(index, (*ops.shape(index)[:2], *(1 for _ in x.shape[2:])))
    delayed = []
    for n in range(start.shape[1]):
        x = ops.concatenate([ops.expand_dims(start[:, n], 0), x])
        if index is not None:
            x = ops.take_along_axis(x, ops.broadcast_to(index, ops.shape(x)), axis=0)
        delayed.append(x)
        x = x[:-1]
    return delayed


def last_valid(keep: Tensor) -> Tensor:
    """Which step is the last valid one up to each, -1 if there is none.

    All pairs of steps are compared: for a chunk, not for a whole sequence.

    Args:
        keep: boolean `(steps, batch, 1)`.
    """
    steps = ops.arange(ops.shape(keep)[0])
    valid = ops.where(keep, ops.reshape(steps, (-1, 1, 1)), -1)
    past = ops.reshape(steps[:, None] >= steps, (*ops.shape(steps), *ops.shape(steps), 1, 1))
    return ops.max(ops.where(past, valid[None], -1), axis=1)
