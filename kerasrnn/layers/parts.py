"""Inner recurrent layers and cells of other layers: checks, and copies of their configuration."""

from typing import Any

import keras

from kerasrnn import validation
from kerasrnn.cells.cell import Cell
from kerasrnn.cells.rnn import RNN
from kerasrnn.keras_internals import flatten_layers


def check_recurrent(name: str, layer: Any, kinds: tuple[type, ...] = (RNN,)) -> None:
    """Raise ValueError, with a suggestion, unless an argument is a layer of one of these kinds."""
    if isinstance(layer, kinds):
        return
    expected = "a kerasrnn recurrent layer"
    kind = type(layer).__name__
    if isinstance(layer, Cell) or (isinstance(layer, keras.layers.Layer) and kind.endswith("Cell")):
        expected = f"a layer; kerasrnn.RNN({kind}(...)) makes one from a cell"
    elif isinstance(layer, keras.layers.RNN) and not isinstance(layer, RNN):
        expected = f"kerasrnn.{kind} instead of keras.layers.{kind}"
        if kind not in ("RNN", "SimpleRNN", "LSTM", "GRU"):
            expected = "a kerasrnn recurrent layer; kerasrnn.RNN runs any Keras cell"
    elif isinstance(layer, keras.layers.Bidirectional):
        expected = "kerasrnn.Bidirectional instead of keras.layers.Bidirectional"
    raise ValueError(f"{name}={layer!r}: expected {expected}.")


def as_layers(layers: Any) -> list[Any]:
    """Check and return a list of layers.

    Raises:
        ValueError: a single layer without a list, an element that is not a layer, or an empty list.
    """
    if isinstance(layers, keras.layers.Layer):
        raise ValueError(f"layers={layers!r}: expected a list of layers, [layer].")
    layers = validation.sequence("layers", layers)
    if not layers:
        raise ValueError("layers=[]: expected at least one layer.")
    return layers


def unbuilt_config(layer: keras.layers.Layer) -> dict[str, Any]:
    """The configuration of the layer as unbuilt: the outer layer builds it."""
    config = keras.saving.serialize_keras_object(layer)
    config.pop("build_config", None)
    return config


def copied(layer: keras.layers.Layer, config: dict[str, Any] | None = None) -> Any:
    """Create a new layer of the same classes, which need not be registered with Keras.

    Args:
        layer: the layer.
        config: a modified result of `unbuilt_config`. Default: that of the layer.
    """
    classes = {type(part) for part in flatten_layers(layer)}
    known = {keras.saving.get_registered_name(cls): cls for cls in classes}
    config = unbuilt_config(layer) if config is None else config
    copy = keras.saving.deserialize_keras_object(config, custom_objects=known)
    both = ([x for x in flatten_layers(of) if hasattr(x, "use_cudnn")] for of in (layer, copy))
    for original, part in zip(*both, strict=False):
        part.use_cudnn = original.use_cudnn  # not part of the configuration
    return copy
