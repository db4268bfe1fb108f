"""The time loop on TensorFlow.

Two ways of running it:

- as graph: a `tf.while_loop`, part of the graph around it; eagerly, inside a `tf.function`;
- compiled: by XLA, on CPUs once for each part of the batch. Rows do not see each other, so every
  core loops over rows of its own, with no waiting for the others at each step.

In training both have the loop's own gradient; otherwise the graph's is automatic and keeps nothing
unless a gradient is asked for, and the compiled loop runs forward a second time for a gradient.
"""

import dataclasses
import functools
import itertools
import os
import sys
import weakref
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from keras import tree
from tensorflow.python.eager import forwardprop_util  # not exported
from tensorflow.python.ops import control_flow_util, gradients_util  # not exported

from kerasrnn.recurrence import unrolled
from kerasrnn.recurrence.loop import Call, JitCompile, Options, Results, Steppable
from kerasrnn.recurrence.unroll import Unroll

Tensor = Any

# A compiled function belongs to its cell and goes with it: cell -> {key: tf.function}.
_functions: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()

# The fewest rows of the batch for a core, and the largest recurrent kernel, in bytes, that it pays
# to read once a core: measured in benchmarks/NOTES.md.
ROWS_A_PART = 8
KERNEL_BYTES = 1 << 20


def run(cell: Steppable, options: Options, call: Call, jit_compile: JitCompile) -> Results:
    """See `loop.run`. An eager call runs a compiled graph, not a loop driven by Python."""
    # Of a stateful layer, Keras passes the variables themselves.
    call = call._replace(states=[tf.convert_to_tensor(state) for state in call.states])
    if _in_forward_mode(call):
        return _forward_mode_loop(cell, options, call)
    nested = _in_nested_tapes(call)
    compiled = not _under_xla() and _compiles(options, call, jit_compile)
    compiled = compiled and not (nested and tf.executing_eagerly())
    if (
        compiled and options.unroll
    ):  # no loop to run part by part: XLA compiles the steps as they are
        return _function(cell, graph_loop, options, True)(call)
    if nested and not compiled and not options.unroll:
        return twice_differentiable_loop(cell, options, call)
    way = compiled_loop if compiled else graph_loop
    if tf.executing_eagerly():
        return _function(cell, way, options)(call)
    return way(cell, options, call)


def _under_xla() -> bool:
    """Whether the function around is compiled by XLA as a whole."""
    if tf.executing_eagerly():
        return False
    return control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


def _in_forward_mode(call: Call) -> bool:
    """Whether a `tf.autodiff.ForwardAccumulator` follows what this call depends on."""
    return bool(forwardprop_util.pack_tangents(leaves(_differentiated(call))).tangents)


