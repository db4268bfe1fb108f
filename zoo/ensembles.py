"""Several models as one: their decoders, and the features of the source that these read."""

from collections.abc import Sequence
from typing import Any

import keras

from kerasrnn import validation
from kerasrnn.decoding.ensemble import Ensemble
from kerasrnn.decoding.pointing import PointerDecoder
from kerasrnn.zoo.stepping import decoder_of, source_inputs, source_of

Tensor = Any


def ensemble(models: Sequence[keras.Model], average: str) -> tuple[Ensemble, dict[str, Tensor]]:
    """The decoders of several models as one, and what it reads of the inputs of the first model.

    Raises:
        ValueError: they are not models with a decoder of the same symbols, or have other inputs.
    """
    models = validation.sequence("model", models)
    if not models:
        raise ValueError("model=[]: expected at least one model.")
    for n, model in enumerate(models):
        validation.model(f"model[{n}]", model)
    decoders = [decoder_of(model) for model in models]
    for n, decoder in enumerate(decoders):
        if isinstance(decoder, PointerDecoder):
            raise ValueError(
                f"model[{n}] is a pointer network; expected models of symbols, since those of an "
                "ensemble are the same for every source."
            )
    features = [source_of(models[0], decoders[0])]
    inputs = source_inputs(models[0])
    for n, (model, decoder) in enumerate(zip(models[1:], decoders[1:], strict=True), 1):
        found = source_of(model, decoder)
        found.pop("source_ids", None)  # an input, which is that of the first model
        signatures = [
            [(x.name, tuple(x.shape), x.dtype) for x in source_inputs(each)]
            for each in (models[0], model)
        ]
        if signatures[0] != signatures[1]:
            raise ValueError(
                f"model[{n}] has the inputs {signatures[1]}, and the first model "
                f"{signatures[0]}; expected equal ones."
            )
        if found:
            # Of other models only what their decoders read, with names of their own.
            read = keras.Model(source_inputs(model), list(found.values()), name=f"member_{n}")
            found = dict(zip(found, keras.tree.flatten(read(inputs)), strict=True))
        features.append(found)
    arguments, widths = {}, {}
    for name in ("context", "memory"):
        of_models = [each.get(name) for each in features]
        widths[name] = [None if x is None else x.shape[-1] for x in of_models]
        given = [x for x in of_models if x is not None]
        if len(given) > 1:
            arguments[name] = keras.layers.Concatenate(name=f"{name}s")(given)
        elif given:
            arguments[name] = given[0]
    if "source_ids" in features[0]:
        arguments["source_ids"] = features[0]["source_ids"]
    together = Ensemble(decoders, widths["context"], widths["memory"], average, name="decoders")
    return together, arguments
