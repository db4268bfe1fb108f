"""Converts a model that predicts the next symbol to one that generates entire sequences."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import keras

import kerasrnn
from kerasrnn import validation
from kerasrnn.decoding.pointing import END, PointerDecoder
from kerasrnn.decoding.processors import ForbiddenSymbols, LogitsProcessor
from kerasrnn.decoding.samplers import Strategy
from kerasrnn.validation import ArgumentError, PositiveInteger, Seed
from kerasrnn.zoo.ensembles import ensemble
from kerasrnn.zoo.model import Model
from kerasrnn.zoo.stepping import decoder_of, named, source_inputs, source_of


@validation.checked
def generator(
    model: keras.Model | Sequence[keras.Model],
    sampler: Strategy | None = None,
    max_length: PositiveInteger = 100,
    start: int | float | Sequence[float] | None = None,
    end: int | None = None,
    seed: Seed | None = None,
    prompt: bool | None = None,
    prompt_lengths: bool = False,
    max_lengths: bool = False,
    return_lengths: bool = False,
    return_log_probabilities: bool = False,
    min_length: int = 0,
    return_scores: bool = False,
    return_attention: bool = False,
    processors: Sequence[LogitsProcessor] = (),
    forbidden: Sequence[int] | None = None,
    prefix: bool = False,
    required: tuple[int, int] | None = None,
    average: str = "probabilities",
    name: str = "generator",
) -> Model:
    """Create a generating model that shares the layers of a model trained with teacher forcing.

    It is an ordinary Keras model that contains the decoding loop, so it can be used, saved, loaded
    and exported like any other. Later training of `model` changes it, too.

    Args:
        model: a trained or loaded model of `zoo.next_step`, `one_to_many`, `encoder_decoder` or
            `pointer_network`; or a list of such models, except the last, with equal inputs and
            outputs, which generate together as an ensemble: see `kerasrnn.decoding.Ensemble`.
        sampler: `kerasrnn.decoding.Greedy`, `Sample`, `Beam`, `Draw`, ...: see
            `kerasrnn.Generator`.
        max_length: the maximum number of generated symbols per row.
        start: the symbol before the first one; None: prompts include it. Of a pointer network, it
            is always 1.
        end: the id that ends a row; None: rows end only at the maximum length. Of a pointer
            network, it is always 1.
        seed: an integer that makes the sampling reproducible.
        prompt: whether to add an input for the beginning of each sequence. Default: only if the
            model has no source.
        prompt_lengths: whether to add an input for the prompts' lengths, for `MultiLabel` and
            `Values` without a padding value.
        max_lengths: whether to add an input for the maximum number of symbols of each row.
        return_lengths: whether to add an output of the lengths.
        return_log_probabilities: whether to add an output of the symbols' log-probabilities.
        min_length: the number of symbols that must be generated before `end` is possible.
        return_scores: whether to add an output of a `Beam`'s scores.
        return_attention: whether to add an output of the attention weights, for a decoder with
            attention.
        processors: functions of the logits, applied before the sampler or the beam: a list of
            `kerasrnn.decoding.NoRepeatNGrams`, `RepetitionPenalty`, ...
        forbidden: ids that are never generated, besides padding. Default: `start`, if it is an id
            other than `end`; pass [] if it is an ordinary symbol.
        prefix: whether to add an input for the forced beginning of each sequence, ids `(batch,
            length)`, padded with 0 at the end. Unlike a prompt, it is part of the outputs.
        required: `(phrases, length)`: adds an input for phrases that each sequence must contain,
            ids `(batch, phrases, length)`, padded with 0, for a `Beam`: see
            `kerasrnn.decoding.RequiredPhrases`. None: no such input.
        average: of an ensemble, "probabilities" or "log_probabilities": which mean of the models is
            taken.
        name: name of the model.

    Returns:
        A `zoo.Model` whose inputs are those enabled among the source (under the name that `model`
        gives it), "prompt", "prompt_lengths", "max_lengths", "prefix" and "required", and whose
        outputs are "sequences", "lengths", "log_probabilities", "scores" and "attention", as
        enabled: see `kerasrnn.Generator`.

    Raises:
        ValueError: the model has no decoder; an argument is out of range; there is neither `start`
            nor a prompt.

    Example: continue characters from a prompt.

        >>> import numpy as np
        >>> import kerasrnn
        >>> from kerasrnn import zoo
        >>> model = zoo.next_step(zoo.Classes(30), "gru", units=8)
        >>> sampler = kerasrnn.decoding.Sample(temperature=0.8, top_p=0.9)
        >>> writer = zoo.generator(model, sampler, max_length=6, seed=1)
        >>> writer.predict(np.array([[3, 7, 2], [4, 0, 0]]), verbose=0).shape
        (2, 6)
    """
    if isinstance(model, keras.Model):
        if average != "probabilities":
            raise ValueError(f"average={average!r}: expected the default with a single model.")
        decoder = decoder_of(model)
        if isinstance(decoder, PointerDecoder):
            start, end = (END if each is None else each for each in (start, end))
        arguments = source_of(model, decoder)
    else:
        decoder, arguments = ensemble(model, average)
        model = model[0]
    if prompt is None:
        prompt = decoder.context is None
    if prompt_lengths and not prompt:
        raise ValueError("prompt_lengths=True: expected prompt=True.")
    inputs: list[Any] = source_inputs(model) if arguments else []
    if prompt:
        classes = decoder.kind == "classes"
        shape, dtype = ((None,), "int32") if classes else ((None, decoder.size), None)
        arguments["prompt"] = keras.Input(shape, dtype=dtype, name="prompt")
        inputs.append(arguments["prompt"])
    for argument, requested in (("prompt_lengths", prompt_lengths), ("max_lengths", max_lengths)):
        if requested:
            arguments[argument] = keras.Input((), dtype="int32", name=argument)
            inputs.append(arguments[argument])
    if prefix:
        arguments["prefix"] = keras.Input((None,), dtype="int32", name="prefix")
        inputs.append(arguments["prefix"])
    if required is not None:
        shape = validation.sequence("required", required)
        if len(shape) != 2:
            raise ArgumentError("required", required, "(number of phrases, length)", "None")
        shape = [
            validation.positive_integer(f"required[{n}]", each) for n, each in enumerate(shape)
        ]
        arguments["required"] = keras.Input(shape, dtype="int32", name="required")
        inputs.append(arguments["required"])
    if forbidden is None:
        begins = decoder.kind == "classes" and isinstance(start, Integral) and start != end
        forbidden = [validation.integer("start", start, minimum=0)] if begins else []
    forbidden = validation.sequence("forbidden", forbidden)
    if forbidden:
        ids = [validation.integer("forbidden", each, minimum=0) for each in forbidden]
        processors = [ForbiddenSymbols(ids), *processors]
    generate = kerasrnn.Generator(
        decoder,
        sampler,
        max_length,
        start,
        end,
        seed,
        return_lengths,
        return_log_probabilities,
        min_length,
        return_scores,
        return_attention,
        processors,
        name="generate",
    )
    results = generate(**arguments)
    names = ["sequences"]
    for output_name, requested in (
        ("lengths", return_lengths),
        ("log_probabilities", return_log_probabilities),
        ("scores", return_scores),
        ("attention", return_attention),
    ):
        if requested:
            names.append(output_name)
    results = results if len(names) > 1 else [results]
    outputs = [
        named(output_name, result) for output_name, result in zip(names, results, strict=True)
    ]
    # A model with a list of one input would require calls with a list.
    ends = [end if len(end) > 1 else end[0] for end in (inputs, outputs)]
    return Model(*ends, name=name)
