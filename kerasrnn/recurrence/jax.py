"""The time loop on JAX: one `lax.scan`, inside a `jax.jit`."""

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from kerasrnn.recurrence import unrolled
from kerasrnn.recurrence.loop import Dropout, JitCompile, Options, Steppable

Tensor = Any

# A compiled loop belongs to its cell and goes with it: cell -> {options: compiled function}.
_functions: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def loop(
    cell: Steppable,
    options: Options,
    sequences: jax.Array,
    states: Sequence[jax.Array],
    weights: Mapping[str, jax.Array],
    dropout: Dropout,
    mask: jax.Array | None,
) -> tuple[jax.Array, jax.Array, list[jax.Array]]:
    x = jnp.swapaxes(sequences, 0, 1)  # (time, batch, features)
    a = cell.input_part(x, weights, dropout.inputs)
    products = cell.recurrent_products(weights, dropout.recurrent)
    step_weights = {name: weights[name] for name in cell.step_weights}
    keeps = None if mask is None else jnp.transpose(mask)[:, :, None]  # (time, batch, 1)
    zeros = jnp.zeros((sequences.shape[0], cell.output_size), dtype=a.dtype)

    def body(carry: tuple[Any, ...], inputs: tuple[Any, ...]) -> tuple[Any, Any]:
        output, states = carry
        a_t, keep = inputs
        output_t, states_t = cell.step(a_t, states, step_weights, products)
        # Keras computes some operations on float64 in float32 on JAX; a scan keeps its types.
        output_t = output_t.astype(output.dtype)
        states_t = [new.astype(old.dtype) for new, old in zip(states_t, states, strict=True)]
        if keep is not None:
            output_t = jnp.where(keep, output_t, zeros if options.zero_output_for_mask else output)
            states_t = [
                jnp.where(keep, new, old) for new, old in zip(states_t, states, strict=True)
            ]
        return (output_t, list(states_t)), output_t if options.return_sequences else None

    (output, states), outputs = jax.lax.scan(
        body, (zeros, list(states)), (a, keeps), reverse=options.go_backwards
    )
    if not options.return_sequences:
        return output, output[:, None], states
    if options.go_backwards:
        outputs = jnp.flip(outputs, axis=0)  # the order in which they were computed
    return output, jnp.swapaxes(outputs, 0, 1), states


def run(
    cell: Steppable,
    options: Options,
    sequences: jax.Array,
    states: Sequence[jax.Array],
    weights: Mapping[str, jax.Array],
    dropout: Dropout,
    mask: jax.Array | None,
    jit_compile: JitCompile,
) -> tuple[jax.Array, jax.Array, list[jax.Array]]:
    """See `loop.run`. Compiled with `jax.jit`, except with `jit_compile=False`."""
    tensors = (sequences, list(states), dict(weights), dropout, mask)
    if jit_compile is False:
        return _loop(options)(cell, options, *tensors)
    return _function(cell, options)(*tensors)


def _loop(options: Options) -> Callable[..., Any]:
    return unrolled.loop if options.unroll else loop


def _function(cell: Steppable, options: Options) -> Callable[..., Any]:
    functions = _functions.setdefault(cell, {})
    if options not in functions:
        owner = weakref.ref(cell)  # a strong reference would keep the cell alive for ever
        functions[options] = jax.jit(lambda *tensors: _loop(options)(owner(), options, *tensors))
    return functions[options]
