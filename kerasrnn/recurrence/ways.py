"""The ways of unrolling a cell over time, and which of them suits a cell."""

from kerasrnn.recurrence.backend import Backend
from kerasrnn.recurrence.chunked import ChunkedUnroll
from kerasrnn.recurrence.linear import LinearUnroll
from kerasrnn.recurrence.loop import Call, Options, Steppable
from kerasrnn.recurrence.unroll import Unroll


def over_time(backend: Backend, cell: Steppable, options: Options, call: Call) -> Unroll:
    """A call of a cell, unrolled in the way that suits the cell."""
    return way_of(cell, options)(backend, cell, options, call)


def way_of(cell: Steppable, options: Options) -> type[Unroll]:
    """The way that suits a cell with these options: its steps, unless they need not be computed one
    by one."""
    if cell.alters_step or options.unroll:
        return Unroll
    if cell.is_chunked:  # the states within a chunk are never computed
        return Unroll if options.return_all_states else ChunkedUnroll
    if cell.is_linear:  # nor is a window of inputs
        return Unroll if options.return_all_states and cell.window else LinearUnroll
    return Unroll
