"""Many-to-one: a sequence in, one vector out.

x_1   x_2   ...   x_T
 |     |           |
[h] - [h] - ... - [h]      one or more layers, one direction or both
                   |
                  p(y)     softmax of the last state
"""

from collections.abc import Sequence
from typing import Any

import keras

import kerasrnn
from kerasrnn.zoo.cells import layer_class


def many_to_one(
    features: int,
    classes: int,
    cell: str | type[Any] = "lstm",
    units: int = 64,
    depth: int = 1,
    bidirectional: bool = False,
    dropout: float = 0.0,
    recurrent_dropout: float = 0.0,
    mean: Sequence[float] | None = None,
    deviation: Sequence[float] | None = None,
    input_name: str = "sequence",
    output_name: str = "class",
    name: str = "many_to_one",
) -> keras.Model:
    """A classifier of sequences of vectors by a recurrent network's last state.

        h_T = RNN(D((x - mean) / deviation)),   p(y) = softmax(D(h_T) V + c)

    with D dropout. Steps that are all zeros are padding: they are masked.

    Args:
        features: width of a step.
        classes: number of classes.
        cell: a layer's name in lower case ("simple_rnn", "lstm", "gru", "peephole_lstm", ...), or a
            kerasrnn cell or layer class.
        units: width of a state.
        depth: number of layers on top of each other.
        bidirectional: whether the layers read in both directions.
        dropout: fraction dropped from the inputs, between the layers and before the output.
        recurrent_dropout: fraction of the state dropped from step to step.
        mean: of each feature over the training data; default 0.
        deviation: standard deviation of each feature over the training data; default 1.
        input_name: name of the input, in the model and in its exports.
        output_name: name of the output.
        name: name of the model.

    Returns:
        A model from `(batch, time, features)` to probabilities `(batch, classes)`.

    Raises:
        ValueError: an argument is out of its range.

    Example:

        >>> from kerasrnn import zoo
        >>> model = zoo.many_to_one(12, 9, cell="lstm", units=8, bidirectional=True)
        >>> model.output_shape
        (None, 9)
    """
    for argument, value in (("features", features), ("classes", classes), ("depth", depth)):
        if value < 1:
            raise ValueError(f"{argument}={value!r}: expected a positive integer.")
    inputs = keras.Input((None, features), name=input_name)
    x = keras.layers.Masking(name="padding")(inputs)
    if mean is not None or deviation is not None:
        mean = [0.0] * features if mean is None else [float(m) for m in mean]
        scale = [1.0] * features if deviation is None else [1 / float(d) for d in deviation]
        offset = [-m * s for m, s in zip(mean, scale, strict=True)]
        x = keras.layers.Rescaling(scale, offset, name="standardize")(x)
    layers: list[Any] = []
    for _ in range(depth):
        # Within a stack, the stack drops out what passes from layer to layer.
        layer = layer_class(cell)(
            units,
            dropout=0.0 if layers else dropout,
            recurrent_dropout=recurrent_dropout,
        )
        layers.append(kerasrnn.BidirectionalRNN(layer) if bidirectional else layer)
    x = layers[0](x) if depth == 1 else kerasrnn.StackedRNN(layers, dropout=dropout)(x)
    x = keras.layers.Dropout(dropout)(x)
    outputs = keras.layers.Dense(classes, activation="softmax", name=output_name)(x)
    return keras.Model(inputs, outputs, name=name)
