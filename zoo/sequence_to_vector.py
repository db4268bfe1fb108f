"""Many-to-one: from a sequence to one vector.

x_1   x_2   ...   x_T            x_1   x_2   ...   x_T
 |     |           |              |     |           |
[h] - [h] - ... - [h]            [h] - [h] - ... - [h]      one or more layers, one direction
                   |               \\    |           /       or both
                   y                   pooling
                                          |
    pooling="last"                        y                 "mean", "max", "attention"
"""

from typing import Any

import keras

import kerasrnn
from kerasrnn import validation
from kerasrnn.layers.pooling import MODES
from kerasrnn.validation import PositiveInteger, Rate
from kerasrnn.zoo.cells import CellLike, recurrent, recurrent_layers
from kerasrnn.zoo.inputs import Input, check_inputs
from kerasrnn.zoo.model import Model
from kerasrnn.zoo.outputs import Output, check_outputs, predictions


@validation.checked
def many_to_one(
    inputs: Input,
    outputs: Output,
    cell: CellLike = "lstm",
    units: PositiveInteger = 64,
    depth: PositiveInteger = 1,
    bidirectional: bool = False,
    pooling: str = "last",
    dropout: Rate = 0.0,
    recurrent_dropout: Rate = 0.0,
    residual: bool | str = False,
    input_name: str = "sequence",
    output_name: str | None = None,
    name: str = "many_to_one",
    **options: Any,
) -> Model:
    """A recurrent network that maps a sequence to one vector.

        h_1 ... h_T = RNN(D(x_1) ... D(x_T)),   y = g(D(pool(h)) V + c)

    with g the softmax for classes, the sigmoid for `MultiLabel` or the identity for values, and D
    dropout. pool(h) is h_T with "last" (for bidirectional layers, the last state of each direction:
    that of the backward one is h_1), or `kerasrnn.SequencePooling` over all unmasked steps. Padding
    does not affect it.

    Args:
        inputs: `zoo.Vectors`, `Tokens`, or `Images` for a video; or several, `zoo.Inputs`.
        outputs: `zoo.Classes`, `MultiLabel` or `Values`, or another `zoo.Output`.
        cell: a layer's name in lower case ("simple_rnn", "lstm", "gru", "peephole_lstm", ...), or
            a kerasrnn cell or layer class.
        units: number of units of each recurrent layer.
        depth: number of stacked layers.
        bidirectional: whether the layers are bidirectional.
        pooling: "last", "mean", "max" or "attention".
        dropout: dropout rate of the inputs, between the layers and before the output.
        recurrent_dropout: dropout rate of the recurrent state.
        residual: whether to add each layer's input to its output, from the second layer on; or
            "glu": see `kerasrnn.StackedRNN`.
        input_name: name of the input, in the model and in its exports; the parts of `zoo.Inputs`
            have their own names.
        output_name: name of the output; default: that of its kind, "probabilities" or "values".
        name: name of the model.
        **options: further arguments of the recurrent layers: `jit_compile`, `checkpoint_every`, ...

    Returns:
        A `zoo.Model` from one sequence per row, `(batch, time, ...)`, to `(batch, count)`.

    Raises:
        ValueError: an argument is out of range; `recurrent_dropout` for a cell without a recurrent
            kernel; `inputs` are labels, not a sequence; `residual` with "last" and bidirectional
            layers, whose last states belong to different steps.

    Example:

        >>> from kerasrnn import zoo
        >>> model = zoo.many_to_one(
        ...     zoo.Vectors(12), zoo.Classes(9), units=8, bidirectional=True, pooling="attention")
        >>> model.output_shape
        (None, 9)
    """
    check_inputs(inputs)
    check_outputs(outputs)
    if pooling not in ("last", *MODES):
        raise ValueError(
            f"pooling={pooling!r}: expected one of {', '.join(map(repr, ('last', *MODES)))}."
        )
    source = inputs.input(input_name, steps=True)
    x = inputs.encode(source, steps=True)
    layers = recurrent_layers(
        cell, units, depth, bidirectional, dropout, recurrent_dropout, **options
    )
    x = recurrent(layers, dropout, residual, return_sequences=pooling != "last")(x)
    if pooling != "last":
        x = kerasrnn.SequencePooling(pooling, name="pooling")(x)
    y = predictions(outputs, output_name, keras.layers.Dropout(dropout)(x))
    return Model(source, y, name=name, output_type=outputs)
