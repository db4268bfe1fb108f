"""The time loop on JAX: a scan in a `jax.jit`, with a custom gradient in training."""

import dataclasses
import functools
import sys
import weakref
from collections.abc import Callable
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp

from kerasrnn.recurrence import cudnn, unrolled
from kerasrnn.recurrence.loop import Call, JitCompile, Options, Results, Steppable
from kerasrnn.recurrence.unroll import Unroll
from kerasrnn.recurrence.ways import over_time

# Enough rows for a product to run at full speed.
SEGMENT_ROWS = 1280

# A compiled loop is stored as long as its cell exists: cell -> {options: compiled function}.
_functions: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def run(cell: Steppable, options: Options, call: Call, jit_compile: JitCompile) -> Results:
    """See `loop.run`. Always a `jax.jit`, for any value of `jit_compile`."""
    in_cudnn = cudnn.runs(cell, options, call, jit_compile, cudnn_refusal)
    options = dataclasses.replace(options, use_cudnn=in_cudnn)
    # JAX compiles every loop: without a cached `jax.jit`, again in each call.
    try:
        return _function(cell, options)(call)
    except TypeError as error:
        if "forward-mode" not in str(error) or "custom_vjp" not in str(error):
            raise
        raise ValueError(
            f"{type(cell).__name__}: forward-mode differentiation (jax.jvp, jax.linearize, "
            "jax.jacfwd) of a time loop with training=True or checkpoint_every, or in cuDNN, which "
            "has a custom gradient only for reverse mode; expected reverse mode (jax.grad, "
            "jax.vjp, jax.jacrev), training=False with use_cudnn=False, or a layer with "
            "unroll=True."
        ) from error


def scan_loop(cell: Steppable, options: Options, call: Call) -> Results:
    if options.use_cudnn:
        return cudnn.loop(sys.modules[__name__], cell, options, call)
    if options.unroll:
        return unrolled.loop(cell, options, call)
    if not options.training and options.checkpoint_every is None:
        return _unroll(cell, options, call).forward()
    return _loop_with_gradient(cell, options, call)


# The backend interface of `Unroll`.


def scan(
    body: Callable[[Any, Any], tuple[Any, Any]],
    carry: Any,
    xs: Any,
    reverse: bool = False,
    prefetch: bool = True,
    steps: None = None,
) -> tuple[Any, Any]:
    """See `backend.Backend`. JAX knows all lengths, and no call has padded steps.

    On CPUs, y is written over an x of the same shape, and x is read a step ahead, as on TensorFlow
    (benchmarks/speed/NOTES.md). Automatic differentiation of this loop would store the arrays that
    it overwrites at every step; a differentiated loop is therefore a `lax.scan`.
    """
    flat_xs = jax.tree.leaves(xs)
    length = flat_xs[0].shape[0] if flat_xs else None
    if jax.default_backend() != "cpu" or not isinstance(length, int) or length == 0:
        return jax.lax.scan(body, carry, xs, reverse=reverse)
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (carry, xs))
    of_step = like[0], jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), like[1])
    # The tensors that the body refers to become arguments, since they may be differentiated.
    jaxpr, (_, y) = jax.make_jaxpr(body, return_shape=True)(*of_step)
    structure = jax.tree.structure(of_step[0]), jax.tree.structure((of_step[0], y))

    def step(constants: Any, carry: Any, x: Any) -> tuple[Any, Any]:
        function = jax.extend.core.jaxpr_as_fun(jax.extend.core.ClosedJaxpr(jaxpr.jaxpr, constants))
        flat = function(*jax.tree.leaves((carry, x)))
        return jax.tree.unflatten(structure[1], flat)

    @jax.custom_jvp
    def loop(constants: Any, carry: Any, xs: Any) -> tuple[Any, Any]:
        return _loop_in_place(functools.partial(step, constants), carry, xs, y, reverse, prefetch)

    @functools.partial(loop.defjvp, symbolic_zeros=True)
    def jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
        flat, flat_tangents = jax.tree.leaves(primals), jax.tree.leaves(tangents)
        zero = jax.custom_derivatives.SymbolicZero
        varied = [k for k, d in enumerate(flat_tangents) if not isinstance(d, zero)]

        def differentiable(*values: Any) -> tuple[Any, Any]:
            all_values = list(flat)
            for k, value in zip(varied, values, strict=True):
                all_values[k] = value
            arguments = jax.tree.unflatten(jax.tree.structure(primals), all_values)
            constants, carry, xs = arguments
            body = functools.partial(step, constants)
            return jax.lax.scan(body, carry, xs, reverse=reverse)

        return jax.jvp(
            differentiable, [flat[k] for k in varied], [flat_tangents[k] for k in varied]
        )

    return loop(jaxpr.consts, carry, xs)


