"""The ways of unrolling a cell over time, and which of them suits a cell."""

from kerasrnn.recurrence.backend import Backend
from kerasrnn.recurrence.chunked import ChunkedUnroll
from kerasrnn.recurrence.linear import LinearUnroll
from kerasrnn.recurrence.loop import Call, Options, Steppable
from kerasrnn.recurrence.unroll import Unroll


def over_time(backend: Backend, cell: Steppable, options: Options, call: Call) -> Unroll:
    """A call of a cell, unrolled in the way that suits the cell."""
    way = Unroll
    if not (cell.alters_step or options.unroll):
        if cell.is_chunked:
            way = ChunkedUnroll
        elif cell.is_linear:
            way = LinearUnroll
    return way(backend, cell, options, call)
