"""Conversion of models between Keras's own recurrent layers and kerasrnn's."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras

from kerasrnn import catalogue, validation
from kerasrnn.cells.arguments import OPTIONS
from kerasrnn.cells.cell import Cell
from kerasrnn.cells.rnn import RNN
from kerasrnn.export import matrices, parity, tracing
from kerasrnn.layers.bidirectional import Bidirectional
from kerasrnn.layers.stacked import StackedRNN
from kerasrnn.validation import NonNegativeNumber

IMAGES = tuple(
    layer for entry in catalogue.CONVOLUTIONAL if entry.in_keras for layer in entry.layers
)
"""Names of layers of images that exist in both Keras and kerasrnn."""

BUILT_IN = (
    *("SimpleRNN", "LSTM", "GRU", "SimpleRNNCell", "LSTMCell", "GRUCell", "RNN"),
    *IMAGES,
)
"""Class names that exist in both Keras and kerasrnn."""

LAYERS = (RNN, Cell, Bidirectional, StackedRNN)
"""Classes that can be converted only if Keras has a counterpart."""

RECURRENT = tuple(
    getattr(keras.layers, name) for name in ("SimpleRNN", "LSTM", "GRU", "RNN", *IMAGES)
)
"""Keras's own layers with these names."""


@validation.checked
def from_keras(
    source: keras.layers.Layer, tolerance: NonNegativeNumber = matrices.TOLERANCE
) -> Any:
    """Copy a model or a layer, replacing Keras's recurrent layers by kerasrnn's.

    Layers inside others are replaced too: in `Bidirectional`, `TimeDistributed`, `StackedRNNCells`
    and nested models. Names, weights and configurations are preserved; a model must be compiled
    again.

    Args:
        source: a built functional or Sequential model, or a built layer.
        tolerance: the largest absolute difference accepted: in half precision the loops round
            differently.

    Raises:
        ParityError: the two compute different results. From Keras 3.16 on, two stacked recurrent
            layers with padding do: Keras's lose the mask, kerasrnn's pass it on.
        ValueError: `source` is not built; a layer belongs to several nested models.

    Example:

        >>> import keras, kerasrnn
        >>> model = keras.Sequential([keras.Input((None, 3)), keras.layers.GRU(4)])
        >>> isinstance(kerasrnn.export.from_keras(model).layers[0], kerasrnn.GRU)
        True
    """
    return _checked(source, rewritten(source, ours), tolerance)


@validation.checked
def to_keras(source: keras.layers.Layer, tolerance: NonNegativeNumber = matrices.TOLERANCE) -> Any:
    """Copy a model or a layer with Keras's own recurrent layers: the copy does not need kerasrnn.

    `Bidirectional` becomes `keras.layers.Bidirectional`. Options of the time loop
    (`jit_compile`, `checkpoint_every`, `truncate_every`) are dropped.

    Args:
        source: a built functional or Sequential model, or a built layer.
        tolerance: the largest absolute difference accepted: in half precision the loops round
            differently.

    Raises:
        ParityError: the two compute different results. From Keras 3.16 on, two stacked recurrent
            layers with padding do: Keras's lose the mask, kerasrnn's pass it on.
        ValueError: Keras has no such layer: a cell or an option that it lacks, `StackedRNN`, a
            residual connection, a subclass of a kerasrnn class; the source is not built.

    Example:

        >>> import numpy as np, kerasrnn
        >>> layer = kerasrnn.LSTM(4)
        >>> y = layer(np.ones((2, 5, 3), "float32"))
        >>> type(kerasrnn.export.to_keras(layer)).__module__.startswith("keras.")
        True
    """
    for layer in tracing.layers_of(source):
        cls = type(layer)
        ours = cls.__module__.split(".")[0] in ("keras", "kerasrnn")
        if isinstance(layer, LAYERS) and not ours:
            raise ValueError(
                f"{layer.name}: Keras has no {cls.__name__}, a subclass of a kerasrnn layer."
            )
    return _checked(source, rewritten(source, keras_own), tolerance)


def rewritten(
    source: Any,
    rewrite: Callable[[dict[str, Any]], None],
    changes: Mapping[str, Any] | None = None,
    objects: Mapping[str, Any] | None = None,
) -> Any:
    """Copy a layer or model with the same weights, applying `rewrite` to each serialized part.

    Args:
        source: a built layer or model.
        rewrite: changes a part of the configuration in place.
        changes: changes to the source's own configuration, applied afterwards.
        objects: unregistered objects that a configuration may name. Default: the classes and
            functions in the source.
    """
    if not source.built:
        raise ValueError(f"{source.name}: not built; expected a layer or a model with weights.")
    objects = own_objects(source) if objects is None else objects
    with _named(objects):
        config = keras.saving.serialize_keras_object(source)
    config.pop("compile_config", None)
    for part in matrices.parts(config):
        rewrite(part)
    config["config"].update(changes or {})
    result = keras.saving.deserialize_keras_object(config, custom_objects=dict(objects))
    if len(result.weights) != len(source.weights):
        raise ValueError(
            f"{source.name}: a layer belongs to several of the nested models, but a copy would "
            "have separate ones; expected each layer in only one of them."
        )
    result.set_weights(source.get_weights())
    return result


def own_objects(source: Any) -> dict[str, Any]:
    """Unregistered user classes and functions in a model, by name.

    Functions get new names here: there may be several lambdas, or two functions of one name.
    """
    layers = [source, *tracing.layers_of(source)]
    functions = {v: None for layer in layers for v in vars(layer).values() if inspect.isfunction(v)}
    objects: dict[str, Any] = {}
    for each in (*map(type, layers), *functions):
        registered = keras.saving.get_registered_name(each)
        if registered != each.__name__ or each.__module__.split(".")[0] in ("keras", "kerasrnn"):
            continue
        objects[each.__name__ if isinstance(each, type) else f"function_{len(objects)}"] = each
    return objects


@contextmanager
def _named(objects: Mapping[str, Any]) -> Iterator[None]:
    """Within this context, functions have the names under which they will be looked up."""
    functions = {name: each for name, each in objects.items() if inspect.isfunction(each)}
    before = {name: each.__name__ for name, each in functions.items()}
    try:
        for name, each in functions.items():
            each.__name__ = name
        yield
    finally:
        for name, each in functions.items():
            each.__name__ = before[name]


def _checked(source: Any, result: Any, tolerance: float) -> Any:
    what = f"the copy of {source.name}"
    if not getattr(source, "inputs", None):
        matrices.compare(source, result, what, tolerance)
        return result
    cases = parity.random_cases(source)
    difference = parity.largest_difference(parity.reference(result), cases)
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
        for key in (*OPTIONS, "learn_initial_state", "return_all_states"):
            if key in config:
                raise ValueError(
                    f"{config['name']}: Keras has no {name} with {key}={config[key]!r}."
                )
    elif name == "Bidirectional" and not config["residual"]:
        del config["residual"]
    else:
        cls = keras.saving.get_registered_object(registered)
        if isinstance(cls, type) and issubclass(cls, LAYERS):
            residual = f" with residual={config['residual']!r}" if config.get("residual") else ""
            raise ValueError(f"{config['name']}: Keras has no {name}{residual}.")
        return
    part.update(module="keras.layers", class_name=name, registered_name=None)
