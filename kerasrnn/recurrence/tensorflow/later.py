"""The loop as a graph until it has run as long as a compilation takes; then compiled."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from kerasrnn.recurrence.loop import Call, Options, Results, Steppable
from kerasrnn.recurrence.tensorflow import parts
from kerasrnn.recurrence.tensorflow.compiled import compiled_loop
from kerasrnn.recurrence.tensorflow.graph import graph_loop
from kerasrnn.recurrence.tensorflow.padding import bucket
from kerasrnn.recurrence.tensorflow.stored import stored, table
from kerasrnn.recurrence.tensorflow.structures import filled, leaves

Tensor = Any

# In inference a shape is compiled once the graph has run this many steps of it, which takes about
# as long as the compilation, and no further shape is compiled once there are as many programs.
STEPS_BEFORE_COMPILING = 2000
MOST_PROGRAMS = 64
PROGRAMS = -1  # their number, in a table whose other keys are shapes


def pays_off(cell: Steppable, options: Options, call: Call) -> bool:
    """Whether eager calls have run enough steps of this shape to compile it."""
    steps_run = stored(cell, ("steps run eagerly", options), dict)
    steps = call.sequences.shape[1]
    shape = (len(call.sequences), steps, *(tuple(x.shape) for x in leaves(call.memory)))
    before = steps_run.get(shape, 0)
    if before < STEPS_BEFORE_COMPILING:
        after = before + steps
        programs = steps_run.get(PROGRAMS, 0)
        if after < STEPS_BEFORE_COMPILING or programs < MOST_PROGRAMS:
            steps_run[shape] = after
            steps_run[PROGRAMS] = programs + int(after >= STEPS_BEFORE_COMPILING)
    return before >= STEPS_BEFORE_COMPILING


def later_compiled_loop(cell: Steppable, options: Options, call: Call) -> Results:
    """Run the loop as a graph, or compiled for shapes of which it has run enough steps."""
    batch, steps = tf.unstack(tf.shape(call.sequences, tf.int64)[:2])
    length = steps
    if call.sequences.shape[1] is None:
        length = tf.cast(bucket(tf.cast(steps, tf.int32)), tf.int64)
    shape = batch * 2**32 + length
    for x in leaves(call.memory):  # a hash, as far as the shape is unknown
        for axis in range(1, len(x.shape)):
            if x.shape[axis] is None:
                shape = shape * 1_000_003 + tf.shape(x, tf.int64)[axis]
    # A saved graph cannot contain this table of the process, but these graphs are never saved.
    steps_run = stored(cell, ("steps run", options), table)
    before = steps_run.lookup(shape)
    results: list[Results] = []

    def as_graph() -> list[Tensor]:
        after, programs = before + steps, steps_run.lookup(PROGRAMS)
        enough = after >= STEPS_BEFORE_COMPILING
        full = enough & (programs >= MOST_PROGRAMS)
        steps_run.insert(
            [shape, PROGRAMS],
            [tf.where(full, before, after), programs + tf.cast(enough & ~full, tf.int64)],
        )
        results.append(graph_loop(cell, options, call))
        return leaves(results[0])

    def compiled(split: Callable[[Call], list[Call]] | None = None) -> list[Tensor]:
        return leaves(compiled_loop(cell, options, call, split))

    branches = [as_graph, compiled]
    branch = tf.cast(before >= STEPS_BEFORE_COMPILING, tf.int32)
    if call.sequences.shape[0] is None and parts.cores() > 1:
        branches.append(lambda: compiled(lambda call: [call]))
        branch *= tf.where(batch < parts.cores() * parts.ROWS_A_PART, 2, 1)
    flat = tf.switch_case(branch, branches)
    for y, of_graph in zip(flat, leaves(results[0]), strict=True):
        y.set_shape(of_graph.shape)  # of which the branches may know different parts
    return filled(results[0], flat)
