"""Models between Keras's own recurrent layers and kerasrnn's."""

from collections.abc import Callable
from typing import Any

import keras

from kerasrnn import validation
from kerasrnn.cells.cell import Cell
from kerasrnn.cells.layer import RNN
from kerasrnn.export import matrices, parity
from kerasrnn.layers.bidirectional import BidirectionalRNN
from kerasrnn.layers.stacked import StackedRNN
from kerasrnn.validation import NonNegativeNumber

BUILT_IN = ("SimpleRNN", "LSTM", "GRU", "SimpleRNNCell", "LSTMCell", "GRUCell", "RNN")
"""Names that both Keras and kerasrnn have."""

LAYERS = (RNN, Cell, BidirectionalRNN, StackedRNN)
"""What has to have a twin in Keras to go there."""


@validation.checked
def from_keras(
    source: keras.layers.Layer, tolerance: NonNegativeNumber = matrices.TOLERANCE
) -> Any:
    """A copy of a model or a layer, with kerasrnn's layers in the place of Keras's recurrent ones.

    Inside others, too: `Bidirectional`, `TimeDistributed`, `StackedRNNCells`, models in models.
    Names, weights and configurations stay; a model is to be compiled again.

    Args:
        source: a built functional or Sequential model, or a built layer.
        tolerance: the largest absolute difference that is accepted: in half precision the loops
            round differently.

    Raises:
        ParityError: the two do not compute the same.
        ValueError: it is not built; a layer stands in several models inside.

    Example:

        >>> import keras, kerasrnn
        >>> model = keras.Sequential([keras.Input((None, 3)), keras.layers.GRU(4)])
        >>> isinstance(kerasrnn.export.from_keras(model).layers[0], kerasrnn.GRU)
        True
    """
    return _checked(source, rewritten(source, ours), tolerance)


@validation.checked
def to_keras(source: keras.layers.Layer, tolerance: NonNegativeNumber = matrices.TOLERANCE) -> Any:
    """A copy of a model or a layer with Keras's own recurrent layers: it needs no kerasrnn.

    `BidirectionalRNN` becomes `keras.layers.Bidirectional`. What concerns the time loop alone
    (`jit_compile`, `checkpoint_every`, `truncate_every`) is left behind.

    Args:
        source: a built functional or Sequential model, or a built layer.
        tolerance: the largest absolute difference that is accepted: in half precision the loops
            round differently.

    Raises:
        ParityError: the two do not compute the same.
        ValueError: Keras has no such layer: a cell that it lacks, `StackedRNN`, a residual
            connection, a subclass of a kerasrnn class; the source is not built.

    Example:

        >>> import numpy as np, kerasrnn
        >>> layer = kerasrnn.LSTM(4)
        >>> y = layer(np.ones((2, 5, 3), "float32"))
        >>> type(kerasrnn.export.to_keras(layer)).__module__.startswith("keras.")
        True
    """
    for layer in parity.layers_of(source):
        cls = type(layer)
        ours = cls.__module__.split(".")[0] in ("keras", "kerasrnn")
        if isinstance(layer, LAYERS) and not ours:
            raise ValueError(f"{layer.name}: Keras has no {cls.__name__}, which extends kerasrnn.")
    return _checked(source, rewritten(source, keras_own), tolerance)


def has_built_in(model: keras.Model) -> bool:
    """Whether a model holds recurrent layers of Keras's that `from_keras` would replace."""
    own = tuple(getattr(keras.layers, name) for name in BUILT_IN)
    return any(type(layer) in own for layer in parity.layers_of(model))


def rewritten(source: Any, rewrite: Callable[[dict[str, Any]], None]) -> Any:
    """A copy, each of whose serialized parts went through `rewrite`, with the same weights."""
    if not source.built:
        raise ValueError(f"{source.name}: not built; expected a layer or a model with weights.")
    config = keras.saving.serialize_keras_object(source)
    config.pop("compile_config", None)
    for part in matrices.parts(config):
        rewrite(part)
    known = {}
    if isinstance(source, keras.Model):
        # The model's own classes, which nobody may have registered.
        classes = {type(layer) for layer in parity.layers_of(source)}
        known = {
            cls.__name__: cls
            for cls in classes
            if cls.__module__.split(".")[0] not in ("keras", "kerasrnn")
        }
    result = keras.saving.deserialize_keras_object(config, custom_objects=known)
    if len(result.weights) != len(source.weights):
        raise ValueError(
            f"{source.name}: a layer stands in several of the models inside, of which a copy would "
            "have several; expected each layer in one of them."
        )
    result.set_weights(source.get_weights())
    return result


def _checked(source: Any, result: Any, tolerance: float) -> Any:
    what = f"the copy of {source.name}"
    if not getattr(source, "inputs", None):
        matrices.compare(source, result, matrices.features(source), what, tolerance)
        return result
    model_itself = parity.reference(source)
    batches = parity.random_inputs(source, model_itself)
    difference = parity.largest_difference(parity.reference(result), model_itself, batches)
    parity.check_difference(difference, tolerance, what)
    return result


def ours(part: dict[str, Any]) -> None:
    name = part["class_name"]
    if part["module"] == "keras.layers" and name in BUILT_IN:
        part.update(module="kerasrnn", registered_name=f"kerasrnn>{name}")


def keras_own(part: dict[str, Any]) -> None:
    registered, config = part.get("registered_name") or "", part["config"]
    owner, _, name = registered.rpartition(">")
    if owner != "kerasrnn":
        return
    if name in BUILT_IN:
        for key in ("jit_compile", "checkpoint_every", "truncate_every"):
            config.pop(key, None)
    elif name == "Bidirectional" and not config["residual"]:
        del config["residual"]
    else:
        cls = keras.saving.get_registered_object(registered)
        if isinstance(cls, type) and issubclass(cls, LAYERS):
            residual = " with residual=True" if config.get("residual") else ""
            raise ValueError(f"{config['name']}: Keras has no {name}{residual}.")
        return
    part.update(module="keras.layers", class_name=name, registered_name=None)
