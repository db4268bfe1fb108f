"""Encoder-decoder: from a sequence to a sequence of another length.

                       y_1   y_2  ...  y_T
                        |     |         |
[h] - [h] - ... -[h] - [s] - [s] - ... [s]       mode="state": c begins the decoder
 |     |          | c   |     |         |        mode="every": c enters beside every y_{t-1}
x_1   x_2  ...   x_S   y_0   y_1 ... y_{T-1}     mode="both"

With attention, each step of the decoder also reads a weighted sum of all h_1 ... h_S:

                       y_1                 y_2
                        |                   |
[h] - [h] - ... -[h] - [s] -- query    -- [s] -- query
 |     |          |     |       |    |     |       |
x_1   x_2        x_S   y_0      |    |    y_1      |
 :     :          :             |    |
 h_1   h_2  ...  h_S -> sum_j alpha_j h_j -> ...

y_0 is the start symbol. In training, the inputs y_t are the true ones (teacher forcing);
`zoo.generator` feeds the model its own predictions.
"""

import dataclasses
from typing import Any

import keras

import kerasrnn
from kerasrnn import validation
from kerasrnn.attention.attention import Attention
from kerasrnn.decoding.scheduled_sampling import ScheduledSampling
from kerasrnn.validation import NonNegativeNumber, PositiveInteger, Rate
from kerasrnn.zoo.cells import CellLike, recurrent, recurrent_layers
from kerasrnn.zoo.inputs import Input, Inputs, check_inputs
from kerasrnn.zoo.model import Model
from kerasrnn.zoo.outputs import GeneratedOutput, check_generated
from kerasrnn.zoo.stepping import named

MODES = ("state", "every", "both")
ATTENTIONS = ("bahdanau", "luong")
COPIED_SYMBOLS = 32


