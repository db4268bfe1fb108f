"""The choice of how a call runs."""

import dataclasses
from collections.abc import Callable

import tensorflow as tf
from keras import tree

from kerasrnn.keras_internals import in_trainer
from kerasrnn.recurrence import cudnn
from kerasrnn.recurrence.loop import (
    Call,
    JitCompile,
    Options,
    Results,
    Steppable,
    is_never_exported,
)
from kerasrnn.recurrence.tensorflow.compiled import compiled_loop
from kerasrnn.recurrence.tensorflow.cudnn import cudnn_loop, cudnn_refusal
from kerasrnn.recurrence.tensorflow.functions import parallel_loop, twice_differentiable_loop
from kerasrnn.recurrence.tensorflow.graph import graph_loop
from kerasrnn.recurrence.tensorflow.later import later_compiled_loop, pays_off
from kerasrnn.recurrence.tensorflow.stored import function_of
from kerasrnn.recurrence.tensorflow.surroundings import (
    in_any_tape,
    in_forward_mode,
    in_nested_tapes,
    under_xla,
)


def run(cell: Steppable, options: Options, call: Call, jit_compile: JitCompile) -> Results:
    """See `loop.run`. An eager call runs a compiled graph, not a loop driven by Python."""
    # Keras passes the variables of a stateful layer themselves, and a cell may draw arrays.
    states, noise = tree.map_structure(tf.convert_to_tensor, (call.states, call.noise))
    call = call._replace(states=states, noise=noise)
    if cudnn.runs(cell, options, call, jit_compile, cudnn_refusal):
        if tf.executing_eagerly():
            return function_of(cell, cudnn_loop, options)(call)
        return cudnn_loop(cell, options, call)
    if in_forward_mode(call):
        return _forward_mode_loop(cell, options, call)
    nested = in_nested_tapes(call)
    run_loop = graph_loop if under_xla() else _way(cell, options, call, jit_compile)
    if nested and tf.executing_eagerly():
        run_loop = graph_loop
    if run_loop is compiled_loop and options.unroll:
        # Without a loop there are no parts: XLA compiles the steps directly.
        return function_of(cell, graph_loop, options, True)(call)
    if nested and run_loop is graph_loop and not options.unroll:
        return twice_differentiable_loop(cell, options, call)
    if tf.executing_eagerly():
        if run_loop is later_compiled_loop:
            run_loop = compiled_loop if pays_off(cell, options, call) else graph_loop
        return function_of(cell, run_loop, options)(call)
    return run_loop(cell, options, call)


def _forward_mode_loop(cell: Steppable, options: Options, call: Call) -> Results:
    """Unroll the steps, which a `ForwardAccumulator` differentiates correctly.

    Inside a graph it treats a custom gradient as zero, and it fails on loops there and on
    XLA-compiled code (TensorFlow 2.21).
    """
    if call.sequences.shape[1] is None:
        raise ValueError(
            "tf.autodiff.ForwardAccumulator: inside a tf.function, a recurrent layer needs a known "
            "number of steps for forward-mode differentiation; received sequences of shape "
            f"{tuple(call.sequences.shape)}. Use tf.GradientTape and its jacobian, give the "
            "sequences a static length, or call the layer outside of a tf.function."
        )
    options = dataclasses.replace(options, unroll=True, checkpoint_every=None)
    if tf.executing_eagerly():
        return function_of(cell, graph_loop, options)(call)
    return graph_loop(cell, options, call)


def _way(
    cell: Steppable, options: Options, call: Call, jit_compile: JitCompile
) -> Callable[..., Results]:
    """The way to run the loop, outside XLA."""
    if jit_compile != "auto":
        return compiled_loop if jit_compile else graph_loop
    if not cell.xla_pays_off and not tf.config.list_physical_devices("GPU"):
        in_parts = options.training and not (options.unroll or tf.executing_eagerly())
        return parallel_loop if in_parts else graph_loop
    # Unrolled steps take longer and longer to compile: docs/execution.md has figures. Checkpoints
    # of an unknown number of steps would be compiled for each length.
    unknown = call.sequences.shape[1] is None
    if options.unroll or (unknown and options.checkpoint_every is not None):
        return graph_loop
    if options.training:
        # A graph for training is called again and again.
        return graph_loop if tf.executing_eagerly() else compiled_loop
    # A graph for inference may be called once, and any graph but these may be exported to where
    # there is no XLA.
    stays = tf.executing_eagerly() or is_never_exported()
    stays = stays or in_trainer(tf.compat.v1.get_default_graph())
    if not stays or in_any_tape(call):
        return graph_loop
    return later_compiled_loop
