"""The loop compiled by XLA."""

import functools
from collections.abc import Callable
from typing import Any

from kerasrnn.recurrence.loop import Call, Options, Results, Steppable
from kerasrnn.recurrence.tensorflow.functions import loop_of_functions
from kerasrnn.recurrence.tensorflow.padding import with_known_length
from kerasrnn.recurrence.tensorflow.parts import parts_of
from kerasrnn.recurrence.tensorflow.stored import function_of


def compiled_loop(
    cell: Steppable,
    options: Options,
    call: Call,
    split: Callable[[Call], list[Call]] | None = None,
) -> Results:
    """Run the loop compiled by XLA, in parts: by default, as many as are fastest."""

    def function(run_loop: Callable[..., Any], options: Options) -> Callable[..., Any]:
        return function_of(cell, run_loop, options, True)

    def run_loop(options: Options, call: Call) -> Results:
        as_function = functools.partial(function, options=options)
        with_residuals = options.training
        return loop_of_functions(
            cell, options, call, as_function, with_residuals, split or parts_of
        )

    return with_known_length(run_loop, options, call)
