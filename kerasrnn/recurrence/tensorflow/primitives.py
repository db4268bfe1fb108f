"""The interface of TensorFlow to `Unroll`, see `backend.Backend`: the scan and the pullback."""

import sys
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from keras import tree

from kerasrnn.recurrence.loop import Call, Options, Steppable
from kerasrnn.recurrence.tensorflow.gradients import custom_gradient
from kerasrnn.recurrence.tensorflow.structures import filled, leaves, length
from kerasrnn.recurrence.tensorflow.surroundings import under_xla
from kerasrnn.recurrence.unroll import Unroll
from kerasrnn.recurrence.ways import over_time


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
    xla = under_xla()
    flat_xs = leaves(xs)
    size = length(flat_xs[0])
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
    if under_xla():
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


def cuts_sequences() -> bool:
    """See `backend.Backend`. In a graph of operations, more of them would take longer."""
    return under_xla() and not tf.config.list_physical_devices("GPU")


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


def unroll_call(cell: Steppable, options: Options, call: Call) -> Unroll:
    return over_time(sys.modules[__name__], cell, options, call)
