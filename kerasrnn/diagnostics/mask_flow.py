"""Follows a model's masks, layer by layer."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import keras

from kerasrnn import validation
from kerasrnn.cells.rnn import RNN
from kerasrnn.diagnostics.tables import indented
from kerasrnn.keras_internals import flatten_layers, get_keras_mask, graph_of, takes_mask

OF_OPERATIONS = "operations on tensors pass no mask on; pass the mask to the next layer as `mask`."

Tensor = Any
Fate = Literal["created", "passed on", "used", "lost", "none"]


@dataclass(frozen=True)
class MaskedLayer:
    """One call of a layer."""

    name: str
    layer: str
    """The class of the layer, with its package unless that is kerasrnn."""

    mask: Fate
    """What the layer does with the mask of its inputs.

    - "passed on": the output has a mask, or the next layers receive one as `mask`.
    - "used": the output no longer has steps, for example if a layer returns only its last output.
    - "lost": the output has no mask, and the following layers process the padding.
    - "created": the output has a mask, but no input has.
    - "none": neither has a mask.
    """

    advice: str = ""
    """Advice if the mask is lost."""


@dataclass(frozen=True)
class MaskFlow:
    """The result of `masks` for a model."""

    model: str
    layers: tuple[MaskedLayer, ...]
    """The layers in the order in which the model calls them."""

    @property
    def lost(self) -> tuple[MaskedLayer, ...]:
        """The layers that lose a mask."""
        return tuple(layer for layer in self.layers if layer.mask == "lost")

    def summary(self) -> str:
        """A table of the layers, with advice for those that lose a mask."""
        rows = [["layer", "class", "mask"]]
        rows += [[layer.name, layer.layer, layer.mask] for layer in self.layers]
        lines = [f"{self.model}: the mask is lost in {len(self.lost)} of {len(self.layers)} layers"]
        lines += indented(rows)
        lines += [f"{layer.name}: {layer.advice}" for layer in self.lost]
        return "\n".join(lines)


@validation.checked
def masks(model: keras.Model, x: Any = None) -> MaskFlow:
    """Report, layer by layer, what happens to a model's masks.

    Masks mark the steps of a sequence that are padding. A layer that drops its mask does not fail:
    the following layers process the padding as data. From version 3.16 on, `keras.layers.LSTM`,
    `GRU`, `SimpleRNN`, `RNN`, `Bidirectional` and `TimeDistributed` drop it.

    Args:
        model: any Keras model.
        x: inputs, for a model that is neither functional nor Sequential: it is called on them once.
            A functional model needs none.

    Returns:
        A `MaskFlow`; its `lost` is empty if no mask is lost.

    Raises:
        ValueError: `x` is missing, or the backend is JAX, whose arrays have no masks outside of a
            functional model.

    Example:

        >>> import keras, kerasrnn
        >>> model = keras.Sequential([
        ...     keras.Input((None,), dtype="int32"),
        ...     keras.layers.Embedding(50, 8, mask_zero=True, name="embedding"),
        ...     kerasrnn.LSTM(4, return_sequences=True, name="lower"),
        ...     kerasrnn.LSTM(4, name="upper"),
        ... ], name="classifier")
        >>> print(kerasrnn.diagnostics.masks(model).summary())
        classifier: the mask is lost in 0 of 3 layers
          layer                class       mask
          embedding  keras.Embedding    created
          lower                 LSTM  passed on
          upper                 LSTM       used
    """
    layers: list[MaskedLayer] = []
    if graph_of(model) is not None:
        _through_graph(model, [], layers)
    elif x is None:
        raise ValueError(
            f"x=None: {model.name!r} is not functional, or is a Sequential model without an Input; "
            "expected inputs to call it on."
        )
    elif keras.backend.backend() == "jax":
        raise ValueError(
            f"model={model.name!r}: expected a functional or Sequential model with JAX, whose "
            "arrays carry no masks."
        )
    else:
        _through_call(model, x, layers)
    return MaskFlow(model.name, tuple(layers))


def _through_graph(model: keras.Model, input_masks: list[Tensor], layers: list[MaskedLayer]) -> Any:
    """Follow masks through a functional model and nested models; return those of its outputs.

    The masks are symbolic, computed by the layers' own methods.
    """
    masks = dict(zip(map(id, model.inputs), input_masks, strict=False))
    consumers = _consumers(model)

    def mask_of(structure: Any) -> Any:
        return keras.tree.map_structure(lambda x: masks.get(id(x)), structure)

    for node in graph_of(model):
        operation, arguments = node.operation, node.arguments
        outputs = keras.tree.flatten(node.outputs)
        if not node.input_tensors or not any(id(y) in consumers for y in outputs):
            continue
        first = arguments.args[0] if arguments.args else next(iter(arguments.kwargs.values()))
        # As Keras does: a mask given by name replaces that of the first argument.
        explicit = arguments.kwargs.get("mask")
        before = mask_of(first) if explicit is None else explicit
        after: list[Any] = [None] * len(outputs)
        if not isinstance(operation, keras.layers.Layer):
            # An operation on tensors passes no mask on.
            if any(masks.get(id(x)) is not None for x in node.input_tensors):
                name = f"keras.ops.{type(operation).__name__}"
                layer = MaskedLayer(operation.name, name, "lost", OF_OPERATIONS)
                layers.append(_corrected(layer, outputs, consumers))
        elif isinstance(operation, keras.Model) and graph_of(operation) is not None:
            after = _through_graph(operation, keras.tree.flatten(before), layers)
        else:
            if operation.supports_masking:
                computed = operation.compute_mask(first, before)
                after = after if computed is None else keras.tree.flatten(computed)
            incoming = [mask for mask in keras.tree.flatten(before) if mask is not None]
            layer = _masked_layer(operation, first, outputs, incoming, after)
            layers.append(_corrected(layer, outputs, consumers))
        masks |= dict(zip(map(id, outputs), after, strict=False))
    return [masks.get(id(y)) for y in model.outputs]


def _consumers(model: keras.Model) -> dict[int, list[Any]]:
    """The nodes that read each tensor of a graph as data, by the tensor's id.

    Tensors that only masks are computed from have no entry.
    """
    producers = {id(y): node for node in graph_of(model) for y in keras.tree.flatten(node.outputs)}
    consumers: dict[int, list[Any]] = {id(y): [] for y in model.outputs}
    waiting, seen = [producers.get(tensor) for tensor in consumers], set()
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        named = node.arguments.kwargs.items()
        data = [node.arguments.args, [x for name, x in named if not name.endswith("mask")]]
        for x in keras.tree.flatten(data):
            if isinstance(x, keras.KerasTensor):
                consumers.setdefault(id(x), []).append(node)
                waiting.append(producers.get(id(x)))
    return consumers


def _corrected(
    layer: MaskedLayer, outputs: list[Tensor], consumers: dict[int, list[Any]]
) -> MaskedLayer:
    """A mask is not lost if the layers that need one receive it as `mask`."""

    def received(tensor: Tensor) -> bool:
        nodes = consumers.get(id(tensor), [])
        return bool(nodes) and all(
            node.arguments.kwargs.get("mask") is not None
            or (
                not _reads_mask(node.operation)
                and all(map(received, keras.tree.flatten(node.outputs)))
            )
            for node in nodes
        )

    if layer.mask == "lost" and any(map(received, outputs)):
        return dataclasses.replace(layer, mask="passed on", advice="")
    return layer


def _reads_mask(operation: Any) -> bool:
    return isinstance(operation, keras.layers.Layer) and takes_mask(operation)


def _through_call(model: keras.Model, x: Any, layers: list[MaskedLayer]) -> None:
    """Call a model once, and record the masks of its layers' inputs and outputs."""
    if not model.built:
        model(x)  # Keras calls the layers an extra time to build them
    ids = {id(layer) for layer in flatten_layers(model)} - {id(model)}
    inside: list[Any] = []
    call = keras.layers.Layer.__call__

    def recorded(self: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        if id(self) not in ids or inside:
            return call(self, *args, **kwargs)
        composite = isinstance(self, keras.Model)
        if not composite:
            inside.append(self)
        try:
            outputs = call(self, *args, **kwargs)
        finally:
            if not composite:
                inside.pop()
        if not composite:
            first = args[0] if args else next(iter(kwargs.values()))
            incoming = [kwargs.get("mask")]
            if incoming == [None]:
                incoming = [get_keras_mask(x) for x in keras.tree.flatten(first)]
            incoming = [mask for mask in incoming if mask is not None]
            flat = keras.tree.flatten(outputs)
            layers.append(
                _masked_layer(self, first, flat, incoming, [get_keras_mask(y) for y in flat])
            )
        return outputs

    keras.layers.Layer.__call__ = recorded
    try:
        model(x)
    finally:
        keras.layers.Layer.__call__ = call


def _masked_layer(
    layer: keras.layers.Layer,
    inputs: Any,
    outputs: list[Tensor],
    before: list[Tensor],
    after: list[Tensor],
) -> MaskedLayer:
    cls = type(layer)
    package = cls.__module__.split(".")[0]
    name = cls.__name__ if package == "kerasrnn" else f"{package}.{cls.__name__}"
    passed = any(mask is not None for mask in after)
    if not before:
        return MaskedLayer(layer.name, name, "created" if passed else "none")
    if passed:
        return MaskedLayer(layer.name, name, "passed on")
    rank = max(len(x.shape) for x in keras.tree.flatten(inputs))
    if takes_mask(layer) and all(len(y.shape) < rank for y in outputs):
        return MaskedLayer(layer.name, name, "used")
    several = len(keras.tree.flatten(inputs)) > 1
    return MaskedLayer(layer.name, name, "lost", _advice(layer, several))


def _advice(layer: keras.layers.Layer, several: bool) -> str:
    ours = {
        keras.layers.LSTM: "kerasrnn.LSTM",
        keras.layers.GRU: "kerasrnn.GRU",
        keras.layers.SimpleRNN: "kerasrnn.SimpleRNN",
        keras.layers.Bidirectional: "kerasrnn.Bidirectional",
        keras.layers.TimeDistributed: "kerasrnn.BatchedTimeDistributed",
        keras.layers.RNN: "kerasrnn.RNN",
    }
    for keras_class, replacement in ours.items():
        if isinstance(layer, keras_class) and not isinstance(layer, RNN):
            return (
                f"use {replacement}, which passes the mask on; kerasrnn.export.from_keras converts "
                "a model of Keras's layers."
            )
    name = type(layer).__name__
    if several:
        return f"{name} passes a mask on only if all of its inputs have one."
    advice = f"{name} does not pass masks on; pass the mask to the next layer as `mask`."
    if type(layer).__module__.split(".")[0] != "keras":
        advice += (
            " If each step of its output depends only on the same step of its input, set "
            "supports_masking=True in its constructor."
        )
    return advice
