"""The only door to what Keras does not export: private modules, names and attributes.

Each stands here with the reason it is needed. All were there in Keras 3.15.1 and in
3.16.0.dev2026102704, at the same place unless said. A test fails where another file imports from
`keras.src` or uses a private attribute of Keras.
"""

import importlib
import operator
from collections.abc import Callable
from typing import Any

import keras


def _first(*places: str) -> Any:
    """The object at the first of these places ("module:name") that this Keras has."""
    for place in places:
        module, name = place.split(":")
        try:
            return operator.attrgetter(name)(importlib.import_module(module))
        except (ImportError, AttributeError):
            continue
    raise ImportError(
        f"Keras {keras.__version__} has none of: {', '.join(places)}. Versions that kerasrnn was "
        "tested with are in its metadata: pip show kerasrnn."
    )


# The mask that Keras attached to a tensor. Keras passes it to `call` only where the sequences are
# the one tensor argument. In `keras.src.backend` until 3.15.
get_keras_mask = _first(
    "keras.src.backend.common.masking:get_keras_mask", "keras.src.backend:get_keras_mask"
)
set_keras_mask = _first(
    "keras.src.backend.common.masking:set_keras_mask", "keras.src.backend:set_keras_mask"
)

# Keras's own time loop, for cells that are not kerasrnn's: under a mask, `keras.layers.RNN` takes
# the first state for the previous output on JAX, and knows only states of two axes there. In a
# module of its own since 3.16.
rnn = _first("keras.src.backend:rnn.rnn", "keras.src.backend:rnn")

# Keras's RNN and StackedRNNCells draw a sequence's dropout masks, once, for subclasses of this
# class alone.
DropoutRNNCell = _first("keras.src.layers.rnn.dropout_rnn_cell:DropoutRNNCell")

# Keras's losses divide their sum by the number of replicas with it, inside a distribution strategy.
scale_loss_for_distribution = _first("keras.src.losses.loss:scale_loss_for_distribution")

# Whether XLA may compile a model, as `jit_compile="auto"` decides it.
model_supports_jit = _first("keras.src.trainers.trainer:model_supports_jit")

# Whether Keras is looking for shapes alone: on PyTorch the tensors have values then, of ones.
in_symbolic_scope = _first("keras.src.backend.common.symbolic_scope:in_symbolic_scope")

# Values that Keras keeps for the whole process, such as the generator of unseeded random numbers.
get_global_attribute = _first("keras.src.backend.common.global_state:get_global_attribute")


def patch_tf2onnx() -> None:
    """Let tf2onnx 1.17, which was written for NumPy 1, run with NumPy 2, as Keras's export does."""
    _first("keras.src.export.tf2onnx_lib:patch_tf2onnx")()


def flatten_layers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """A layer and all layers inside it, at any depth, each once.

    Public are only the layers of a model, not those inside a layer.
    """
    found = {id(each): each for each in layer._flatten_layers()}
    return list(found.values())


def operation_of(tensor: Any) -> Any:
    """The operation that a symbolic tensor is an output of."""
    return tensor._keras_history.operation


def made_by(tensor: Any) -> tuple[Any, Any]:
    """The operation that a symbolic tensor is an output of, and the arguments of that call."""
    operation, node, _ = tensor._keras_history
    arguments = operation._inbound_nodes[node].arguments
    return operation, (arguments.args, arguments.kwargs)


def run_through_graph(model: keras.Model, inputs: Any, call: Callable[..., Any]) -> Any:
    """The outputs of a functional or Sequential model; `call(operation, *args, **kwargs)` runs each
    operation."""
    graph = model._functional if isinstance(model, keras.Sequential) else model
    return graph._run_through_graph(inputs, call_fn=call)


def nodes_of(operation: Any) -> list[Any]:
    """A node for each call of an operation on symbolic tensors: `input_tensors`, `outputs`, and
    `arguments`, with `args` and `kwargs`."""
    return operation._inbound_nodes


def graph_of(model: keras.Model) -> list[Any] | None:
    """The calls that a functional or built Sequential model consists of, in their order.

    A node has `operation`, `arguments` (`args`, `kwargs`), `input_tensors` and `outputs`. None for
    another model.
    """
    graph = model._functional if isinstance(model, keras.Sequential) else model
    by_depth = getattr(graph, "_nodes_by_depth", None)
    if by_depth is None:
        return None
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]


def attach(archive: keras.export.ExportArchive, name: str, function: Any) -> None:
    """Give a SavedModel a function without a signature."""
    setattr(archive._tf_trackable, name, function)


def takes_mask(layer: keras.layers.Layer) -> bool:
    """Whether `call` has an argument `mask`."""
    return layer._call_has_mask_arg


def takes_training(layer: keras.layers.Layer) -> bool:
    """Whether `call` has an argument `training`."""
    return layer._call_has_training_arg


def reset_dropout_masks(layer: keras.layers.RNN) -> None:
    """Let the cells of a recurrent layer draw new dropout masks in the next call."""
    layer._maybe_reset_dropout_masks(layer.cell)


def make_variables(model: keras.Model, batch: Any) -> None:
    """Make all variables of a compiled model, those of its optimizer and metrics too.

    Args:
        model: a compiled model.
        batch: what one batch of its data consists of: `tf.data.Dataset.element_spec`.
    """
    model._symbolic_build(data_batch=batch)


def preprocessed(vectorizer: Any, texts: Any) -> Any:
    """The symbols that a `keras.layers.TextVectorization` looks up: a ragged tensor of strings.

    Keras has no public way from a text to them, but for the vocabulary that `adapt` counts.
    """
    return vectorizer._preprocess(texts)
