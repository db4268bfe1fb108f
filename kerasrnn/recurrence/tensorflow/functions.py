"""The loop in functions of its own, forward and backward, one for each part of the batch.

Tapes do not trace them, so their gradient, and its own, are defined here.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from keras import tree

from kerasrnn.recurrence import unrolled
from kerasrnn.recurrence.loop import Call, Options, Results, Steppable
from kerasrnn.recurrence.tensorflow.gradients import custom_gradient, with_gradient
from kerasrnn.recurrence.tensorflow.graph import graph_loop
from kerasrnn.recurrence.tensorflow.padding import without_padding
from kerasrnn.recurrence.tensorflow.parts import joined, parts_of_graphs, split_batch
from kerasrnn.recurrence.tensorflow.primitives import unroll_call
from kerasrnn.recurrence.tensorflow.stored import function_of
from kerasrnn.recurrence.tensorflow.structures import differentiated, filled, leaves, replaced
from kerasrnn.recurrence.tensorflow.surroundings import vectorizing

Tensor = Any


def parallel_loop(cell: Steppable, options: Options, call: Call) -> Results:
    """Run the loop as graphs of parts of the batch, which run side by side.

    A core that has finished its share of one part's operation continues with another part.
    """
    as_function = functools.partial(function_of, cell, options=options)
    return loop_of_functions(cell, options, call, as_function, True, parts_of_graphs)


def twice_differentiable_loop(cell: Steppable, options: Options, call: Call) -> Results:
    """Run the loop as a graph whose second derivative is built separately.

    TensorFlow cannot vectorize the second derivative of a loop, as `tape.jacobian` of a gradient
    does: it raises an error, or returns an empty tensor (TensorFlow 2.21).
    """

    def function(run_loop: Callable[..., Any]) -> Callable[..., Any]:
        if tf.executing_eagerly():
            return function_of(cell, run_loop, options)
        return functools.partial(run_loop, cell, options)

    return loop_of_functions(cell, options, call, function, True, lambda call: [call])


def loop_of_functions(
    cell: Steppable,
    options: Options,
    call: Call,
    as_function: Callable[[Callable[..., Any]], Callable[..., Any]],
    with_residuals: bool,
    split: Callable[[Call], list[Call]],
) -> Results:
    """Run the loop in parts, forward and backward in functions that tapes do not trace.

    `with_residuals`: whether the forward pass stores the residuals of the backward pass.
    """

    def forward(call: Call) -> tuple[Results, Callable[[Results], Any]]:
        parts = split(call)
        function = as_function(_forward_with_residuals if with_residuals else _forward)
        run = [function(_hide_from_tapes(part)) for part in parts]
        results = [results for results, _ in run] if with_residuals else run

        def backward(d_results: Results) -> Any:
            if with_residuals:
                function = as_function(_backward)
                residuals = [residuals for _, residuals in run]
            else:
                function = as_function(_backward_from_start)
                residuals = [None] * len(parts)
            d_parts = [
                function(*_hide_from_tapes(of_part))
                for of_part in zip(
                    parts, residuals, split_batch(d_results, len(parts)), strict=True
                )
            ]
            d_sequences, d_states, d_weights, d_memory = zip(*d_parts, strict=True)
            return (
                tf.concat(d_sequences, 0),
                tree.map_structure(lambda *d: tf.concat(d, 0), *d_states),
                tree.map_structure(lambda *d: tf.add_n(d), *d_weights),
                tree.map_structure(lambda *d: tf.concat(d, 0), *d_memory),
            )

        def differentiable(d_results: Results) -> Any:
            return _differentiable(backward, cell, options, call, d_results)

        return joined(results), differentiable

    return with_gradient(forward, cell, call)


def _differentiable(
    backward: Callable[[Results], Any],
    cell: Steppable,
    options: Options,
    call: Call,
    d_results: Results,
) -> Any:
    """Make a backward function differentiable; its gradient is that of the graph's backward."""
    arguments = (differentiated(call), d_results)
    flat_arguments = leaves(arguments)

    def loop_again(cell: Steppable, options: Options, call: Call) -> Results:
        if not vectorizing():
            run_loop = functools.partial(graph_loop, cell, options)
            if tf.executing_eagerly():
                run_loop = function_of(cell, graph_loop, options)
            return without_padding(run_loop, call)
        if call.sequences.shape[1] is None:
            raise ValueError(
                "tape.jacobian of a gradient: a recurrent layer needs a known number of steps for "
                f"it; received sequences of shape {tuple(call.sequences.shape)}. Give them a "
                "static length, or use jacobian(..., experimental_use_pfor=False)."
            )
        options = dataclasses.replace(options, unroll=True, checkpoint_every=None)
        return unrolled.loop(cell, options, call)

    def function(*flat: Tensor) -> Any:
        gradients = backward(filled(arguments, flat)[1])

        def gradient(*upstream: Tensor) -> list[Tensor]:
            with tf.GradientTape() as tape:
                tape.watch(flat)
                inputs, d_results = filled(arguments, flat)
                with tf.GradientTape() as inner:
                    inner.watch(leaves(inputs))
                    again = loop_again(cell, options, replaced(call, inputs))
                d_flat = inner.gradient(
                    leaves(again),
                    leaves(inputs),
                    leaves(d_results),
                    unconnected_gradients="zero",
                )
            return tape.gradient(d_flat, flat, upstream, unconnected_gradients="zero")

        return leaves(gradients), gradient

    structure = differentiated(call)
    return filled(structure, custom_gradient(function, *flat_arguments, owner=cell))


def _hide_from_tapes(structure: Any) -> Any:
    """Hide a structure from tapes, which would inline the compiled function that receives it."""
    return tree.map_structure(lambda x: None if x is None else tf.stop_gradient(x), structure)


def _forward(cell: Steppable, options: Options, call: Call) -> Results:
    return unroll_call(cell, options, call).forward()


def _forward_with_residuals(cell: Steppable, options: Options, call: Call) -> tuple[Results, Any]:
    return unroll_call(cell, options, call).forward_with_residuals()


def _backward(
    cell: Steppable, options: Options, call: Call, residuals: Any, d_results: Results
) -> tuple[Any, ...]:
    return unroll_call(cell, options, call).backward(residuals, d_results)


def _backward_from_start(
    cell: Steppable, options: Options, call: Call, residuals: None, d_results: Results
) -> tuple[Any, ...]:
    unroll = unroll_call(cell, options, call)
    _, residuals = unroll.forward_with_residuals()
    return unroll.backward(residuals, d_results)