def _loop_in_place(
    body: Callable[[Any, Any], tuple[Any, Any]],
    carry: Any,
    xs: Any,
    y: Any,
    reverse: bool,
    prefetch: bool,
) -> tuple[Any, Any]:
    """A scan that writes y over an x of the same shape; `y` is that of one step, without values."""
    flat_xs, flat_y = jax.tree.leaves(xs), jax.tree.leaves(y)
    steps = len(flat_xs[0])
    # For each y, the x that it overwrites, if any.
    over: list[int | None] = []
    for one in flat_y:
        alike = (
            k
            for k, x in enumerate(flat_xs)
            if k not in over and (x.shape[1:], x.dtype) == (one.shape, one.dtype)
        )
        over.append(next(alike, None))
    ys = [
        jax.lax.empty((steps, *one.shape), one.dtype) if k is None else flat_xs[k]
        for k, one in zip(over, flat_y, strict=True)
    ]
    # XLA would copy an array in every step that is read after it was written.
    prefetch = prefetch or any(k is not None for k in over)

    def read(t: Any, ys: list[Any]) -> Any:
        now = list(flat_xs)
        for k, one in zip(over, ys, strict=True):
            if k is not None:
                now[k] = one
        at = [jax.lax.dynamic_index_in_dim(x, t, 0, keepdims=False) for x in now]
        return jax.tree.unflatten(jax.tree.structure(xs), at)

    def step(n: Any, values: tuple[Any, Any, list[Any]]) -> tuple[Any, Any, list[Any]]:
        carry, x, ys = values
        t = steps - 1 - n if reverse else n
        carry, y = body(carry, x if prefetch else read(t, ys))
        ys = [
            jax.lax.dynamic_update_index_in_dim(array, one, t, 0)
            for array, one in zip(ys, jax.tree.leaves(y), strict=True)
        ]
        if prefetch:
            x = read(jnp.maximum(t - 1, 0) if reverse else jnp.minimum(t + 1, steps - 1), ys)
        return carry, x, ys

    first = read(steps - 1 if reverse else 0, ys) if prefetch else None
    carry, _, ys = jax.lax.fori_loop(0, steps, step, (carry, first, ys))
    return carry, jax.tree.unflatten(jax.tree.structure(y), ys)


def scans_in_parallel() -> bool:
    """See `backend.Backend`."""
    return jax.default_backend() != "cpu"


def cuts_sequences() -> bool:
    """See `backend.Backend`."""
    return False


def segment_rows(input_part: Callable[[Any], Any], steps: Any, outputs: int) -> int | None:
    """See `backend.Backend`."""
    # On CPUs the memory of a program is taken from the system in each call if it exceeds 32 MB,
    # and the first access to it takes longer than the product: benchmarks/speed/NOTES.md. Inputs
    # and products that fit into the memory of the outputs need no more than these.
    if jax.default_backend() != "cpu":
        return None
    if max(x.size for x in jax.tree.leaves(steps)) >= outputs:
        return SEGMENT_ROWS
    parts = jax.tree.leaves(jax.eval_shape(input_part, steps))
    return None if all(a.size <= outputs for a in parts) else SEGMENT_ROWS


def vjp(
    function: Callable[..., Any], arguments: tuple[Any, ...]
) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """See `backend.Backend`."""
    results, pullback = jax.vjp(function, *arguments)

    def vjp_fn(d_results: Any) -> tuple[Any, ...]:
        flat, structure = jax.tree.flatten(results)
        # A single None may replace an entire branch of gradients.
        d_flat = jax.tree.leaves(
            jax.tree.map(
                lambda d, y: jax.tree.map(jnp.zeros_like, y) if d is None else d,
                d_results,
                results,
                is_leaf=lambda d: d is None,
            )
        )
        d_flat = [d.astype(y.dtype) for d, y in zip(d_flat, flat, strict=True)]
        return pullback(jax.tree.unflatten(structure, d_flat))

    return results, vjp_fn


def scope() -> Any:
    """See `backend.Backend`."""
    return jax.extend.core.get_opaque_trace_state(convention="nnx")


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _loop_with_gradient(cell: Steppable, options: Options, call: Call) -> Results:
    return _unroll(cell, options, call).forward()


