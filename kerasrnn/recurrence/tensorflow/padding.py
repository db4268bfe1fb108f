"""Sequences of unknown length padded to one of a few lengths."""

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from keras import tree

from kerasrnn.recurrence.loop import Call, Options, Results

Tensor = Any


def with_known_length(
    run_loop: Callable[[Options, Call], Results], options: Options, call: Call
) -> Results:
    """Run a loop that is compiled for each length.

    Sequences of unknown length are padded to one of a few lengths, after the last step: they are
    reversed here rather than in the loop. The loop does not run the padded steps.
    """
    if call.sequences.shape[1] is not None or options.checkpoint_every is not None:
        return run_loop(options, call)
    steps = tf.shape(call.sequences)[1]
    padding = bucket(steps) - steps

    def padded(x: Tensor) -> Tensor:
        return repeat_last(tf.reverse(x, [1]) if options.go_backwards else x, padding)

    results = run_loop(
        dataclasses.replace(options, go_backwards=False),
        with_time(call, padded)._replace(steps=steps),
    )
    return _every_step_changed(results, lambda x: first_steps(x, steps))


def without_padding(loop: Callable[[Call], Results], call: Call) -> Results:
    """Run a loop that needs the sequences without their padding, for results with it."""
    if call.steps is None:
        return loop(call)
    padding = tf.shape(call.sequences)[1] - call.steps
    short = with_time(call, lambda x: first_steps(x, call.steps))
    results = loop(short._replace(steps=None))
    return _every_step_changed(results, lambda x: repeat_last(x, padding))


def _every_step_changed(results: Results, function: Callable[[Tensor], Tensor]) -> Results:
    """Replace all tensors `(batch, time, ...)` of the results."""
    outputs, states = tree.map_structure(
        lambda x: None if x is None else function(x), (results.outputs, results.all_states)
    )
    return results._replace(outputs=outputs, all_states=states)


def with_time(call: Call, function: Callable[[Tensor], Tensor]) -> Call:
    """Replace all tensors `(batch, time, ...)` of a call."""
    sequences, mask, noise = tree.map_structure(
        lambda x: None if x is None else function(x),
        (call.sequences, call.mask, call.noise.steps),
    )
    return call._replace(sequences=sequences, mask=mask, noise=call.noise._replace(steps=noise))


def repeat_last(x: Tensor, steps: Tensor) -> Tensor:
    """Repeat the last of `(batch, time, ...)` for more steps, which have no gradient.

    What is computed from all steps at once is then as finite as it is for the real ones: with
    zeros, a cell that divides by the norm of its inputs would add NaN times zero to a gradient.
    """
    return tf.concat([x, tf.repeat(tf.stop_gradient(x[:, -1:]), steps, axis=1)], axis=1)


def first_steps(x: Tensor, steps: Tensor) -> Tensor:
    """The first steps of `(batch, time, ...)`; its gradient is a padding with zeros."""
    size = tf.concat([tf.shape(x)[:1], [steps], tf.shape(x)[2:]], 0)
    return tf.slice(x, tf.zeros_like(size), size)


def bucket(steps: Tensor) -> Tensor:
    """The smallest bucket that holds the steps: 4, 8, 12, 16, 24, 32, ..., two per octave."""
    bits = steps - 1
    for shift in (1, 2, 4, 8, 16):
        bits = tf.bitwise.bitwise_or(bits, bits // 2**shift)  # all bits below the highest
    width = tf.maximum(bits // 4 + 1, 4)
    return (steps + width - 1) // width * width
