"""Synced many-to-many: from a sequence to one output per step.

y_1   y_2   ...   y_T                y_1    y_2   ...   y_T
 |     |           |                  | \\    | \\         |
[h] - [h] - ... - [h]                [h] -\\ [h] -\\ ... [h]
 |     |           |                  |    \\ |    \\      |
x_1   x_2   ...   x_T                x_1    x_2   ...   x_T

`many_to_many`: tags, flags,         feedback=True: y_{t-1} enters
forecasts; one direction or both     beside x_t

x_2   x_3   ...  x_{T+1}
 |     |           |
[h] - [h] - ... - [h]                `next_step`: each symbol from those before it
 |     |           |
x_1   x_2   ...   x_T
"""

from typing import Any

import keras

import kerasrnn
from kerasrnn import validation
from kerasrnn.validation import PositiveInteger, Rate
from kerasrnn.zoo.cells import CellLike, cell_class, dropout_rates, recurrent, recurrent_layers
from kerasrnn.zoo.inputs import Input, check_inputs
from kerasrnn.zoo.model import Model
from kerasrnn.zoo.outputs import (
    GeneratedOutput,
    Output,
    check_dense,
    check_generated,
    check_outputs,
    predictions,
)


@validation.checked
def many_to_many(
    inputs: Input,
    outputs: Output,
    cell: CellLike = "lstm",
    units: PositiveInteger = 64,
    depth: PositiveInteger = 1,
    bidirectional: bool = False,
    stateful: bool = False,
    batch_size: PositiveInteger | None = None,
    feedback: bool = False,
    dropout: Rate = 0.0,
    recurrent_dropout: Rate = 0.0,
    residual: bool | str = False,
    input_name: str = "sequence",
    output_name: str | None = None,
    name: str = "many_to_many",
    **options: Any,
) -> Model:
    """A recurrent network with an output at every step: a tag, several flags, a forecast.

        h_1 ... h_T = RNN(D(x_1) ... D(x_T)),   y_t = g(D(h_t) V + c)

    with g the softmax for classes, the sigmoid for `MultiLabel` or the identity for values, and D
    dropout. With `feedback`, y_{t-1} is an input of step t, by a `kerasrnn.FeedbackCell` around the
    last layer's cell. The padding mask is passed on to the outputs, so losses and metrics ignore
    padding.

    Args:
        inputs: `zoo.Vectors`, `Tokens`, or `Images` for a video; or several, `zoo.Inputs`.
        outputs: `zoo.Classes`, `MultiLabel` or `Values`, at every step; or, without `feedback`,
            `zoo.Tags` or another `zoo.Output`.
        cell: a layer's name in lower case ("simple_rnn", "lstm", "gru", "peephole_lstm", ...), or
            a kerasrnn cell or layer class.
        units: number of units of each recurrent layer.
        depth: number of stacked layers.
        bidirectional: whether the layers are bidirectional; y_t then depends on later steps, too.
        stateful: whether a batch continues from the states of the previous one, for long sequences
            in segments. Reset the states with `model.get_layer("recurrent").reset_state()`, and
            with `feedback` also those of the output layer, or, with `Values` in units of their own,
            of the layer "feedback".
        batch_size: number of rows, required for a stateful model.
        feedback: whether the output is fed back into the next step; only for unidirectional layers.
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
        A `zoo.Model` from one sequence per row, `(batch, time, ...)`, to `(batch, time, count)`.

    Raises:
        ValueError: an argument is out of range; `inputs` are labels, not a sequence; `feedback` or
            `stateful` with bidirectional layers; `stateful` without a `batch_size`.

    Example: word classes.

        >>> from kerasrnn import zoo
        >>> model = zoo.many_to_many(
        ...     zoo.Tokens(5000, 32), zoo.Classes(12), units=16, bidirectional=True)
        >>> model.output_shape
        (None, None, 12)
    """
    check_inputs(inputs)
    (check_dense if feedback else check_outputs)(outputs)
    _check_stateful(stateful, batch_size)
    for argument, value in (("feedback", feedback), ("stateful", stateful)):
        if value and bidirectional:
            raise ValueError(
                f"{argument}=True: a backward layer has no previous step; expected "
                "bidirectional=False."
            )
    source = inputs.input(input_name, steps=True, batch_size=batch_size)
    x = inputs.encode(source, steps=True)
    options["stateful"] = stateful
    below = depth - 1 if feedback else depth
    if below:
        layers = recurrent_layers(
            cell, units, below, bidirectional, dropout, recurrent_dropout, **options
        )
        x = recurrent(layers, dropout, residual, return_sequences=True)(x)
    if feedback:
        rates = dropout_rates(cell, dropout, recurrent_dropout)
        top = kerasrnn.FeedbackCell(
            cell_class(cell)(units, **rates), outputs.count, outputs.activation
        )
        scaled = outputs.forecast is not None
        name_of_layer = "feedback" if scaled else output_name or outputs.name
        y = kerasrnn.RNN(top, return_sequences=True, name=name_of_layer, **options)(x)
        if scaled:  # what is fed back is of the order of 1
            y = outputs.probabilities(output_name)(y)
    else:
        y = predictions(outputs, output_name, keras.layers.Dropout(dropout)(x))
    return Model(source, y, name=name, output_type=outputs)


