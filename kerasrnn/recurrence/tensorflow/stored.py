"""What is kept with a cell: the `tf.function` of each way of running it, tables and gradients."""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from kerasrnn.recurrence.loop import Options, Steppable


def function_of(
    cell: Steppable, run_loop: Callable[..., Any], options: Options, jit_compile: bool = False
) -> Callable[..., Any]:
    """Wrap a way of running the loop as a `tf.function`."""

    def make() -> Callable[..., Any]:
        # A partial rather than a closure, since TensorFlow identifies closures of the same code
        # with each other, and would warn about excessive retracing.
        return tf.function(
            functools.partial(run_loop, cell, options),
            jit_compile=jit_compile or None,
            autograph=False,
            reduce_retracing=not options.unroll,  # unrolled, each length is a different graph
        )

    return stored(cell, (run_loop, options, jit_compile), make)


def table() -> tf.lookup.experimental.MutableHashTable:
    """A table of integers, 0 where nothing was inserted, outside of the graph being traced."""
    with tf.init_scope():
        return tf.lookup.experimental.MutableHashTable(tf.int64, tf.int64, default_value=0)


class _Stored(dict[Any, Any]):
    """What the loop keeps with a cell: functions, which refer to the cell, and tables.

    A copy of the cell has its own.
    """

    def __deepcopy__(self, memo: Any) -> "_Stored":
        return _Stored()

    def __reduce__(self) -> Any:
        return _Stored, ()


def stored(cell: Steppable, key: Any, make: Callable[[], Any]) -> Any:
    """What is kept with a cell, made when it is first needed."""
    # An attribute that neither Keras nor TensorFlow tracks.
    of_cell = vars(cell).setdefault("_kerasrnn_loops", _Stored())
    if key not in of_cell:
        of_cell[key] = make()
    return of_cell[key]
