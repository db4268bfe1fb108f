"""The time loop on TensorFlow.

There are three ways of running it, and one from the first to the second:

- as a graph: a `tf.while_loop`, part of the surrounding graph; eagerly, inside a `tf.function`;
  for convolutions on CPUs, in training, a graph for each part of the batch;
- compiled: by XLA, on CPUs once for each part of the batch. Rows are independent, so every core
  loops over its own rows, without synchronization at each step;
- compiled later: as a graph, until it has run as long as a compilation takes;
- in cuDNN, on a GPU: see `cudnn.py`.

In training the first two use the loop's custom gradient. Otherwise the graph is differentiated
automatically and stores nothing unless a gradient is needed, and the compiled loop runs forward a
second time for a gradient.
"""

import dataclasses
import functools
import itertools
import os
import sys
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf
from keras import tree
from tensorflow.python.eager import context, forwardprop_util  # not exported
from tensorflow.python.framework import ops as framework  # not exported
from tensorflow.python.ops import control_flow_util, gradients_util  # not exported

from kerasrnn.keras_internals import in_trainer
from kerasrnn.recurrence import cudnn, unrolled
from kerasrnn.recurrence.loop import (
    Call,
    JitCompile,
    Options,
    Results,
    Steppable,
    is_never_exported,
)
from kerasrnn.recurrence.padding import bucket, first_steps, repeat_last, with_time
from kerasrnn.recurrence.unroll import Unroll
from kerasrnn.recurrence.ways import over_time

Tensor = Any

# The minimum number of rows per core, and the largest recurrent kernel, in bytes, that is worth
# reading once per core: measured in benchmarks/speed/NOTES.md.
ROWS_A_PART = 8
KERNEL_BYTES = 1 << 20

# In inference a shape is compiled once the graph has run this many steps of it, which takes about
# as long as the compilation, and no further shape is compiled once there are as many programs.
STEPS_BEFORE_COMPILING = 2000
MOST_PROGRAMS = 64
PROGRAMS = -1  # their number, in a table whose other keys are shapes


def run(cell: Steppable, options: Options, call: Call, jit_compile: JitCompile) -> Results:
    """See `loop.run`. An eager call runs a compiled graph, not a loop driven by Python."""
    # Keras passes the variables of a stateful layer themselves, and a cell may draw arrays.
    states, noise = tree.map_structure(tf.convert_to_tensor, (call.states, call.noise))
    call = call._replace(states=states, noise=noise)
    if cudnn.runs(cell, options, call, jit_compile, cudnn_refusal):
        if tf.executing_eagerly():
            return _function(cell, cudnn_loop, options)(call)
        return cudnn_loop(cell, options, call)
    if _in_forward_mode(call):
        return _forward_mode_loop(cell, options, call)
    nested = _in_nested_tapes(call)
    run_loop = graph_loop if _under_xla() else _way(cell, options, call, jit_compile)
    if nested and tf.executing_eagerly():
        run_loop = graph_loop
    if run_loop is compiled_loop and options.unroll:
        # Without a loop there are no parts: XLA compiles the steps directly.
        return _function(cell, graph_loop, options, True)(call)
    if nested and run_loop is graph_loop and not options.unroll:
        return twice_differentiable_loop(cell, options, call)
    if tf.executing_eagerly():
        if run_loop is later_compiled_loop:
            run_loop = compiled_loop if _pays_off(cell, options, call) else graph_loop
        return _function(cell, run_loop, options)(call)
    return run_loop(cell, options, call)


def _under_xla() -> bool:
    """Whether XLA compiles the entire surrounding function."""
    if tf.executing_eagerly():
        return False
    return control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


def _in_forward_mode(call: Call) -> bool:
    """Whether a `tf.autodiff.ForwardAccumulator` watches an input of this call."""
    return bool(forwardprop_util.pack_tangents(leaves(_differentiated(call))).tangents)


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
        return _function(cell, graph_loop, options)(call)
    return graph_loop(cell, options, call)


