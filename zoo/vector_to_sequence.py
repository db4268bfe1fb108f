"""One-to-many: from one vector to a sequence.

mode="first"                    mode="every"                mode="state"

     y_1   y_2   ...  y_T       y_1   y_2   ...  y_T           y_1   y_2   ...  y_T
      |     |          |         |     |          |             |     |          |
[h]- [h] - [h] - ... -[h]       [h] - [h] - ... -[h]      c -> [h] - [h] - ... -[h]
 |    |     |          |         |     |          |             |     |          |
 c   y_0   y_1 ...  y_{T-1}    c,y_0 c,y_1 ... c,y_{T-1}       y_0   y_1 ...  y_{T-1}

c is the encoding of the source; y_0 is the start symbol. In training, the inputs y_t are the true
ones (teacher forcing); `zoo.generator` feeds the model its own predictions.
"""

from typing import Any

import keras

import kerasrnn
from kerasrnn import validation
from kerasrnn.validation import PositiveInteger, Rate
from kerasrnn.zoo.cells import CellLike, recurrent_layers
from kerasrnn.zoo.inputs import Input, check_inputs
from kerasrnn.zoo.model import Model
from kerasrnn.zoo.outputs import GeneratedOutput, check_generated

MODES = ("first", "every", "state")


@validation.checked
def one_to_many(
    inputs: Input,
    outputs: GeneratedOutput,
    mode: str = "first",
    cell: CellLike = "lstm",
    units: PositiveInteger = 128,
    depth: PositiveInteger = 1,
    embedding_units: PositiveInteger | None = None,
    dropout: Rate = 0.0,
    recurrent_dropout: Rate = 0.0,
    residual: bool | str = False,
    skip: bool = False,
    tied: bool = False,
    padding: float | None = None,
    input_name: str = "source",
    previous_name: str = "previous",
    output_name: str | None = None,
    name: str = "one_to_many",
    **options: Any,
) -> Model:
    """A recurrent network that generates a sequence from one vector.

        c = D(encode(source)),   p(y_t | y_0 ... y_{t-1}, source) = g(logits_t)
        logits = Decoder(y_0 ... y_{T-1}; c)

    `mode` defines how c enters; see `kerasrnn.Decoder` for the equations.

    Args:
        inputs: `zoo.Images`, `Vectors` or `Labels`; or several, `zoo.Inputs`.
        outputs: `zoo.Classes`, where 0 is padding; `MultiLabel`; `Values`; or a distribution, such
            as `Normal`.
        mode: "first", "every" or "state".
        cell: a layer's name in lower case ("simple_rnn", "lstm", "gru", "peephole_lstm", ...), or
            a kerasrnn cell or layer class.
        units: number of units of each recurrent layer.
        depth: number of stacked layers.
        embedding_units: size of the symbols' embeddings. Default: `units` for classes; other
            outputs are not embedded.
        dropout: dropout rate of c and the embeddings, between the layers and before the output.
        recurrent_dropout: dropout rate of the recurrent state.
        residual: whether to add each layer's input to its output, from the second layer on; or
            "glu": see `kerasrnn.StackedRNN`.
        skip: whether the output layer also reads the decoder's input, besides its state.
        tied: whether to tie the output weights to the embeddings (Press & Wolf 2017); only for
            classes.
        padding: for `MultiLabel` and `Values`: a frame whose entries all have this value is
            padding; None if no value can be reserved for padding.
        input_name: name of the source, in the model and in its exports; the parts of `zoo.Inputs`
            have their own names.
        previous_name: name of the input of y_0 ... y_{T-1}.
        output_name: name of the output; default: "probabilities" or "values".
        name: name of the model.
        **options: further arguments of the recurrent layers: `jit_compile`, `checkpoint_every`, ...

    Returns:
        A `zoo.Model` from `[source, previous]`, one source per row and ids `(batch, time)` or
        frames `(batch, time, count)`, to `(batch, time, count)`. With `zoo.Inputs`, its parts
        replace the source in this list.

    Raises:
        ValueError: an argument is out of range or of the wrong kind; `inputs` are tokens, for which
            use `zoo.encoder_decoder`.

    Example: describe an image with a vocabulary of 50 symbols.

        >>> from kerasrnn import zoo
        >>> source = zoo.Images((16, 16, 1), filters=(8,), units=16)
        >>> model = zoo.one_to_many(source, zoo.Classes(50), "every", cell="gru", units=16)
        >>> [tuple(x.shape) for x in model.inputs], model.output_shape
        ([(None, 16, 16, 1), (None, None)], (None, None, 50))
        >>> captions = zoo.generator(model, max_length=12, start=1, end=2)
        >>> captions.output_shape
        (None, 12)
    """
    check_inputs(inputs)
    check_generated(outputs)
    if mode not in MODES:
        raise ValueError(f"mode={mode!r}: expected one of {', '.join(map(repr, MODES))}.")
    source = inputs.input(input_name, steps=False)
    previous = outputs.previous(previous_name)
    context = keras.layers.Dropout(dropout, name="context")(inputs.encode(source, steps=False))
    layers = recurrent_layers(cell, units, depth, recurrent_dropout=recurrent_dropout, **options)
    decoder = kerasrnn.Decoder(
        outputs.size,
        layers,
        outputs.kind,
        embedding_units,
        context=mode,
        dropout=dropout,
        residual=residual,
        skip=skip,
        tied=tied,
        padding=padding,
        forecast=outputs.forecast,
        softmax=outputs.softmax(),
        name="decoder",
    )
    y = outputs.probabilities(output_name)(decoder(previous, context=context))
    sources = keras.tree.flatten(source)
    return Model([*sources, previous], y, name=name, output_type=outputs)
