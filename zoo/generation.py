"""From a model that foresees the next symbol to one that writes the whole sequence."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import keras

import kerasrnn
from kerasrnn import validation
from kerasrnn.decoding.processors import ForbiddenSymbols, LogitsProcessor
from kerasrnn.decoding.samplers import Strategy
from kerasrnn.validation import PositiveInteger, Seed
from kerasrnn.zoo.model import Model
from kerasrnn.zoo.stepping import decoder_of, source_of


@validation.checked
def generator(
    model: keras.Model,
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
    name: str = "generator",
) -> Model:
    """A model that generates, sharing the layers of one that was trained with teacher forcing.

    It is an ordinary Keras model with the decode loop inside: it predicts, saves, loads and exports
    as a whole. What it learns of later training of `model`, it learns at once.

    Args:
        model: of `zoo.next_step`, `one_to_many` or `encoder_decoder`, trained or loaded.
        sampler: `kerasrnn.decoding.Greedy`, `Sample`, `Beam`, ...; see `kerasrnn.Generator`.
        max_length: the largest number of symbols that a row may get.
        start: the symbol that comes before the first one; None: prompts begin with it themselves.
        end: the id that ends a row; None: only its length does.
        seed: integer: makes what is drawn repeatable.
        prompt: whether there is an input of what each sequence begins with. Default: only where
            there is no source.
        prompt_lengths: whether there is an input of the prompts' lengths, for flags and values
            among which none is free to be padding.
        max_lengths: whether there is an input of each row's largest number of symbols.
        return_lengths: whether there is an output of the lengths.
        return_log_probabilities: whether there is an output of the symbols' log-probabilities.
        min_length: `end` is impossible before so many symbols have been generated.
        return_scores: whether there is an output of a `Beam`'s scores.
        return_attention: whether there is an output of the attention, of a decoder that has it.
        processors: what changes the logits before the sampler or the beam chooses: a list of
            `kerasrnn.decoding.NoRepeatNGrams`, `RepetitionPenalty`, ...
        forbidden: ids that are never generated, beside padding. Default: `start`, if it is an id
            other than `end`; give [] where it is a symbol like others.
        prefix: whether there is an input of what each sequence must begin with, ids `(batch,
            length)`, 0 behind a row's own. Unlike a prompt, it is part of the outputs.
        name: name of the model.

    Returns:
        A `zoo.Model` from those of "source" (as `model` calls it), "prompt", "prompt_lengths",
        "max_lengths" and "prefix" that there are, to "sequences", "lengths", "log_probabilities",
        "scores" and "attention": see `kerasrnn.Generator`.

    Raises:
        ValueError: the model holds no decoder; an argument is out of its range; there is neither
            `start` nor a prompt.

    Example: characters go on from a prompt.

        >>> import numpy as np
        >>> import kerasrnn
        >>> from kerasrnn import zoo
        >>> model = zoo.next_step(zoo.Classes(30), "gru", units=8)
        >>> sampler = kerasrnn.decoding.Sample(temperature=0.8, top_p=0.9)
        >>> writer = zoo.generator(model, sampler, max_length=6, seed=1)
        >>> writer.predict(np.array([[3, 7, 2], [4, 0, 0]]), verbose=0).shape
        (2, 6)
    """
    decoder = decoder_of(model)
    if prompt is None:
        prompt = decoder.context is None
    if prompt_lengths and not prompt:
        raise ValueError("prompt_lengths=True: expected prompt=True.")
    given = source_of(model, decoder)
    inputs: list[Any] = list(model.inputs[:1]) if given else []
    if prompt:
        classes = decoder.kind == "classes"
        shape, dtype = ((None,), "int32") if classes else ((None, decoder.size), None)
        given["prompt"] = keras.Input(shape, dtype=dtype, name="prompt")
        inputs.append(given["prompt"])
    for argument, asked in (("prompt_lengths", prompt_lengths), ("max_lengths", max_lengths)):
        if asked:
            given[argument] = keras.Input((), dtype="int32", name=argument)
            inputs.append(given[argument])
    if prefix:
        given["prefix"] = keras.Input((None,), dtype="int32", name="prefix")
        inputs.append(given["prefix"])
    if forbidden is None:
        begins = decoder.kind == "classes" and isinstance(start, Integral) and start != end
        forbidden = [start] if begins else []
    if len(validation.sequence("forbidden", forbidden)):
        processors = [ForbiddenSymbols(forbidden), *processors]
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
    results = generate(**given)
    names = ["sequences"]
    for output_name, asked in (
        ("lengths", return_lengths),
        ("log_probabilities", return_log_probabilities),
        ("scores", return_scores),
        ("attention", return_attention),
    ):
        if asked:
            names.append(output_name)
    results = results if len(names) > 1 else [results]
    outputs = [
        keras.layers.Identity(name=output_name)(result)
        for output_name, result in zip(names, results, strict=True)
    ]
    # A list of one would have to be called with a list.
    ends = [end if len(end) > 1 else end[0] for end in (inputs, outputs)]
    return Model(*ends, name=name)
