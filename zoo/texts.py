"""Models of texts: a vectorizer in front of a model of ids, and texts that it continues."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

import kerasrnn
from kerasrnn import validation
from kerasrnn.base_layer import BaseLayer
from kerasrnn.decoding.samplers import Strategy
from kerasrnn.validation import ArgumentError, PositiveInteger, Seed
from kerasrnn.zoo import graph, reading
from kerasrnn.zoo.generation import generator
from kerasrnn.zoo.model import Model
from kerasrnn.zoo.reading import BLANK, UNKNOWN

VECTORIZERS = (keras.layers.TextVectorization, kerasrnn.SentencePieceVectorization)


@validation.checked
def of_texts(
    model: keras.Model,
    vectorizers: Mapping[str, keras.layers.Layer],
    longest: PositiveInteger | None = None,
) -> Model:
    """A model that reads texts where the given one reads ids. It requires TensorFlow.

    Args:
        model: a functional model.
        vectorizers: layers from texts to ids, by the name of the model's input.
        longest: the largest number of symbols of a text, if limited; longer texts are truncated.

    Returns:
        A `zoo.Model` with the same inputs and outputs, except that the named inputs are strings
        `(batch,)`. `of_ids` returns the original model. Texts without symbols are padding; if no
        text of a batch has symbols, there is one step.

    Raises:
        ValueError: `vectorizers` is empty, names something other than an input of ids, or contains
            something other than a layer that returns ids `(batch, time)`; a vocabulary is larger
            than the model's; `longest` is not a positive integer.

    Example:

        >>> import keras
        >>> import numpy as np
        >>> from kerasrnn import zoo
        >>> letters = keras.layers.TextVectorization(split="character", vocabulary=["a", "b"])
        >>> model = zoo.many_to_one(zoo.Tokens(4, 8), zoo.Classes(2), cell="gru", units=8)
        >>> reader = zoo.of_texts(model, {"sequence": letters})
        >>> reader.predict(np.array(["ab", "b"], dtype=object), verbose=0).shape
        (2, 2)
        >>> zoo.of_ids(reader) is model
        True
    """
    _check_vectorizers(model, vectorizers)
    inputs, inner = [], []
    for tensor in model.inputs:
        rows = tensor.shape[0]
        if tensor.name in vectorizers:
            inputs.append(keras.Input((), rows, dtype="string", name=tensor.name))
            numbers = vectorizers[tensor.name](inputs[-1])
            if len(numbers.shape) != 2:
                raise ValueError(
                    f"vectorizers[{tensor.name!r}] returns the shape {tuple(numbers.shape)}: "
                    "expected ids (batch, time)."
                )
            if numbers.shape[1] is None:
                numbers = AtLeastOneStep()(numbers)
            inner.append(numbers if longest is None else numbers[:, :longest])
        else:
            inputs.append(keras.Input(tensor.shape[1:], rows, tensor.dtype, name=tensor.name))
            inner.append(inputs[-1])
    several = len(inner) > 1 or isinstance(model.input, dict)
    outputs = model(keras.tree.pack_sequence_as(model.input, inner) if several else inner[0])
    # The model itself is the layer of the output, so its name is the output's name.
    return Model(
        inputs if len(inputs) > 1 else inputs[0],
        outputs,
        name=f"{model.name}_of_text",
        output_type=getattr(model, "output_type", None),
    )


def _check_vectorizers(model: keras.Model, vectorizers: Any) -> None:
    """Raise ValueError unless these layers read the texts of inputs of the model."""
    names = [x.name for x in model.inputs if len(x.shape) == 2]
    shown = ", ".join(map(repr, names)) or "none"
    if not isinstance(vectorizers, Mapping) or not vectorizers:
        raise ArgumentError("vectorizers", vectorizers, f"a dict of layers by input: {shown}")
    counts = graph.ids_of(model)
    for name, layer in vectorizers.items():
        if name not in names:
            raise ValueError(
                f"vectorizers has {name!r}: expected inputs of ids (batch, time): {shown}."
            )
        argument = f"vectorizers[{name!r}]"
        validation.layer(argument, layer)
        if isinstance(layer, keras.layers.TextVectorization):
            config = layer.get_config()
            for option, expected in (("output_mode", "int"), ("ragged", False)):
                if config[option] != expected:
                    raise ValueError(
                        f"{argument}: {option}={config[option]!r}: expected {expected!r}."
                    )
        if isinstance(layer, VECTORIZERS):
            size = len(layer.get_vocabulary())
            if size > counts.get(name, size):
                raise ValueError(
                    f"{argument} has {size} symbols, including padding and unknown: expected at "
                    f"most {counts[name]}, the number of ids of the model."
                )


@keras.saving.register_keras_serializable(package="kerasrnn")
class AtLeastOneStep(BaseLayer):
    """Appends a step of zeros to sequences `(batch, time)` if they have no steps."""

    def call(self, ids: Any) -> Any:
        steps = keras.ops.maximum(keras.ops.shape(ids)[1], 1)
        return keras.ops.pad(ids, ((0, 0), (0, 1)))[:, :steps]

    def compute_output_spec(self, ids: Any) -> keras.KerasTensor:
        return keras.KerasTensor(ids.shape, ids.dtype)


def of_ids(model: keras.Model) -> keras.Model:
    """The model that was passed to `of_texts`; any other model is returned unchanged."""
    inner = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    return inner[0] if len(inner) == 1 else model


@validation.checked
def continue_texts(
    model: keras.Model,
    texts: Sequence[str],
    sampler: Strategy | None = None,
    max_length: PositiveInteger = 100,
    edge: str | None = None,
    seed: Seed | None = None,
    batch_size: PositiveInteger = 32,
) -> list[str]:
    """Continue texts with a language model, such as `zoo.load("char_lm")`.

    Neither padding nor the unknown symbol is generated. Symbols of the given texts that the model
    does not know are kept in the result, and read as unknown.

    Args:
        model: a model of `zoo.next_step`, passed through `of_texts`.
        texts: the beginnings.
        sampler: `kerasrnn.decoding.Greedy`, `Sample`, ...; default: greedy.
        max_length: the number of symbols to generate; with `edge`, the maximum number of symbols of
            an entire text, its beginning and the edge at its end included.
        edge: the symbol that precedes and ends each text in the training data. With it, a beginning
            may be empty, and a text ends where this symbol is generated. None: texts have no ends.
        seed: an integer that makes the sampling reproducible.
        batch_size: number of texts per batch.

    Returns:
        The texts with their beginnings, without `edge`.

    Raises:
        ValueError: the model does not read one text; `texts` are not texts; one of them, which is
            named, has no symbol although there is no `edge`, or has no room for the edge; or `edge`
            is not a symbol of the model.

    Example: an untrained model.

        >>> import keras
        >>> from kerasrnn import zoo
        >>> letters = keras.layers.TextVectorization(split="character", vocabulary=["a", "b"])
        >>> model = zoo.next_step(zoo.Classes(4), cell="gru", units=8)
        >>> writer = zoo.of_texts(model, {"sequence": letters})
        >>> [len(text) for text in zoo.continue_texts(writer, ["ab", "b"], max_length=3)]
        [5, 4]
    """
    texts = reading.as_texts("texts", texts)
    vectorizer = _vectorizer(model)
    symbols = [str(symbol) for symbol in vectorizer.get_vocabulary()]
    ids = reading.numbered(vectorizer, texts)
    lengths = (ids > 0).sum(axis=1).astype("int32")
    options: dict[str, Any] = {"seed": seed, "forbidden": [UNKNOWN]}
    inputs: Any = ids
    if edge is None:
        for n, length in enumerate(lengths):
            if not length:
                raise ValueError(f"texts[{n}]={texts[n]!r}: expected at least one symbol.")
    else:
        if edge not in symbols[UNKNOWN + 1 :]:
            raise ArgumentError("edge", edge, "a symbol of the model")
        for n, length in enumerate(lengths):
            if length >= max_length:
                raise ValueError(
                    f"texts[{n}] has {length} symbols; expected fewer than max_length, "
                    f"{max_length}."
                )
        options |= {"start": symbols.index(edge), "end": symbols.index(edge), "max_lengths": True}
        inputs = [np.pad(ids, ((0, 0), (0, int(not ids.shape[1])))), max_length - lengths]
    writer = generator(of_ids(model), sampler, max_length, **options)
    rows = writer.predict(inputs, batch_size=batch_size, verbose=0)
    separator = reading.separator(vectorizer)
    pieces = isinstance(vectorizer, kerasrnn.SentencePieceVectorization)
    results = []
    for text, row in zip(texts, rows, strict=True):
        added = [symbols[n] for n in row if n and symbols[n] != edge]
        joined = "".join(added).replace(BLANK, " ") if pieces else separator.join(added)
        results.append(text + (separator if text and added else "") + joined)
    return results


def _vectorizer(model: keras.Model) -> keras.layers.Layer:
    vectorizers = [layer for layer in model.layers if isinstance(layer, VECTORIZERS)]
    if len(vectorizers) != 1:
        raise ValueError("model: expected a model that reads one text: see zoo.of_texts.")
    return vectorizers[0]