def _forward_mode_loop(cell: Steppable, options: Options, call: Call) -> Results:
    """The steps written out, which a `ForwardAccumulator` follows rightly.

    Inside a graph it takes a custom gradient for zero, and it fails on loops there and on what XLA
    compiles (TensorFlow 2.21).
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
    return (
        gradients_util.PossibleTapeGradientTypes(leaves(_differentiated(call)))
        == gradients_util.POSSIBLE_GRADIENT_TYPES_HIGHER_ORDER
    )


def _compiles(options: Options, call: Call, jit_compile: JitCompile) -> bool:
    if jit_compile != "auto":
        return jit_compile
    # XLA compiles each length anew: it pays where the graph is called with one length.
    # Steps written out take it long, and ever longer: docs/execution.md has figures.
    graph = not tf.executing_eagerly()
    known = call.sequences.shape[1] is not None
    return graph and options.training and known and not options.unroll


# What `Unroll` needs from a backend.


def scan(
    body: Callable[[Any, Any], tuple[Any, Any]],
    carry: Any,
    xs: Any,
    reverse: bool = False,
    prefetch: bool = True,
) -> tuple[Any, Any]:
    """See `unroll.Backend`.

    XLA would clear the array of a y first, so there a y is written over an x that has its shape.
    Such an x is always read a step ahead: XLA may well order a step's reading after its writing,
    and would then copy the whole array in every step.
    """
    xla = _under_xla()
    flat_xs = leaves(xs)
    steps = _length(flat_xs[0])
    # TensorArrays, not slices of one tensor: where the loop is differentiated automatically, the
    # gradient of a slice is a full-size tensor of zeros a step, and the backward pass would grow
    # with the square of the steps.
    # The first x is read twice, which matters where functions are run eagerly.
    x_arrays = [
        tf.TensorArray(x.dtype, steps, clear_after_read=False, element_shape=x.shape[1:]).unstack(x)
        for x in flat_xs
    ]
    start = steps - 1 if reverse else 0
    first = [array.read(start) for array in x_arrays]
    _, y = body(carry, filled(xs, first))  # for its structure: the values are never computed
    over, y_arrays = _targets(leaves(y), first if xla else [], x_arrays, steps)
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
        after = [_tied(new, old) for new, old in zip(leaves(after), values, strict=True)]
        return n + 1, after, read, y_arrays

    _, flat_carry, _, y_arrays = tf.while_loop(
        cond=lambda *_: True,
        body=step,
        loop_vars=(tf.constant(0), leaves(carry), first if prefetch else [], y_arrays),
        # All of the condition: XLA then knows how many steps there are, if they are known, and need
        # not ask for it after each; and its automatic differentiation needs a bound.
        maximum_iterations=steps,
    )
    return filled(carry, flat_carry), filled(y, [array.stack() for array in y_arrays])


def _tied(new: tf.Tensor, old: tf.Tensor) -> tf.Tensor:
    """What a step makes of a carried value, with a dependence on that value if it has none.

    `tape.jacobian` vectorizes loops, and fails on one that replaces a carried value by something
    that does not depend on it, as a step does with the output before it (TensorFlow 2.21). XLA
    removes the selection.
    """
    if tf.executing_eagerly() or _depends(new, old):
        return new
    return tf.where(tf.constant(False), old, new)


def _depends(result: tf.Tensor, source: tf.Tensor) -> bool:
    """Whether a tensor of a graph is computed from the values of another one."""
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
    ys: list[tf.Tensor], xs: list[tf.Tensor], x_arrays: list[tf.TensorArray], steps: Any
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
            y_arrays.append(tf.TensorArray(y.dtype, size=steps, element_shape=y.shape))
    return over, y_arrays


def vjp(
    function: Callable[..., Any], arguments: tuple[Any, ...]
) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """See `unroll.Backend`."""
    # Nodes of their own, so that the same tensor may stand for two arguments.
    arguments = tree.map_structure(tf.identity, arguments)
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch([x for x in tree.flatten(arguments) if x is not None])
        results = function(*arguments)

    def vjp_fn(d_results: Any) -> tuple[Any, ...]:
        pairs = zip(tree.flatten(results), tree.flatten(d_results), strict=True)
        asked = [(y, d) for y, d in pairs if d is not None]
        flat = tape.gradient(
            [y for y, _ in asked],
            tree.flatten(arguments),
            [d for _, d in asked],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        return tree.pack_sequence_as(arguments, flat)

    return results, vjp_fn


def scope() -> Any:
    """See `unroll.Backend`."""
    return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()


def _length(x: tf.Tensor) -> tf.Tensor | int:
    return tf.shape(x)[0] if x.shape[0] is None else x.shape[0]


# The ways of running it.


def graph_loop(cell: Steppable, options: Options, call: Call) -> Results:
    """As part of the graph around it."""
    if options.unroll:
        return unrolled.loop(cell, options, call)
    if not options.training and options.checkpoint_every is None:
        return _unroll(cell, options, call).forward()

    def forward(call: Call) -> tuple[Results, Callable[[Results], Any]]:
        unroll = _unroll(cell, options, call)
        results, residuals = unroll.forward_with_residuals()
        return results, functools.partial(unroll.backward, residuals)

    return _with_gradient(forward, call)


def compiled_loop(cell: Steppable, options: Options, call: Call) -> Results:
    """Compiled by XLA, part by part."""

    def function(way: Callable[..., Any]) -> Callable[..., Any]:
        return _function(cell, way, options, True)

    split = functools.partial(_parts, cell)
    return _loop_of_functions(cell, options, call, function, options.training, split)


def twice_differentiable_loop(cell: Steppable, options: Options, call: Call) -> Results:
    """As a graph, whose gradient's gradient is made anew.

    TensorFlow cannot vectorize the second derivative of a loop, as `tape.jacobian` of a gradient
    does: it raises an error, or returns an empty tensor (TensorFlow 2.21).
    """

    def function(way: Callable[..., Any]) -> Callable[..., Any]:
        if tf.executing_eagerly():
            return _function(cell, way, options)
        return functools.partial(way, cell, options)

    return _loop_of_functions(cell, options, call, function, True, lambda call: [call])


def _loop_of_functions(
    cell: Steppable,
    options: Options,
    call: Call,
    as_function: Callable[[Callable[..., Any]], Callable[..., Any]],
    with_residuals: bool,
    split: Callable[[Call], list[Call]],
) -> Results:
    """Part by part, there and back in functions that tapes do not look into.

    `with_residuals` says whether the forward pass keeps what the backward pass needs.
    """

    def forward(call: Call) -> tuple[Results, Callable[[Results], Any]]:
        parts = split(call)
        function = as_function(_forward_with_residuals if with_residuals else _forward)
        run = [function(_apart(part)) for part in parts]
        results = [results for results, _ in run] if with_residuals else run

        def backward(d_results: Results) -> Any:
            if with_residuals:
                function = as_function(_backward)
                residuals = [residuals for _, residuals in run]
            else:
                function = as_function(_backward_from_start)
                residuals = [None] * len(parts)
            d_parts = [
                function(*_apart(of_part))
                for of_part in zip(parts, residuals, _split(d_results, len(parts)), strict=True)
            ]
            d_sequences, d_states, d_weights, d_memory = zip(*d_parts, strict=True)
            return (
                tf.concat(d_sequences, 0),
                [tf.concat(d, 0) for d in zip(*d_states, strict=True)],
                {name: tf.add_n([d[name] for d in d_weights]) for name in call.weights},
                {name: tf.concat([d[name] for d in d_memory], 0) for name in call.memory},
            )

        def differentiable(d_results: Results) -> Any:
            return _differentiable(backward, cell, options, call, d_results)

        return _joined(results), differentiable

    return _with_gradient(forward, call)


def _differentiable(
    backward: Callable[[Results], Any],
    cell: Steppable,
    options: Options,
    call: Call,
    d_results: Results,
) -> Any:
    """What goes back in a function, with a gradient: that of going back in the graph."""
    arguments = (_differentiated(call), d_results)
    flat_arguments = leaves(arguments)

    def loop_again(cell: Steppable, options: Options, call: Call) -> Results:
        if not _vectorizing():
            if tf.executing_eagerly():
                return _function(cell, graph_loop, options)(call)
            return graph_loop(cell, options, call)
        if call.sequences.shape[1] is None:
            raise ValueError(
                "tape.jacobian of a gradient: a recurrent layer needs a known number of steps for "
                f"it; received sequences of shape {tuple(call.sequences.shape)}. Give them a "
                "static length, or use jacobian(..., experimental_use_pfor=False)."
            )
        options = dataclasses.replace(options, unroll=True, checkpoint_every=None)
        return unrolled.loop(cell, options, call)

    @tf.custom_gradient
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
    return filled(structure, function(*flat_arguments))


def _vectorizing() -> bool:
    """Whether this is traced to be vectorized: `tf.vectorized_map` and tapes name it so."""
    return any(part.startswith("loop_body") for part in tf.get_current_name_scope().split("/"))


def _apart(structure: Any) -> Any:
    """Hidden from tapes, which would take apart the compiled function that it is given to."""
    return tree.map_structure(lambda x: None if x is None else tf.stop_gradient(x), structure)


def _with_gradient(
    forward: Callable[[Call], tuple[Results, Callable[[Results], Any]]], call: Call
) -> Results:
    """`forward` gives the results and what takes their gradients back."""
    structure: list[Results] = []

    @tf.custom_gradient
    def function(*flat: Tensor) -> tuple[list[Tensor], Callable[..., list[Tensor]]]:
        results, backward = forward(_replaced(call, filled(_differentiated(call), flat)))
        structure.append(results)

        def gradient(*d_flat: Tensor) -> list[Tensor]:
            return leaves(backward(filled(results, d_flat)))

        return leaves(results), gradient

    flat = function(*leaves(_differentiated(call)))
    return filled(structure[0], flat)


def _differentiated(call: Call) -> tuple[Any, ...]:
    return call.sequences, call.states, call.weights, call.memory


def _replaced(call: Call, differentiated: tuple[Any, ...]) -> Call:
    sequences, states, weights, memory = differentiated
    return call._replace(sequences=sequences, states=states, weights=weights, memory=memory)


def leaves(structure: Any) -> list[Tensor]:
    """What there is in a structure, in which None stands for nothing."""
    return [x for x in tree.flatten(structure) if x is not None]


def filled(structure: Any, flat: Any) -> Any:
    """The other way: a structure with these in the places of its leaves."""
    values = iter(flat)
    return tree.map_structure(lambda x: None if x is None else next(values), structure)


def _parts(cell: Steppable, call: Call) -> list[Call]:
    """The call, cut into parts of its batch, one a core, where that pays."""
    parts = _cores()
    if call.sequences.shape[0] is not None:
        parts = max(1, min(parts, call.sequences.shape[0] // ROWS_A_PART))
    kernel = call.weights.get("recurrent_kernel")  # a user's cell may have none of that name
    if kernel is not None and kernel.shape.num_elements() * kernel.dtype.size > KERNEL_BYTES:
        parts = 1
    of_batch = call._replace(weights=None)
    return [part._replace(weights=call.weights) for part in _split(of_batch, parts)]


def _cores() -> int:
    """Over which the parts of the batch are spread: those of a machine without a GPU."""
    if tf.config.list_physical_devices("GPU"):
        return 1
    threads = tf.config.threading.get_inter_op_parallelism_threads()
    if threads:
        return threads
    if hasattr(os, "sched_getaffinity"):  # Linux alone: those that this process may use
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _split(structure: Any, parts: int) -> list[Any]:
    """Every tensor of a structure cut along its first axis, the batch."""
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
    return Unroll(sys.modules[__name__], cell, options, call)


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
    cell: Steppable, way: Callable[..., Any], options: Options, jit_compile: bool = False
) -> Callable[..., Any]:
    """A way of running the loop, as a `tf.function`."""
    functions = _functions.setdefault(cell, {})
    key = (way, options, jit_compile)
    if key not in functions:
        # A strong reference would keep the cell alive for ever. A partial, and not a closure,
        # since TensorFlow takes closures of one piece of code for one function, and would warn
        # that it is traced too often.
        functions[key] = tf.function(
            functools.partial(_call, way, weakref.ref(cell), options),
            jit_compile=jit_compile or None,
            autograph=False,
            reduce_retracing=not options.unroll,  # written out, each length is another graph
        )
    return functions[key]


def _call(way: Callable[..., Any], owner: weakref.ref, options: Options, *tensors: Any) -> Any:
    return way(owner(), options, *tensors)