def _in_nested_tapes(call: Call) -> bool:
    """Whether a gradient of this call may be differentiated again."""
    return _recorded(call) == gradients_util.POSSIBLE_GRADIENT_TYPES_HIGHER_ORDER


def _recorded(call: Call) -> int:
    """Whether a tape records this call, or several do."""
    return gradients_util.PossibleTapeGradientTypes(leaves(_differentiated(call)))


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
    if not stays or _recorded(call) != gradients_util.POSSIBLE_GRADIENT_TYPES_NONE:
        return graph_loop
    return later_compiled_loop


# The backend interface of `Unroll`.


def scan(
    body: Callable[[Any, Any], tuple[Any, Any]],
    carry: Any,
    xs: Any,
    reverse: bool = False,
    prefetch: bool = True,
    steps: Any = None,
) -> tuple[Any, Any]:
    """See `backend.Backend`.

    XLA would first clear the output array, so under XLA y is written over an x of the same shape.
    Such an x is always read a step ahead: XLA may order a step's read after its write, and would
    then copy the entire array in every step.
    """
    xla = _under_xla()
    flat_xs = leaves(xs)
    size = _length(flat_xs[0])
    steps = size if steps is None else steps
    # TensorArrays, not slices of one tensor: in automatic differentiation, the gradient of a slice
    # is a full-size tensor of zeros per step, and the cost of the backward pass would be quadratic
    # in the number of steps.
    # The first x is read twice, which matters where functions are run eagerly.
    x_arrays = [
        tf.TensorArray(x.dtype, size, clear_after_read=False, element_shape=x.shape[1:]).unstack(x)
        for x in flat_xs
    ]
    start = steps - 1 if reverse else 0
    first = [array.read(start) for array in x_arrays]
    _, y = body(carry, filled(xs, first))  # only for its structure: the values are never computed
    over, y_arrays = _targets(leaves(y), first if xla else [], x_arrays, size)
    prefetch = xla and (prefetch or any(k is not None for k in over))

    def step(n: Any, values: Any, read: Any, y_arrays: Any) -> tuple[Any, ...]:
        def x_at(t: Any) -> list[Any]:
            now = [a if over[k] is None else y_arrays[over[k]] for k, a in enumerate(x_arrays)]
            return [array.read(t) for array in now]

        t = steps - 1 - n if reverse else n
        after, y = body(filled(carry, values), filled(xs, read if prefetch else x_at(t)))
        y_arrays = [array.write(t, value) for array, value in zip(y_arrays, leaves(y), strict=True)]
        if prefetch:
            read = x_at(tf.maximum(t - 1, 0) if reverse else tf.minimum(t + 1, steps - 1))
        pairs = zip(leaves(after), values, strict=True)
        after = [_with_dependency(new, old, n, reverse) for new, old in pairs]
        return n + 1, after, read, y_arrays

    _, flat_carry, _, y_arrays = tf.while_loop(
        cond=lambda *_: True,
        body=step,
        loop_vars=(tf.constant(0), leaves(carry), first if prefetch else [], y_arrays),
        # This must be the entire condition: XLA then knows the number of steps, if it is static,
        # and need not evaluate the condition after each; its differentiation also needs a bound.
        maximum_iterations=steps,
    )
    return filled(carry, flat_carry), filled(y, [array.stack() for array in y_arrays])


def _with_dependency(new: tf.Tensor, old: tf.Tensor, n: tf.Tensor, reverse: bool) -> tf.Tensor:
    """Make a step's new value depend on the carried one, if it does not already.

    `tape.jacobian` vectorizes loops, and fails on one that replaces a carried value by something
    independent of it, as a step does with the previous output. It vectorizes the loop that runs
    backward, which is either a reverse one or the gradient of a forward one. There the condition
    may not be constant: Grappler would evaluate it in advance, and the vectorized loop would
    return an empty tensor (TensorFlow 2.21).
    """
    if tf.executing_eagerly() or _depends(new, old):
        return new
    if reverse:  # under XLA, too: vectorized, a compiled function becomes part of the graph
        return tf.where(n < 0, old, new)
    if _under_xla():
        return tf.where(tf.constant(False), old, new)  # XLA removes the selection
    return custom_gradient(_replacing, new, old)