@validation.checked
def encoder_decoder(
    inputs: Input,
    outputs: GeneratedOutput,
    mode: str = "state",
    cell: CellLike = "lstm",
    units: PositiveInteger = 128,
    depth: PositiveInteger = 1,
    bidirectional: bool = False,
    embedding_units: PositiveInteger | None = None,
    dropout: Rate = 0.0,
    recurrent_dropout: Rate = 0.0,
    residual: bool | str = False,
    skip: bool = False,
    tied: bool = False,
    attention: str | Attention | None = None,
    attention_units: PositiveInteger | None = None,
    query: str | None = None,
    input_feeding: bool = True,
    return_attention: bool = False,
    copy: bool = False,
    copied_symbols: PositiveInteger = COPIED_SYMBOLS,
    coverage_loss: NonNegativeNumber = 0.0,
    sampling: ScheduledSampling | None = None,
    padding: float | None = None,
    input_name: str = "source",
    copied_name: str = "source_ids",
    previous_name: str = "previous",
    output_name: str | None = None,
    name: str = "encoder_decoder",
    **options: Any,
) -> Model:
    """A recurrent encoder reads a sequence into a vector; a decoder generates a sequence from it.

        s_1 ... s_S = RNN(D(x_1) ... D(x_S))
        c = tanh(s_S V)
        p(y_t | y_0 ... y_{t-1}, x) = g(logits_t),   logits = Decoder(y_0 ... y_{T-1}; c)

    with s_S the concatenated final states of all layers and directions, matrices and windows among
    them as vectors. With "state", c is the
    decoder's initial state, as in Sutskever, Vinyals & Le (2014), "Sequence to sequence learning
    with neural networks", which passes the states on unchanged; "both" is Cho et al. (2014),
    "Learning phrase representations using RNN encoder-decoder" (appendix A.1): see
    `kerasrnn.Decoder` for the equations. Padding of the source does not affect c.

    With attention, each step also attends to s_1 ... s_S, the outputs of the encoder: "bahdanau" as
    in Bahdanau, Cho & Bengio (2015), with the state before the step as the query, "luong" as in
    Luong, Pham & Manning (2015), with general scores and the step's output as the query. See
    `kerasrnn.AttentionCell` for the equations, and `kerasrnn.Decoder` for the layer that attends.

    With `copy`, each step generates a symbol of the vocabulary or copies one of the source (See,
    Liu & Manning 2017): see `kerasrnn.decoding.PointerGenerator`. A symbol of the source that is
    outside the vocabulary has an id beyond it in its row, so that the model can write words it has
    never seen; `zoo.copied_ids` computes these ids from texts.

    Args:
        inputs: `zoo.Tokens`, `Vectors`, or `Images` for a video; or several, `zoo.Inputs`.
        outputs: `zoo.Classes`, where 0 is padding; `MultiLabel`; `Values`; or a distribution, such
            as `Normal`.
        mode: "state", "every" or "both".
        cell: a layer's name in lower case ("simple_rnn", "lstm", "gru", "peephole_lstm", ...), or
            a kerasrnn cell or layer class: of encoder and decoder.
        units: number of units of each recurrent layer, and size of c.
        depth: number of stacked layers, in the encoder and in the decoder.
        bidirectional: whether the encoder is bidirectional.
        embedding_units: size of the output symbols' embeddings. Default: `units` for classes; other
            outputs are not embedded.
        dropout: dropout rate of the encoder's inputs and the embeddings, between the layers and
            before the output.
        recurrent_dropout: dropout rate of the recurrent state.
        residual: whether to add each layer's input to its output, from the second layer on; or
            "glu": see `kerasrnn.StackedRNN`.
        skip: whether the output layer also reads the decoder's input, besides its state.
        tied: whether to tie the output weights to the embeddings (Press & Wolf 2017); only for
            classes.
        attention: "bahdanau", "luong", a new attention of kerasrnn, or None: the decoder reads the
            source only through c.
        attention_units: size of the attending layer's output, and of Bahdanau's comparison;
            default: `units`.
        query: the query of the attention: "state" or "output". Default: "state" with "bahdanau",
            otherwise "output".
        input_feeding: whether the attention output of a step is an input of the next one.
        return_attention: whether the attention weights are a second output, "attention", for a loss
            such as `kerasrnn.losses.GuidedAlignment`.
        copy: whether symbols may be copied from the source; only for classes, with an attention.
        copied_symbols: with `copy`, the largest number of different symbols outside the vocabulary
            that can be copied in one row.
        coverage_loss: weight of the loss for attending to the same positions again, 0 or more: see
            `kerasrnn.Decoder`. See et al. use 1, after a training without it, and
            `kerasrnn.CoverageAttention`.
        sampling: a `kerasrnn.decoding.ScheduledSampling`: in training, the decoder reads its own
            predictions with increasing probability. None: teacher forcing.
        padding: for `MultiLabel` and `Values`: a frame whose entries all have this value is
            padding; None if no value can be reserved for padding.
        input_name: name of the source, in the model and in its exports; the parts of `zoo.Inputs`
            have their own names.
        copied_name: with `copy`, name of the input of the source's ids in the extended vocabulary.
        previous_name: name of the input of y_0 ... y_{T-1}.
        output_name: name of the output; default: "probabilities" or "values".
        name: name of the model.
        **options: further arguments of the recurrent layers: `jit_compile`, `checkpoint_every`, ...

    Returns:
        A `zoo.Model` from `[source, previous]`, one sequence per row and ids `(batch, time)` or
        frames `(batch, time, count)`, to `(batch, time, count)`. With `zoo.Inputs`, its parts
        replace the source in this list. With `copy`, it is a model from `[source, source_ids,
        previous]` to `(batch, time, count + copied_symbols)`: the ids `(batch, source's time)` are
        those of the target's vocabulary, or `count` and above for other symbols, or 0 for symbols
        that cannot be copied; previous symbols and targets may have such ids, too.

    Raises:
        ValueError: an argument is out of range or of the wrong kind; `inputs` are labels, for which
            use `zoo.one_to_many`; with `copy`, they are several, or there is no attention.

    Example: spelling to sound.

        >>> from kerasrnn import zoo
        >>> model = zoo.encoder_decoder(
        ...     zoo.Tokens(30, 16), zoo.Classes(42), "both", cell="gru", units=16)
        >>> model.output_shape
        (None, None, 42)
        >>> zoo.generator(model, max_length=20, start=1, end=2).output_shape
        (None, 20)
    """
    check_inputs(inputs)
    check_generated(outputs)
    if mode not in MODES:
        raise ValueError(f"mode={mode!r}: expected one of {', '.join(map(repr, MODES))}.")
    if query is None:
        bahdanau = isinstance(attention, str) and attention == "bahdanau"
        query = "state" if bahdanau else "output"
    attention = attention_of(attention, attention_units or units)
    if copy and attention is None:
        raise ValueError(
            "copy=True: symbols are copied where the decoder attends to; expected an "
            "attention, such as 'bahdanau'."
        )
    if copy and isinstance(inputs, Inputs):
        raise ValueError(
            f"copy=True: inputs={inputs!r} have several parts; expected one sequence of symbols."
        )
    if not copy and copied_symbols != COPIED_SYMBOLS:
        raise ValueError(f"copied_symbols={copied_symbols}: expected the default with copy=False.")
    source = inputs.input(input_name, steps=True)
    previous = outputs.previous(previous_name)
    layers = recurrent_layers(
        cell, units, depth, bidirectional, dropout, recurrent_dropout, **options
    )
    encoder = recurrent(
        layers, dropout, residual, return_sequences=True, return_state=True, name="encoder"
    )
    h, context = encoded(encoder, inputs.encode(source, steps=True), units)
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
        attention=attention,
        attention_units=attention_units,
        query=query,
        input_feeding=input_feeding,
        return_attention=return_attention,
        copied=copied_symbols if copy else None,
        coverage_loss=coverage_loss,
        sampling=sampling,
        padding=padding,
        forecast=outputs.forecast,
        softmax=outputs.softmax(),
        name="decoder",
    )
    memory = {} if attention is None else {"memory": h}
    copies = []
    if copy:
        # With the extended vocabulary, every other use of the output is that of more classes.
        outputs = dataclasses.replace(outputs, count=decoder.output_size)
        copies = [keras.Input((None,), dtype="int32", name=copied_name)]
        memory["source_ids"] = copies[0]
    logits = decoder(previous, context=context, **memory)
    logits, *weights = logits if return_attention else [logits]
    y = outputs.probabilities(output_name)(logits)
    inputs_of_model = [*keras.tree.flatten(source), *copies, previous]
    if not return_attention:
        return Model(inputs_of_model, y, name=name, output_type=outputs)
    return Model(inputs_of_model, [y, named("attention", weights[0])], name=name)


def encoded(encoder: keras.layers.Layer, x: Any, units: int) -> tuple[Any, Any]:
    """The outputs of an encoder, and the context: a dense layer of its final states."""
    h, *states = encoder(x)
    states = [keras.layers.Flatten()(s) if len(s.shape) > 2 else s for s in states]
    if len(states) > 1:
        states = [keras.layers.Concatenate(name="final_states")(states)]
    return h, keras.layers.Dense(units, activation="tanh", name="context")(states[0])


def attention_of(attention: str | Attention | None, units: int) -> Attention | None:
    """Return an attention by name; an instance is returned unchanged."""
    if attention is None or isinstance(attention, Attention):
        return attention
    name = attention if isinstance(attention, str) else None
    if name == "bahdanau":
        return kerasrnn.BahdanauAttention(units)
    if name == "luong":
        return kerasrnn.LuongAttention("general")
    raise ValueError(
        f"attention={attention!r}: expected {', '.join(map(repr, ATTENTIONS))}, an attention of "
        "kerasrnn, or None."
    )
