"""Pointer network: from a sequence to positions in it, such as their order.

                            y_1       y_2       y_3
                             |         |         |
                          e_0 ... e_S  |         |
                             |         |         |
[e] - [e] - ... -[e] ------ [d] ----- [d] ----- [d] ...
 |     |          |          |         |         |
x_1   x_2        x_S       start     x[y_1]    x[y_2]

Each step of the decoder gives every position of the source, and the end, a probability, and reads
the element that was pointed at before. So the number of classes is that of the source's positions,
and differs from row to row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

import kerasrnn
from kerasrnn import validation
from kerasrnn.attention.attention import Attention
from kerasrnn.decoding.pointing import END, FIRST, PointerDecoder
from kerasrnn.validation import ArgumentError, PositiveInteger, Rate
from kerasrnn.zoo.cells import CellLike, recurrent, recurrent_layers
from kerasrnn.zoo.copying import padded
from kerasrnn.zoo.inputs import Input, check_inputs
from kerasrnn.zoo.model import Model
from kerasrnn.zoo.outputs import Output, dtype_of_predictions
from kerasrnn.zoo.sequence_to_sequence import MODES, attention_of, encoded
from kerasrnn.zoo.stepping import named

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
@validation.checked
@dataclass(frozen=True)
class Pointers(Output):
    """Positions of the source: the output of `zoo.pointer_network`.

    The predictions are probabilities of ids: 0 is padding, 1 the end, and j + 2 the position j of
    the source, counted from 0. The targets are such ids, `(batch, time)`: `zoo.pointer_targets`
    writes them. The loss is `kerasrnn.losses.SequenceCrossentropy`, the metric the accuracy.
    Decoded predictions are the most probable ids.

    Args:
        visits: "any", "at_most_once" or "exactly_once": see `zoo.pointer_network`.

    Raises:
        ValueError: `visits` is something else; targets are not ids, or point twice at a position
            where `visits` excludes it.
    """

    visits: Literal["any", "at_most_once", "exactly_once"] = "any"

    name = "probabilities"

    def layer(self, name: str | None = None) -> keras.layers.Layer:
        return keras.layers.Activation(
            "softmax", dtype=dtype_of_predictions(), name=name or self.name
        )

    def loss(self, layer: keras.layers.Layer) -> Any:
        return kerasrnn.losses.SequenceCrossentropy(ignore_class=0)

    def metrics(self, layer: keras.layers.Layer) -> list[Any]:
        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]

    def target_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return shape[:-1]

    def check_targets(self, name: str, targets: np.ndarray) -> None:
        validation.integers(name, targets, 0, 2**31 - 1)
        if self.visits == "any":
            return
        for n, row in enumerate(targets.astype("int64")):
            places, counts = np.unique(row[row >= FIRST], return_counts=True)
            if (counts > 1).any():
                twice = int(places[counts.argmax()])
                raise ArgumentError(
                    f"{name}[{n}]",
                    row.tolist(),
                    f"no id twice, with visits={self.visits!r}; {twice} occurs "
                    f"{int(counts.max())} times",
                )

    def decode(
        self, predictions: Tensor, layer: keras.layers.Layer, mask: Tensor | None = None
    ) -> Tensor:
        return ops.argmax(predictions, axis=-1)


@validation.checked
def pointer_network(
    inputs: Input,
    visits: Literal["any", "at_most_once", "exactly_once"] = "any",
    mode: str = "state",
    cell: CellLike = "lstm",
    units: PositiveInteger = 128,
    depth: PositiveInteger = 1,
    bidirectional: bool = False,
    dropout: Rate = 0.0,
    recurrent_dropout: Rate = 0.0,
    residual: bool | str = False,
    attention: str | Attention = "bahdanau",
    attention_units: PositiveInteger | None = None,
    input_name: str = "source",
    previous_name: str = "previous",
    output_name: str | None = None,
    name: str = "pointer_network",
    **options: Any,
) -> Model:
    """A recurrent encoder reads a sequence; a decoder points at its positions.

        e_1 ... e_S = RNN(D(x_1) ... D(x_S)),   c = tanh(s_S V)
        u_tj = v^T tanh(W_1 e_j + W_2 d_t)
        p(y_t | y_1 ... y_{t-1}, x) = softmax(u_t)

    (Vinyals, Fortunato & Jaitly 2015, "Pointer networks", section 2.3), with d_t the output of the
    decoder, which reads the element x_j of the source that was pointed at before: see
    `kerasrnn.decoding.PointerDecoder`. s_S and c are those of `zoo.encoder_decoder`. Sources have
    any length: what is learned on short ones can be applied to longer ones.

    It orders and selects: it sorts numbers, tours cities, finds the points of a hull. The ids of
    its outputs, and of its targets, are positions: `zoo.pointer_targets` writes them and
    `zoo.pointed` reads them. `zoo.generator` points, greedily or with a `kerasrnn.decoding.Beam`.

    Args:
        inputs: `zoo.Vectors`, such as points; `Tokens`; `Images`; or several, `zoo.Inputs`.
        visits: how often a position may be pointed at, in training as in decoding: "any" number
            of times; "at_most_once"; or "exactly_once", for orders and tours: the end is then
            impossible before every position was pointed at.
        mode: how c enters the decoder: "state", "every" or "both".
        cell: a layer's name in lower case ("simple_rnn", "lstm", "gru", "peephole_lstm", ...), or
            a kerasrnn cell or layer class: of encoder and decoder.
        units: number of units of each recurrent layer, and size of c.
        depth: number of stacked layers, in the encoder and in the decoder.
        bidirectional: whether the encoder is bidirectional.
        dropout: dropout rate of the encoder's inputs, between the layers and before the scores.
        recurrent_dropout: dropout rate of the recurrent state.
        residual: whether to add each layer's input to its output, from the second layer on; or
            "glu": see `kerasrnn.StackedRNN`.
        attention: the scores u: "bahdanau", which are those above; "luong", e_j^T W d_t; or a new
            attention of kerasrnn.
        attention_units: size of the vectors that "bahdanau" compares; default: `units`.
        input_name: name of the source, in the model and in its exports; the parts of `zoo.Inputs`
            have their own names.
        previous_name: name of the input of the pointers before each step.
        output_name: name of the output; default: "probabilities".
        name: name of the model.
        **options: further arguments of the recurrent layers: `jit_compile`, `checkpoint_every`, ...

    Returns:
        A `zoo.Model` from `[source, previous]`, one sequence per row and ids `(batch, time)`, to
        probabilities of ids `(batch, time, positions + 2)`. With `zoo.Inputs`, its parts replace
        the source in this list. Padding of the source, wherever it is, has the probability 0.

    Raises:
        ValueError: an argument is out of range or of the wrong kind; `inputs` are labels.

    Example: the order of numbers, without training.

        >>> import numpy as np
        >>> from kerasrnn import zoo
        >>> model = zoo.pointer_network(zoo.Vectors(1, padding=None), "exactly_once", units=16)
        >>> x = np.array([[[0.7], [0.1], [0.4]], [[0.2], [0.9], [0.5]]])
        >>> previous, y = zoo.pointer_targets(x[..., 0].argsort(axis=1))
        >>> previous.tolist(), y.tolist()
        ([[1, 3, 4, 2], [1, 2, 4, 3]], [[3, 4, 2, 1], [2, 4, 3, 1]])
        >>> model.compile("adam", jit_compile=False)
        >>> history = model.fit([x, previous], y, verbose=0)
        >>> ids = zoo.generator(model, max_length=4).predict(x, verbose=0)
        >>> [sorted(row) for row in zoo.pointed(ids)]
        [[0, 1, 2], [0, 1, 2]]
    """
    check_inputs(inputs)
    if mode not in MODES:
        raise ValueError(f"mode={mode!r}: expected one of {', '.join(map(repr, MODES))}.")
    outputs = Pointers(visits)
    source = inputs.input(input_name, steps=True)
    previous = keras.Input((None,), dtype="int32", name=previous_name)
    # A layer of this name: `zoo.generator` finds in it what the decoder reads.
    x = named("elements", inputs.encode(source, steps=True))
    layers = recurrent_layers(
        cell, units, depth, bidirectional, dropout, recurrent_dropout, **options
    )
    encoder = recurrent(
        layers, dropout, residual, return_sequences=True, return_state=True, name="encoder"
    )
    h, context = encoded(encoder, x, units)
    layers = recurrent_layers(cell, units, depth, recurrent_dropout=recurrent_dropout, **options)
    decoder = PointerDecoder(
        layers,
        attention_of(attention, attention_units or units),
        visits,
        mode,
        dropout,
        residual,
        name="decoder",
    )
    logits = decoder(previous, context=context, memory=h, elements=x)
    y = outputs.layer(output_name)(logits)
    return Model([*keras.tree.flatten(source), previous], y, name=name, output_type=outputs)


def pointer_targets(positions: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Write positions of sources as the ids of a `zoo.pointer_network`.

    Args:
        positions: for each row, positions of its source, counted from 0: an array `(rows, count)`,
            or lists of different lengths.

    Returns:
        `(previous, targets)`, int32 `(rows, longest + 1)`: a decoder's inputs, 1 (the start) and
        the pointers, and its targets, the pointers and 1 (the end); the pointers are positions + 2,
        and 0 is padding.

    Raises:
        ValueError: a position is not an integer from 0.

    Example:

        >>> from kerasrnn import zoo
        >>> previous, targets = zoo.pointer_targets([[2, 0, 1], [0]])
        >>> previous.tolist(), targets.tolist()
        ([[1, 4, 2, 3], [1, 2, 0, 0]], [[4, 2, 3, 1], [2, 1, 0, 0]])
    """
    rows = [
        [
            validation.integer(f"positions[{n}][{k}]", each, minimum=0) + FIRST
            for k, each in enumerate(validation.sequence(f"positions[{n}]", row))
        ]
        for n, row in enumerate(validation.sequence("positions", positions))
    ]
    return padded([[END, *row] for row in rows]), padded([[*row, END] for row in rows])


def pointed(ids: Any) -> list[list[int]]:
    """Read the ids of a `zoo.pointer_network`, as those of `zoo.generator`, as positions.

    Args:
        ids: `(rows, time)`. What follows the end is not read.

    Returns:
        For each row, the positions of its source, counted from 0.

    Raises:
        ValueError: `ids` are not integers from 0, `(rows, time)`.

    Example:

        >>> from kerasrnn import zoo
        >>> zoo.pointed([[4, 2, 3, 1], [2, 1, 0, 0]])
        [[2, 0, 1], [0]]
    """
    ids = validation.numbers("ids", ids)
    if ids.ndim != 2:
        raise ValueError(f"ids has the shape {ids.shape}; expected (rows, time).")
    validation.integers("ids", ids, 0, 2**31 - 1)
    rows = []
    for row in ids.astype("int64").tolist():
        length = next((n for n, each in enumerate(row) if each < FIRST), len(row))
        rows.append([each - FIRST for each in row[:length]])
    return rows
