"""The time loop on JAX: a `lax.scan` in a `jax.jit`, with a custom gradient in training."""

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
            "jax.jacfwd) of a time loop with training=True or checkpoint_every, which "
            "has a custom gradient only for reverse mode; expected reverse mode (jax.grad, "
            "jax.vjp, jax.jacrev), training=False, or a layer with unroll=True."
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
    """See `backend.Backend`. JAX knows all lengths, and no call has padded steps."""
    return jax.lax.scan(body, carry, xs, reverse=reverse)


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
    return Unroll(sys.modules[__name__], cell, options, call)


def _function(cell: Steppable, options: Options) -> Callable[..., Any]:
    functions = _functions.setdefault(cell, {})
    if options not in functions:
        owner = weakref.ref(cell)  # a strong reference would keep the cell alive forever
        functions[options] = jax.jit(lambda call: scan_loop(owner(), options, call))
    return functions[options]


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
