"""The time loop written out step by step: `unroll=True`, and backends without a loop of their own.

Only `keras.ops`, so it runs everywhere; the number of steps must be known.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from kerasrnn.recurrence.loop import Dropout, JitCompile, Options, Steppable

Tensor = Any


def loop(
    cell: Steppable,
    options: Options,
    sequences: Tensor,
    states: Sequence[Tensor],
    weights: Mapping[str, Tensor],
    dropout: Dropout,
    mask: Tensor | None,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    x = ops.swapaxes(sequences, 0, 1)  # (time, batch, features)
    a = cell.input_part(x, weights, dropout.inputs)
    products = cell.recurrent_products(weights, dropout.recurrent)
    step_weights = {name: weights[name] for name in cell.step_weights}
    times = range(sequences.shape[1])
    states = list(states)
    zeros = output = ops.zeros((ops.shape(sequences)[0], cell.output_size), dtype=a.dtype)
    outputs = []
    for t in reversed(times) if options.go_backwards else times:
        output_t, states_t = cell.step(a[t], states, step_weights, products)
        if mask is not None:
            keep = mask[:, t : t + 1]
            output_t = ops.where(keep, output_t, zeros if options.zero_output_for_mask else output)
            states_t = [
                ops.where(keep, new, old) for new, old in zip(states_t, states, strict=True)
            ]
        output, states = output_t, states_t
        outputs.append(output)
    if not options.return_sequences:
        outputs = [output]
    return output, ops.stack(outputs, axis=1), states


def run(
    cell: Steppable,
    options: Options,
    sequences: Tensor,
    states: Sequence[Tensor],
    weights: Mapping[str, Tensor],
    dropout: Dropout,
    mask: Tensor | None,
    jit_compile: JitCompile,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """See `loop.run`. Nothing is compiled here."""
    if jit_compile is True:
        raise ValueError(
            f"jit_compile=True: the {keras.config.backend()} backend has no compiled time loop; "
            "expected 'auto' or False."
        )
    return loop(cell, options, sequences, states, weights, dropout, mask)