@validation.checked
def next_step(
    outputs: GeneratedOutput,
    cell: CellLike = "lstm",
    units: PositiveInteger = 128,
    depth: PositiveInteger = 1,
    embedding_units: PositiveInteger | None = None,
    stateful: bool = False,
    batch_size: PositiveInteger | None = None,
    dropout: Rate = 0.0,
    recurrent_dropout: Rate = 0.0,
    residual: bool | str = False,
    skip: bool = False,
    tied: bool = False,
    padding: float | None = None,
    input_name: str = "sequence",
    output_name: str | None = None,
    name: str = "next_step",
    **options: Any,
) -> Model:
    """A sequence model that predicts each step from those before it.

        p(x_{t+1} | x_1 ... x_t) = g(logits_t),   logits = Decoder(x)

    It is a language model with `Classes`, a music model with `MultiLabel`, a forecasting model with
    `Values` or a distribution, such as `Normal`: the input is of the same kind as the output.
    `zoo.generator` feeds the model its own predictions.

    Args:
        outputs: `zoo.Classes`, where 0 is padding; `MultiLabel`; `Values`; or a distribution, such
            as `Normal`.
        cell: a layer's name in lower case ("simple_rnn", "lstm", "gru", "peephole_lstm", ...), or
            a kerasrnn cell or layer class.
        units: number of units of each recurrent layer.
        depth: number of stacked layers.
        embedding_units: size of the symbols' embeddings. Default: `units` for classes; other
            outputs are not embedded.
        stateful: whether a batch continues from the states of the previous one, for long texts in
            segments. Reset the states with `model.get_layer("decoder").reset_state()`.
        batch_size: number of rows, required for a stateful model.
        dropout: dropout rate of the embeddings, between the layers and before the output.
        recurrent_dropout: dropout rate of the recurrent state.
        residual: whether to add each layer's input to its output, from the second layer on; or
            "glu": see `kerasrnn.StackedRNN`.
        skip: whether the output layer also reads the decoder's input, besides its state.
        tied: whether to tie the output weights to the embeddings (Press & Wolf 2017); only for
            classes.
        padding: for `MultiLabel` and `Values`: a frame whose entries all have this value is
            padding; None if no value can be reserved for padding.
        input_name: name of the input, in the model and in its exports.
        output_name: name of the output; default: "probabilities" or "values".
        name: name of the model.
        **options: further arguments of the recurrent layers: `jit_compile`, `checkpoint_every`, ...

    Returns:
        A `zoo.Model` from x_1 ... x_T, ids `(batch, time)` or frames `(batch, time, count)`, to
        `(batch, time, count)`: of x_2 ... x_{T+1}.

    Raises:
        ValueError: an argument is out of range or of the wrong kind; `stateful` without a
            `batch_size`.

    Example: characters.

        >>> from kerasrnn import zoo
        >>> model = zoo.next_step(zoo.Classes(66), cell="gru", units=16, tied=True)
        >>> model.output_shape
        (None, None, 66)
    """
    check_generated(outputs)
    _check_stateful(stateful, batch_size)
    sequence = outputs.previous(input_name, batch_size)
    layers = recurrent_layers(cell, units, depth, recurrent_dropout=recurrent_dropout, **options)
    decoder = kerasrnn.Decoder(
        outputs.size,
        layers,
        outputs.kind,
        embedding_units,
        dropout=dropout,
        residual=residual,
        skip=skip,
        tied=tied,
        padding=padding,
        stateful=stateful,
        forecast=outputs.forecast,
        softmax=outputs.softmax(),
        name="decoder",
    )
    y = outputs.probabilities(output_name)(decoder(sequence))
    return Model(sequence, y, name=name, output_type=outputs)


def _check_stateful(stateful: bool, batch_size: int | None) -> None:
    if stateful and batch_size is None:
        raise ValueError("batch_size=None: expected the number of rows, with stateful=True.")
