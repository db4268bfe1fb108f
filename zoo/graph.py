"""Properties of a model's inputs, derived from its graph."""

from collections.abc import Iterator, Mapping
from typing import Any

import keras

import kerasrnn
from kerasrnn.decoding.ensemble import Ensemble
from kerasrnn.keras_internals import flatten_layers, graph_of, nodes_of, producer_of
from kerasrnn.layers.joining import JoinedSteps

DECODERS = (kerasrnn.Decoder, Ensemble)
READ_MISSING = (kerasrnn.MissingIndicator, kerasrnn.GRUDCell)


def ids_of(model: keras.Model) -> dict[str, int]:
    """The number of ids of each input that feeds embeddings: 0 to count - 1, in all of them."""
    counts: dict[str, int] = {}
    own = {id(x): x.name for x in model.inputs}
    for layer in model.layers:
        for tensor, count in _reads(layer):
            if id(tensor) in own:
                name = own[id(tensor)]
                counts[name] = min(count, counts.get(name, count))
    return counts


def _reads(layer: keras.layers.Layer) -> Iterator[tuple[Any, int]]:
    """The tensors that a layer looks up, each with its number of ids."""
    if isinstance(layer, keras.Model):
        if graph_of(layer) is not None:
            inner = ids_of(layer)
            for node in nodes_of(layer):
                for tensor, part in _parts(node, layer):
                    if part.name in inner:
                        yield tensor, inner[part.name]
        return
    decoder = getattr(layer, "decoder", layer)  # a generator
    if isinstance(layer, kerasrnn.Transducer):
        yield from ((node.input_tensors[1], layer.classes) for node in nodes_of(layer))
        return
    if isinstance(layer, keras.layers.Embedding):
        count = layer.input_dim
    elif isinstance(decoder, DECODERS) and decoder.kind == "classes":
        count = decoder.output_size
    else:
        return
    for node in nodes_of(layer):
        tensors = node.input_tensors
        if isinstance(layer, kerasrnn.Generator):
            tensors = [*_beginnings_of(node), *_named(node, "source_ids", "required")]
        yield from ((tensor, count) for tensor in tensors)


def _parts(node: Any, model: keras.Model) -> list[tuple[Any, Any]]:
    """The tensors that a call passes to a model, each with the model's input that receives it."""
    arguments = node.arguments
    argument = arguments.args[0] if arguments.args else next(iter(arguments.kwargs.values()))
    if isinstance(argument, Mapping):
        like = model.input
        parts = like if isinstance(like, dict) else {x.name: x for x in model.inputs}
        return [(argument[key], part) for key, part in parts.items() if key in argument]
    return list(zip(keras.tree.flatten(argument), model.inputs, strict=False))


def with_missing(model: keras.Model) -> set[str]:
    """The names of the inputs whose missing values, NaN, are read as such."""
    own = {id(x): x.name for x in model.inputs}
    return {
        own[id(source)]
        for layer in model.layers
        if any(isinstance(part, READ_MISSING) for part in flatten_layers(layer))
        for node in nodes_of(layer)
        for tensor in node.input_tensors
        for source in _sources(tensor, own)
    }


def joined(model: keras.Model) -> list[list[str]]:
    """The names of the inputs whose sequences are joined step by step, for each layer that does."""
    own = {id(x): x.name for x in model.inputs}
    return [
        [
            own[id(x)]
            for tensor in node.input_tensors[: layer.sequences]
            for x in _sources(tensor, own)
        ]
        for layer in model.layers
        if isinstance(layer, JoinedSteps)
        for node in nodes_of(layer)
    ]


def _sources(tensor: Any, own: Mapping[int, str]) -> list[Any]:
    """The model's inputs from which a tensor is computed."""
    if id(tensor) in own:
        return [tensor]
    before = [
        x for x in keras.tree.flatten(producer_of(tensor)[1]) if isinstance(x, keras.KerasTensor)
    ]
    return [source for x in before for source in _sources(x, own)]


def beginnings(model: keras.Model) -> set[str]:
    """The names of the inputs that are prompts or prefixes of a generator, which may be empty."""
    ids = {
        id(tensor)
        for layer in model.layers
        if isinstance(layer, kerasrnn.Generator)
        for node in nodes_of(layer)
        for tensor in _beginnings_of(node)
    }
    return {x.name for x in model.inputs if id(x) in ids}


def _beginnings_of(node: Any) -> list[Any]:
    return _named(node, "prompt", "prefix")


def _named(node: Any, *names: str) -> list[Any]:
    return [node.arguments.kwargs.get(name) for name in names]