def _forward(cell: Steppable, options: Options, call: Call) -> tuple[Results, Any]:
    results, residuals = _unroll(cell, options, call).forward_with_residuals()
    return results, (call, residuals)


def _backward(
    cell: Steppable, options: Options, saved: tuple[Call, Any], d_results: Results
) -> tuple[Call]:
    call, residuals = saved
    d_sequences, d_states, *d_constants = _unroll(cell, options, call).backward(
        residuals, d_results
    )
    d_weights, d_memory = jax.tree.map(
        lambda d, x: d.astype(x.dtype), d_constants, [call.weights, call.memory]
    )
    return (Call(d_sequences, d_states, d_weights, d_memory, noise=None, mask=None),)


_loop_with_gradient.defvjp(_forward, _backward)


def _unroll(cell: Steppable, options: Options, call: Call) -> Unroll:
    return over_time(sys.modules[__name__], cell, options, call)


def _function(cell: Steppable, options: Options) -> Callable[..., Any]:
    functions = _functions.setdefault(cell, {})
    if options not in functions:
        owner = weakref.ref(cell)  # a strong reference would keep the cell alive forever
        functions[options] = jax.jit(lambda call: scan_loop(owner(), options, call))
    return functions[options]


# Dynamic programs: see `dynamic`.


def traced(
    program: Callable[..., Any], arguments: tuple[Any, ...], key: Any, static: dict[str, Any]
) -> Any:
    """See `dynamic`."""
    return _program(program, tuple(sorted(static.items())))(*arguments)


@functools.cache
def _program(program: Callable[..., Any], static: tuple[tuple[str, Any], ...]) -> Any:
    return jax.jit(functools.partial(program, **dict(static)))


def with_gradient(
    forward: Callable[..., tuple[Any, Any]],
    backward: Callable[[Any, Any], Any],
    arguments: tuple[jax.Array, ...],
) -> Any:
    """See `dynamic`."""
    return _differentiable(forward, backward)(*arguments)


@functools.cache
def _differentiable(
    forward: Callable[..., tuple[Any, Any]], backward: Callable[[Any, Any], Any]
) -> Any:
    function = jax.custom_vjp(lambda *arguments: forward(*arguments)[0])
    function.defvjp(forward, backward)
    return function


# cuDNN: see `backend.CudnnBackend`.


def cudnn_refusal(mode: str, call: Call) -> str | None:
    """See `backend.CudnnBackend`."""
    device, precision = jax.config.jax_default_device, jax.config.jax_default_matmul_precision
    if not _has_cuda():
        return "JAX has no CUDA device"
    if device is not None and getattr(device, "platform", device) not in ("gpu", "cuda"):
        return f"jax_default_device is {device}"
    if mode != "lstm":
        return "JAX has only cuDNN's LSTM"
    if call.sequences.dtype != "float32":
        return (
            f"JAX has cuDNN's LSTM only in float32, and the compute dtype is {call.sequences.dtype}"
        )
    if precision in ("default", "fastest", "bfloat16"):
        return f"jax_default_matmul_precision is {precision!r}"
    if not all(isinstance(size, int) for size in call.sequences.shape):
        return f"the shape of the sequences, {call.sequences.shape}, is symbolic"
    return None


def _has_cuda() -> bool:
    try:
        return jax.default_backend() == "gpu" and bool(jax.devices("cuda"))
    except RuntimeError:  # a GPU of another vendor
        return False


def cudnn_kernel(
    mode: str,
    x: jax.Array,
    states: list[jax.Array],
    weights: jax.Array,
    lengths: jax.Array | None,
) -> tuple[jax.Array, list[jax.Array]]:
    """See `backend.CudnnBackend`."""
    from jax.experimental import rnn  # experimental: a JAX without it needs it only here

    if lengths is None:
        lengths = jnp.full(x.shape[0], x.shape[1], "int32")
    outputs, *finals = rnn.lstm(
        x,
        *(state[None] for state in states),  # (layers, batch, units)
        weights,
        lengths,
        input_size=x.shape[-1],
        hidden_size=states[0].shape[-1],
        num_layers=1,
        dropout=0.0,
        bidirectional=False,
    )
    return outputs, [final[0] for final in finals]


def take_steps(x: jax.Array, steps: jax.Array) -> jax.Array:
    """See `backend.CudnnBackend`."""
    return jnp.take_along_axis(x, steps[:, :, None], axis=1)
