"""The loop as part of the surrounding graph."""

import functools
from collections.abc import Callable
from typing import Any

from kerasrnn.recurrence import unrolled
from kerasrnn.recurrence.loop import Call, Options, Results, Steppable
from kerasrnn.recurrence.tensorflow.gradients import with_gradient
from kerasrnn.recurrence.tensorflow.primitives import unroll_call


def graph_loop(cell: Steppable, options: Options, call: Call) -> Results:
    """Run the loop as part of the surrounding graph."""
    if options.unroll:
        return unrolled.loop(cell, options, call)
    if not options.training and options.checkpoint_every is None:
        return unroll_call(cell, options, call).forward()

    def forward(call: Call) -> tuple[Results, Callable[[Results], Any]]:
        unroll = unroll_call(cell, options, call)
        results, residuals = unroll.forward_with_residuals()
        return results, functools.partial(unroll.backward, residuals)

    return with_gradient(forward, cell, call)
