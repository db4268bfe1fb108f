"""The ways of unrolling a cell over time, and which of them suits a cell."""

from kerasrnn.recurrence.backend import Backend
from kerasrnn.recurrence.chunked import ChunkedUnroll
from kerasrnn.recurrence.linear import LinearUnroll
from kerasrnn.recurrence.loop import Call, Options, Steppable
from kerasrnn.recurrence.unroll import Unroll


def over_time(backend: Backend, cell: Steppable, options: Options, call: Call) -> Unroll:
    """A call of a cell, unrolled in the way that suits the cell.

    Raises:
        ValueError: an option does not apply in this way.
    """
    check_options(cell, options)
    return way_of(cell, options)(backend, cell, options, call)


def check_options(cell: Steppable, options: Options) -> None:
    """Raise ValueError if an option does not apply in the way that suits the cell."""
    if options.checkpoint_every is not None and way_of(cell, options) is ChunkedUnroll:
        raise ValueError(
            f"checkpoint_every={options.checkpoint_every!r}: {type(cell).__name__} stores the "
            f"states before each chunk of chunk_size={cell.chunk_size} steps, and computes the "
            "chunk again for the gradient; expected None, and another chunk_size."
        )


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
