"""Paths of connectionist temporal classification: labels at frames, with blanks between them.

A path is read by dropping repeated labels, then blanks: see `kerasrnn.losses.CTC`.
"""

from collections.abc import Sequence
from typing import Any

from keras import ops

from kerasrnn.recurrence import log_semiring
from kerasrnn.recurrence.log_semiring import NEVER

Tensor = Any


def left_aligned(
    used: Tensor, arrays: Sequence[Tensor], padding: Sequence[int]
) -> tuple[list[Tensor], Tensor]:
    """The used entries of each row, without gaps, followed by padding; and how many there are.

    Args:
        used: boolean `(batch, width)`.
        arrays: int32 `(batch, width)`.
        padding: the padding of each array.
    """
    width = ops.shape(used)[1]
    places = ops.arange(width, dtype="int32")
    lengths = ops.sum(ops.cast(used, "int32"), axis=1)
    order = ops.argsort(ops.where(used, places, places + width), axis=1)
    filled = places < ops.expand_dims(lengths, 1)
    aligned = [
        ops.where(filled, ops.take_along_axis(array, order, axis=1), of_padding)
        for array, of_padding in zip(arrays, padding, strict=True)
    ]
    return aligned, lengths


def repeated(ids: Tensor, blank: int) -> Tensor:
    """Boolean `(batch, width)`: whether a label equals the one before it."""
    again = (ids[:, 1:] == ids[:, :-1]) & (ids[:, 1:] != blank)
    return ops.pad(again, ((0, 0), (1, 0)))


def emissions(log_p: Tensor, ids: Tensor, blank: int) -> tuple[Tensor, Tensor]:
    """The log-probabilities of the blank, `(time, batch, 1)`, and of each label, `(time, batch,
    width)`, where padding has `NEVER`.

    Args:
        log_p: `(batch, time, classes)`.
        ids: labels `(batch, width)`, padded with the blank.
        blank: the class of the blank.
    """
    batch, time, classes = ops.shape(log_p)
    # Whole rows are taken: to take single numbers, and to sum their gradients, is slow.
    by_class = ops.reshape(ops.transpose(log_p, (0, 2, 1)), (batch * classes, time))
    first = ops.expand_dims(ops.arange(batch, dtype="int32") * classes, 1)
    of_labels = ops.take(by_class, first + ids, axis=0)
    of_labels = ops.where(ops.expand_dims(ids == blank, -1), NEVER, of_labels)
    of_blank = ops.transpose(log_p[:, :, blank : blank + 1], (1, 0, 2))
    return of_blank, ops.transpose(of_labels, (2, 0, 1))


def frames_first(used: Tensor) -> Tensor:
    """`(time, batch, 1)`, as scans read a mask `(batch, time)`."""
    return ops.expand_dims(ops.transpose(used), -1)


def after_label(emit: Tensor) -> Tensor:
    """ε(n) at each n, of an array that has ε(n + 1) there: NEVER at 0."""
    return ops.pad(emit[:, :-1], ((0, 0), (1, 0)), constant_values=NEVER)


def start_times(log_p: Tensor, ids: Tensor, lengths: Tensor, used: Tensor, blank: int) -> Tensor:
    """The frame at which each label begins on the most probable path, `(batch, width)`.

    The recursion is that of `kerasrnn.losses.CTC` with the maximum instead of the sum.

    Args:
        log_p: `(batch, time, classes)`.
        ids: labels `(batch, width)`, left-aligned and padded with the blank.
        lengths: `(batch,)`.
        used: the frames in use, boolean `(batch, time)`.
        blank: the class of the blank.

    Returns:
        int32; -1 for padding, and for rows without a path.
    """
    width = ops.shape(ids)[1]
    ids = ops.pad(ids, ((0, 0), (0, 1)), constant_values=blank)
    repeats = repeated(ids, blank)
    of_blank, of_labels = emissions(log_p, ids, blank)
    keep = frames_first(used)

    def step(state: tuple[Tensor, Tensor], x: tuple[Tensor, Tensor]) -> Any:
        (blanks, emit), (blank, labels) = state, x
        before = after_label(emit)
        from_label = before > blanks
        either = ops.maximum(before, blanks)
        new = ops.where(repeats, blanks, either)
        begins = new > emit
        # How each label came: 0 if it goes on, 1 after a blank, 2 after another label.
        ways = ops.where(begins, ops.where(from_label & ~repeats, 2, 1), 0)
        after = (either + blank, ops.maximum(new, emit) + labels)
        return after, (from_label, ways)

    places = ops.arange(width + 1, dtype="int32")
    never = ops.full(ops.shape(repeats), NEVER, dtype=of_blank.dtype)
    start = ops.where(places == 0, ops.zeros_like(never), never)
    (blanks, emit), ways = log_semiring.scan(step, (start, never), (of_blank, of_labels), keep)
    lengths = ops.expand_dims(lengths, 1)

    def at(array: Tensor, n: Tensor) -> Tensor:
        return ops.take_along_axis(array, n, axis=1)

    last = ops.maximum(lengths - 1, 0)
    on_label = (lengths > 0) & (at(emit, last) > at(blanks, lengths))

    def back(state: tuple[Tensor, Tensor], x: tuple[Tensor, Tensor]) -> Any:
        (n, on_label), (from_label, ways) = state, x
        way = at(ways, n)
        begins = on_label & (way > 0)
        to_label = ops.where(on_label, way == 2, at(from_label, n))
        moves = ops.cast(to_label, "int32")
        n = ops.maximum(n - moves, 0)
        return (n, (on_label & ~begins) | to_label), begins

    end = (ops.where(on_label, last, lengths), on_label)
    _, begins = log_semiring.scan(back, end, ways, keep, reverse=True)
    begins = ops.transpose(begins[..., 0]) & used  # (batch, time)
    found = ops.maximum(at(emit, last), at(blanks, lengths))
    begins = begins & log_semiring.possible(found)
    frames = ops.broadcast_to(ops.arange(ops.shape(used)[1], dtype="int32"), ops.shape(used))
    (times,), _ = left_aligned(begins, [frames], [-1])
    return times[:, :width]