def _replacing(new: tf.Tensor, old: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
    """The new value, at no cost; its gradient is a selection that is evaluated at every step."""

    def gradient(d: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return d, tf.where(tf.abs(d) < 0, d, tf.zeros_like(d))  # never true, even for NaN

    return tf.where(tf.constant(False), old, new), gradient


def _depends(result: tf.Tensor, source: tf.Tensor) -> bool:
    """Whether one tensor of a graph is computed from another."""
    waiting, seen = [result], set()
    while waiting:
        tensor = waiting.pop()
        if tensor is source:
            return True
        if tensor.op not in seen and tensor.op.type not in ("Shape", "ZerosLike", "OnesLike"):
            seen.add(tensor.op)
            waiting += tensor.op.inputs
    return False


def _targets(
    ys: list[tf.Tensor], xs: list[tf.Tensor], x_arrays: list[tf.TensorArray], size: Any
) -> tuple[list[int | None], list[tf.TensorArray]]:
    """For each x, the y written over it, if any; and the arrays that the ys are written to."""
    over: list[int | None] = [None] * len(x_arrays)
    y_arrays = []
    for n, y in enumerate(ys):
        for k, x in enumerate(xs):
            if over[k] is None and x.dtype == y.dtype and x.shape.as_list() == y.shape.as_list():
                over[k] = n
                y_arrays.append(x_arrays[k])
                break
        else:
            y_arrays.append(tf.TensorArray(y.dtype, size=size, element_shape=y.shape))
    return over, y_arrays


def scans_in_parallel() -> bool:
    """See `backend.Backend`. A loop of known or unknown length suits CPUs."""
    return False


def segment_rows(*_: Any) -> None:
    """See `backend.Backend`."""


def vjp(
    function: Callable[..., Any], arguments: tuple[Any, ...]
) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """See `backend.Backend`."""
    # Separate nodes, since the same tensor may be passed for two arguments.
    arguments = tree.map_structure(tf.identity, arguments)
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch([x for x in tree.flatten(arguments) if x is not None])
        results = function(*arguments)

    def vjp_fn(d_results: Any) -> tuple[Any, ...]:
        pairs = zip(tree.flatten(results), tree.flatten(d_results), strict=True)
        nonzero = [(y, d) for y, d in pairs if d is not None]
        flat = tape.gradient(
            [y for y, _ in nonzero],
            tree.flatten(arguments),
            [d for _, d in nonzero],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        return tree.pack_sequence_as(arguments, flat)

    return results, vjp_fn


def scope() -> Any:
    """See `backend.Backend`."""
    return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()


def _length(x: tf.Tensor) -> tf.Tensor | int:
    return tf.shape(x)[0] if x.shape[0] is None else x.shape[0]


# Ways of running the loop.


def graph_loop(cell: Steppable, options: Options, call: Call) -> Results:
    """Run the loop as part of the surrounding graph."""
    if options.unroll:
        return unrolled.loop(cell, options, call)
    if not options.training and options.checkpoint_every is None:
        return _unroll(cell, options, call).forward()

    def forward(call: Call) -> tuple[Results, Callable[[Results], Any]]:
        unroll = _unroll(cell, options, call)
        results, residuals = unroll.forward_with_residuals()
        return results, functools.partial(unroll.backward, residuals)

    return _with_gradient(forward, cell, call)


def compiled_loop(
    cell: Steppable,
    options: Options,
    call: Call,
    split: Callable[[Call], list[Call]] | None = None,
) -> Results:
    """Run the loop compiled by XLA, in parts: by default, as many as are fastest."""

    def function(run_loop: Callable[..., Any], options: Options) -> Callable[..., Any]:
        return _function(cell, run_loop, options, True)

    def run_loop(options: Options, call: Call) -> Results:
        as_function = functools.partial(function, options=options)
        with_residuals = options.training
        return _loop_of_functions(cell, options, call, as_function, with_residuals, split or _parts)

    return _with_known_length(run_loop, options, call)


def _pays_off(cell: Steppable, options: Options, call: Call) -> bool:
    """Whether eager calls have run enough steps of this shape to compile it."""
    steps_run = _stored(cell, ("steps run eagerly", options), dict)
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
    steps_run = _stored(cell, ("steps run", options), _table)
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
    if call.sequences.shape[0] is None and _cores() > 1:
        branches.append(lambda: compiled(lambda call: [call]))
        branch *= tf.where(batch < _cores() * ROWS_A_PART, 2, 1)
    flat = tf.switch_case(branch, branches)
    for y, of_graph in zip(flat, leaves(results[0]), strict=True):
        y.set_shape(of_graph.shape)  # of which the branches may know different parts
    return filled(results[0], flat)


def _with_known_length(
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


def _every_step_changed(results: Results, function: Callable[[Tensor], Tensor]) -> Results:
    """Replace all tensors `(batch, time, ...)` of the results."""
    outputs, states = tree.map_structure(
        lambda x: None if x is None else function(x), (results.outputs, results.all_states)
    )
    return results._replace(outputs=outputs, all_states=states)


def _without_padding(loop: Callable[[Call], Results], call: Call) -> Results:
    """Run a loop that needs the sequences without their padding, for results with it."""
    if call.steps is None:
        return loop(call)
    padding = tf.shape(call.sequences)[1] - call.steps
    short = with_time(call, lambda x: first_steps(x, call.steps))
    results = loop(short._replace(steps=None))
    return _every_step_changed(results, lambda x: repeat_last(x, padding))


def twice_differentiable_loop(cell: Steppable, options: Options, call: Call) -> Results:
    """Run the loop as a graph whose second derivative is built separately.

    TensorFlow cannot vectorize the second derivative of a loop, as `tape.jacobian` of a gradient
    does: it raises an error, or returns an empty tensor (TensorFlow 2.21).
    """

    def function(run_loop: Callable[..., Any]) -> Callable[..., Any]:
        if tf.executing_eagerly():
            return _function(cell, run_loop, options)
        return functools.partial(run_loop, cell, options)

    return _loop_of_functions(cell, options, call, function, True, lambda call: [call])


def parallel_loop(cell: Steppable, options: Options, call: Call) -> Results:
    """Run the loop as graphs of parts of the batch, which run side by side.

    A core that has finished its share of one part's operation continues with another part.
    """
    as_function = functools.partial(_function, cell, options=options)
    return _loop_of_functions(cell, options, call, as_function, True, _parts_of_graphs)


def _loop_of_functions(
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
                for of_part in zip(parts, residuals, _split(d_results, len(parts)), strict=True)
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

        return _joined(results), differentiable

    return _with_gradient(forward, cell, call)


def _differentiable(
    backward: Callable[[Results], Any],
    cell: Steppable,
    options: Options,
    call: Call,
    d_results: Results,
) -> Any:
    """Make a backward function differentiable; its gradient is that of the graph's backward."""
    arguments = (_differentiated(call), d_results)
    flat_arguments = leaves(arguments)

    def loop_again(cell: Steppable, options: Options, call: Call) -> Results:
        if not _vectorizing():
            run_loop = functools.partial(graph_loop, cell, options)
            if tf.executing_eagerly():
                run_loop = _function(cell, graph_loop, options)
            return _without_padding(run_loop, call)
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
                differentiated, d_results = filled(arguments, flat)
                with tf.GradientTape() as inner:
                    inner.watch(leaves(differentiated))
                    again = loop_again(cell, options, _replaced(call, differentiated))
                d_flat = inner.gradient(
                    leaves(again),
                    leaves(differentiated),
                    leaves(d_results),
                    unconnected_gradients="zero",
                )
            return tape.gradient(d_flat, flat, upstream, unconnected_gradients="zero")

        return leaves(gradients), gradient

    structure = _differentiated(call)
    return filled(structure, custom_gradient(function, *flat_arguments, owner=cell))


def _vectorizing() -> bool:
    """Whether this is traced for vectorization, detected by the names that `tf.vectorized_map` and
    tapes give the function."""
    return any(part.startswith("loop_body") for part in tf.get_current_name_scope().split("/"))


def _hide_from_tapes(structure: Any) -> Any:
    """Hide a structure from tapes, which would inline the compiled function that receives it."""
    return tree.map_structure(lambda x: None if x is None else tf.stop_gradient(x), structure)


def _with_gradient(
    forward: Callable[[Call], tuple[Results, Callable[[Results], Any]]],
    cell: Steppable,
    call: Call,
) -> Results:
    """`forward` returns the results and their pullback."""
    structure: list[Results] = []

    def function(*flat: Tensor) -> tuple[list[Tensor], Callable[..., list[Tensor]]]:
        results, backward = forward(_replaced(call, filled(_differentiated(call), flat)))
        structure.append(results)

        def gradient(*d_flat: Tensor) -> list[Tensor]:
            # A gradient in a graph may come with fewer known sizes than its tensor has, and the
            # values that a loop carries cannot change theirs.
            dense = [tf.convert_to_tensor(d) for d in d_flat]
            for d, y in zip(dense, leaves(results), strict=True):
                d.set_shape(y.shape)
            return leaves(backward(filled(results, dense)))

        return leaves(results), gradient

    flat = custom_gradient(function, *leaves(_differentiated(call)), owner=cell)
    return filled(structure[0], flat)


def custom_gradient(function: Callable[..., Any], *arguments: Tensor, owner: Any = None) -> Any:
    """Apply a function as `tf.custom_gradient` does, with a gradient that is freed with its owner.

    TensorFlow registers the gradient under a name for as long as the process runs, and with it the
    graph and all variables that it uses (TensorFlow 2.21). Here its owner keeps it: a cell, or by
    default the graph. A gradient that refers to a cell must not be kept by the graph, since Keras's
    optimizers cause every graph of a training step to be kept in the same way (Keras 3.15).
    """
    results = tf.custom_gradient(function)(*arguments)
    if tf.executing_eagerly():
        return results
    operation = leaves(results)[0].op
    registry = framework.gradient_registry._registry
    name = operation.get_attr("_gradient_op_type").decode()
    gradient = registry[name]["type"]
    if owner is None:
        graph = operation.graph
        graph._kerasrnn_gradients = [*getattr(graph, "_kerasrnn_gradients", []), gradient]
    else:
        _stored(owner, "gradients", list).append(gradient)
    # The name goes with the gradient: a saved model may have another of this name.
    reference = weakref.ref(gradient, lambda _: registry.pop(name, None))
    registry[name]["type"] = functools.partial(_apply, reference)
    return results


def _apply(gradient: weakref.ref, operation: tf.Operation, *upstream: Tensor) -> Any:
    return gradient()(operation, *upstream)


def _differentiated(call: Call) -> tuple[Any, ...]:
    return call.sequences, call.states, call.weights, call.memory


def _replaced(call: Call, differentiated: tuple[Any, ...]) -> Call:
    sequences, states, weights, memory = differentiated
    return call._replace(sequences=sequences, states=states, weights=weights, memory=memory)


def leaves(structure: Any) -> list[Tensor]:
    """The leaves of a structure, without None."""
    return [x for x in tree.flatten(structure) if x is not None]


def filled(structure: Any, flat: Any) -> Any:
    """The inverse of `leaves`: the structure with new leaves."""
    values = iter(flat)
    return tree.map_structure(lambda x: None if x is None else next(values), structure)


# cuDNN: see `backend.CudnnBackend`.


def cudnn_loop(cell: Steppable, options: Options, call: Call) -> Results:
    """Run the loop in cuDNN, differentiated by TensorFlow."""
    return cudnn.loop(sys.modules[__name__], cell, options, call)


def excludes_xla(cell: Steppable, options: Options, jit_compile: JitCompile) -> bool:
    """See `loop.excludes_xla`. In a function that XLA compiles there is no cuDNN."""
    if options.use_cudnn is False or cudnn.refusal(cell, options, jit_compile):
        return False
    return _refusal_of_machine() is None


def cudnn_refusal(mode: str, call: Call) -> str | None:
    """See `backend.CudnnBackend`."""
    reason = _refusal_of_machine()
    if reason:
        return reason
    device, dtype = _requested_device(), call.sequences.dtype
    if device not in (None, "GPU"):
        return f"the layer is placed on a {device}"
    if dtype not in (tf.float16, tf.float32, tf.float64):
        return (
            f"cuDNN computes in float16, float32 and float64, and the compute dtype is {dtype.name}"
        )
    if _under_xla():
        return "XLA compiles the surrounding function"
    if _in_forward_mode(call):
        return "a ForwardAccumulator watches its inputs, and cuDNN has no forward mode"
    if _in_nested_tapes(call):
        return "its gradient is differentiated again, by a nested or a persistent tape"
    return None


def _refusal_of_machine() -> str | None:
    if not tf.config.list_logical_devices("GPU"):
        return "TensorFlow has no GPU"
    if not tf.sysconfig.get_build_info()["is_cuda_build"]:
        return "this TensorFlow is built without CUDA"
    return None


def _requested_device() -> str | None:
    """The kind of device of the surrounding `tf.device`; None without one."""
    if tf.executing_eagerly():
        device = context.context().device_name or ""
    else:
        device = tf.constant(0).device
    return tf.DeviceSpec.from_string(device).device_type


def cudnn_kernel(
    mode: str,
    x: tf.Tensor,
    states: list[tf.Tensor],
    weights: tf.Tensor,
    lengths: tf.Tensor | None,
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """See `backend.CudnnBackend`."""
    rows, units = x.shape[0], states[0].shape[-1]
    if lengths is None:
        lengths = tf.fill(tf.shape(x)[:1], tf.shape(x)[1])
    empty = 0
    if rows is None:  # possibly none, which cuDNN rejects: it then runs on a row of zeros
        empty = tf.cast(tf.equal(tf.shape(x)[0], 0), tf.int32)

    # Padding copies nothing if there is nothing to pad, nor does a slice that is the entire tensor.
    def with_row(x: tf.Tensor, value: int = 0) -> tf.Tensor:
        return tf.pad(x, [[0, empty], *([0, 0] for _ in x.shape[1:])], constant_values=value)

    def without_row(y: tf.Tensor, *shape: int | None) -> tf.Tensor:
        size = tf.concat([tf.shape(x)[:1], tf.shape(y)[1:]], 0)
        y = tf.slice(y, tf.zeros_like(size), size)
        y.set_shape((rows, *shape))
        return y

    h, *c = (tf.expand_dims(with_row(state), 1) for state in states)  # (batch, layers, units)
    outputs, *finals, _, _ = tf.raw_ops.CudnnRNNV3(
        input=with_row(x),
        input_h=h,
        input_c=c[0] if c else tf.zeros((), x.dtype),
        params=weights,
        sequence_lengths=with_row(lengths, 1),
        rnn_mode=mode,
        is_training=True,  # in inference, too: a gradient may be requested
        time_major=False,
    )
    finals = [without_row(tf.squeeze(final, 1), units) for final in finals[: len(states)]]
    return without_row(outputs, x.shape[1], units), finals


def take_steps(x: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
    """See `backend.CudnnBackend`."""
    return tf.gather(x, steps, axis=1, batch_dims=1)


def _parts(call: Call) -> list[Call]:
    """Split the call along its batch, one part per core, where that is faster."""
    parts = _cores()
    if call.sequences.shape[0] is not None:
        parts = max(1, min(parts, call.sequences.shape[0] // ROWS_A_PART))
    if _recurrent_bytes(call.weights) > KERNEL_BYTES:
        parts = 1
    return _cut(call, parts)


def _parts_of_graphs(call: Call) -> list[Call]:
    """Split the call along its batch, one part per core, if there are as many rows."""
    return _cut(call, min(_cores(), call.sequences.shape[0] or _cores()))


def _cut(call: Call, parts: int) -> list[Call]:
    """Split the call along its batch; all parts have the same weights."""
    of_batch = call._replace(weights={}, noise=call.noise._replace(weights={}), steps=None)
    return [
        part._replace(
            weights=call.weights,
            noise=part.noise._replace(weights=call.noise.weights),
            steps=call.steps,
        )
        for part in _split(of_batch, parts)
    ]


def _recurrent_bytes(weights: Mapping[str, Any]) -> int:
    """The size of the recurrent kernels; a custom cell may have none."""
    size = 0
    for name, weight in weights.items():
        if isinstance(weight, dict):
            size += _recurrent_bytes(weight)
        elif name == "recurrent_kernel":
            size += weight.shape.num_elements() * weight.dtype.size
    return size


def _cores() -> int:
    """The number of cores that share the batch, on a machine without a GPU."""
    if tf.config.list_physical_devices("GPU"):
        return 1
    threads = tf.config.threading.get_inter_op_parallelism_threads()
    if threads:
        return threads
    if hasattr(os, "sched_getaffinity"):  # Linux only: the cores that this process may use
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _split(structure: Any, parts: int) -> list[Any]:
    """Cut every tensor of a structure along its first axis, the batch."""
    if parts == 1:
        return [structure]
    batch = _length(leaves(structure)[0])
    cuts = [batch * k // parts for k in range(parts + 1)]
    return [
        tree.map_structure(lambda x, a=a, b=b: None if x is None else x[a:b], structure)
        for a, b in itertools.pairwise(cuts)
    ]


def _joined(results: list[Results]) -> Results:
    if len(results) == 1:
        return results[0]
    return tree.map_structure(lambda *x: None if x[0] is None else tf.concat(x, 0), *results)


def _unroll(cell: Steppable, options: Options, call: Call) -> Unroll:
    return over_time(sys.modules[__name__], cell, options, call)


def _forward(cell: Steppable, options: Options, call: Call) -> Results:
    return _unroll(cell, options, call).forward()


def _forward_with_residuals(cell: Steppable, options: Options, call: Call) -> tuple[Results, Any]:
    return _unroll(cell, options, call).forward_with_residuals()


def _backward(
    cell: Steppable, options: Options, call: Call, residuals: Any, d_results: Results
) -> tuple[Any, ...]:
    return _unroll(cell, options, call).backward(residuals, d_results)


def _backward_from_start(
    cell: Steppable, options: Options, call: Call, residuals: None, d_results: Results
) -> tuple[Any, ...]:
    unroll = _unroll(cell, options, call)
    _, residuals = unroll.forward_with_residuals()
    return unroll.backward(residuals, d_results)


def _function(
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

    return _stored(cell, (run_loop, options, jit_compile), make)


def _table() -> tf.lookup.experimental.MutableHashTable:
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


def _stored(cell: Steppable, key: Any, make: Callable[[], Any]) -> Any:
    """What is kept with a cell, made when it is first needed."""
    # An attribute that neither Keras nor TensorFlow tracks.
    of_cell = vars(cell).setdefault("_kerasrnn_loops", _Stored())
    if key not in of_cell:
        of_cell[key] = make()
    return of_cell[key]
