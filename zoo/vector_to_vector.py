"""One-to-one: from one vector to one vector, without a hidden state.

 x
 |
[f]      one or more dense layers
 |
 y

The non-recurrent baseline.
"""

from collections.abc import Sequence
from typing import Any

import keras

from kerasrnn import validation
from kerasrnn.validation import Rate
from kerasrnn.zoo.inputs import Input, check_inputs
from kerasrnn.zoo.model import Model
from kerasrnn.zoo.outputs import Output, check_outputs, predictions


@validation.checked
def one_to_one(
    inputs: Input,
    outputs: Output,
    hidden: Sequence[int] = (256, 128),
    activation: Any = "relu",
    dropout: Rate = 0.0,
    input_name: str = "input",
    output_name: str | None = None,
    name: str = "one_to_one",
) -> Model:
    """A feed-forward network.

        h^0 = x,   h^l = D(f(h^{l-1} W^l + b^l)),   y = g(h^L V + c)

    with f `activation`, g the softmax for classes, the sigmoid for `MultiLabel` or the identity for
    values, and D dropout.

    Args:
        inputs: `zoo.Vectors`, `Images` or `Labels`; or several, `zoo.Inputs`.
        outputs: `zoo.Classes`, `MultiLabel` or `Values`, or another `zoo.Output`.
        hidden: units of each hidden layer; () for none, which is a linear model.
        activation: f.
        dropout: dropout rate of each hidden layer.
        input_name: name of the input, in the model and in its exports; the parts of `zoo.Inputs`
            have their own names.
        output_name: name of the output; default: that of its kind, "probabilities" or "values".
        name: name of the model.

    Returns:
        A `zoo.Model` from one input per row to `(batch, count)`.

    Raises:
        ValueError: an argument is out of range; `inputs` are tokens, which are sequences.

    Example:

        >>> from kerasrnn import zoo
        >>> model = zoo.one_to_one(zoo.Vectors(784, std=255), zoo.Classes(10))
        >>> model.output_shape, model.count_params()
        ((None, 10), 235146)
    """
    check_inputs(inputs)
    check_outputs(outputs)
    hidden = validation.sizes("hidden", hidden)
    activation = validation.activation("activation", activation)
    source = inputs.input(input_name, steps=False)
    x = inputs.encode(source, steps=False)
    for units in hidden:
        x = keras.layers.Dense(units, activation=activation)(x)
        x = keras.layers.Dropout(dropout)(x)
    y = predictions(outputs, output_name, x)
    return Model(source, y, name=name, output_type=outputs)
