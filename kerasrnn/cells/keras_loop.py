"""Keras's own loop, with kerasrnn's rule for masks, which is applied inside its step.

It runs Keras's cells, and cells that override `call`.
"""

from typing import Any

import keras
from keras import ops

from kerasrnn.keras_internals import rnn, takes_training

Tensor = Any


def masked(
    layer: keras.layers.RNN,
    sequences: Tensor,
    initial_state: list[Any],
    mask: Tensor,
    training: bool,
) -> tuple[Tensor, Tensor, list[Any]]:
    """Run the cell of a layer over masked sequences, with the options of the layer.

    Returns:
        The last output, all outputs and the final states, as `keras.layers.RNN.inner_loop`.
    """
    cell = layer.cell
    options = {"training": training} if takes_training(cell) else {}
    first, _ = cell(sequences[:, 0], initial_state, **options)
    nothing = ops.zeros_like(first)
    # A single tensor, whose length Keras finds even if it is unknown when a graph is built.
    used = ops.reshape(mask, (*ops.shape(mask), *(1 for _ in sequences.shape[2:])))
    used = ops.broadcast_to(used, (*ops.shape(sequences)[:-1], 1))
    sequences = ops.concatenate([sequences, ops.cast(used, sequences.dtype)], axis=-1)

    def step(inputs: Tensor, carried: Any) -> tuple[Tensor, Any]:
        x, (states, previous) = inputs[..., :-1], carried
        use = ops.cast(ops.reshape(inputs, (ops.shape(inputs)[0], -1))[:, -1], "bool")

        def selected(new: Tensor, old: Tensor) -> Tensor:
            of_row = ops.reshape(use, (-1, *(1 for _ in new.shape[1:])))
            return ops.where(of_row, new, old)

        output, new = cell(x, states, **options)
        new = keras.tree.pack_sequence_as(states, keras.tree.flatten(new))
        new = keras.tree.map_structure(selected, new, states)
        shown = selected(output, nothing if layer.zero_output_for_mask else previous)
        return shown, [new, selected(output, previous)]

    last, outputs, (states, _) = rnn(
        step,
        sequences,
        [initial_state, nothing],
        go_backwards=layer.go_backwards,
        unroll=layer.unroll,
        input_length=sequences.shape[1],
        return_all_outputs=layer.return_sequences,
    )
    return last, outputs, states
