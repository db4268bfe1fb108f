"""All access to what Keras does not export: private modules, names and attributes.

Each is listed with the reason why it is needed. All exist in Keras 3.15.1 and in
3.16.0.dev2026102704, in the same place unless noted. A test fails if another file imports from
`keras.src` or uses a private attribute of Keras.
"""

import importlib
import operator
from collections.abc import Callable
from typing import Any

import keras


def _first(*places: str) -> Any:
    """The object at the first of these places ("module:name") that exists in this Keras."""
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


# The mask that Keras attached to a tensor. Keras passes it to `call` only if the sequences are the
# only tensor argument. In `keras.src.backend` until 3.15.
get_keras_mask = _first(
    "keras.src.backend.common.masking:get_keras_mask", "keras.src.backend:get_keras_mask"
)
set_keras_mask = _first(
    "keras.src.backend.common.masking:set_keras_mask", "keras.src.backend:set_keras_mask"
)

# Keras's own time loop, for cells that are not kerasrnn's: with a mask, `keras.layers.RNN` uses the
# first state as the previous output on JAX, and supports only two-dimensional states there. In a
# separate module since 3.16.
rnn = _first("keras.src.backend:rnn.rnn", "keras.src.backend:rnn")

# Keras's RNN and StackedRNNCells draw a sequence's dropout masks once, only for subclasses of this
# class.
DropoutRNNCell = _first("keras.src.layers.rnn.dropout_rnn_cell:DropoutRNNCell")

# Used by Keras's losses to divide by the number of replicas inside a distribution strategy.
scale_loss_for_distribution = _first("keras.src.losses.loss:scale_loss_for_distribution")

# Whether XLA may compile a model, as decided by `jit_compile="auto"`.
model_supports_jit = _first("keras.src.trainers.trainer:model_supports_jit")

# Whether Keras only infers shapes: on PyTorch the tensors then have values, all ones.
in_symbolic_scope = _first("keras.src.backend.common.symbolic_scope:in_symbolic_scope")

# Values that Keras stores per process, such as the generator of unseeded random numbers.
get_global_attribute = _first("keras.src.backend.common.global_state:get_global_attribute")


def patch_tf2onnx() -> None:
    """Make tf2onnx 1.17, written for NumPy 1, run with NumPy 2, as Keras's export does."""
    _first("keras.src.export.tf2onnx_lib:patch_tf2onnx")()


def flatten_layers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """A layer and all layers inside it, at any depth, each once.

    Public API covers only the layers of a model, not those inside a layer.
    """
    layers = {id(each): each for each in layer._flatten_layers()}
    return list(layers.values())


def operation_of(tensor: Any) -> Any:
    """The operation that computes a symbolic tensor."""
    return tensor._keras_history.operation


def producer_of(tensor: Any) -> tuple[Any, Any]:
    """The operation that computes a symbolic tensor, and the arguments of that call."""
    operation, node, _ = tensor._keras_history
    arguments = operation._inbound_nodes[node].arguments
    return operation, (arguments.args, arguments.kwargs)


def run_through_graph(model: keras.Model, inputs: Any, call: Callable[..., Any]) -> Any:
    """The outputs of a functional or Sequential model; `call(operation, *args, **kwargs)` runs each
    operation."""
    graph = model._functional if isinstance(model, keras.Sequential) else model
    return graph._run_through_graph(inputs, call_fn=call)


def nodes_of(operation: Any) -> list[Any]:
    """One node for each call of an operation on symbolic tensors, with `input_tensors`, `outputs`
    and `arguments`, which has `args` and `kwargs`."""
    return operation._inbound_nodes


def graph_of(model: keras.Model) -> list[Any] | None:
    """The calls in a functional or built Sequential model, in order.

    A node has `operation`, `arguments` (`args`, `kwargs`), `input_tensors` and `outputs`. Returns
    None for other models.
    """
    graph = model._functional if isinstance(model, keras.Sequential) else model
    by_depth = getattr(graph, "_nodes_by_depth", None)
    if by_depth is None:
        return None
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]


def attach(archive: keras.export.ExportArchive, name: str, function: Any) -> None:
    """Add a function without a signature to a SavedModel."""
    setattr(archive._tf_trackable, name, function)


def takes_mask(layer: keras.layers.Layer) -> bool:
    """Whether `call` has an argument `mask`."""
    return layer._call_has_mask_arg


def takes_training(layer: keras.layers.Layer) -> bool:
    """Whether `call` has an argument `training`."""
    return layer._call_has_training_arg


def reset_dropout_masks(layer: keras.layers.RNN) -> None:
    """Make the cells of a recurrent layer draw new dropout masks in the next call."""
    layer._maybe_reset_dropout_masks(layer.cell)


def make_variables(model: keras.Model, batch: Any) -> None:
    """Create all variables of a compiled model, including those of its optimizer and metrics.

    Args:
        model: a compiled model.
        batch: the structure of one batch of its data: `tf.data.Dataset.element_spec`.
    """
    model._symbolic_build(data_batch=batch)


def preprocessed(vectorizer: Any, texts: Any) -> Any:
    """The tokens that a `keras.layers.TextVectorization` looks up: a ragged tensor of strings.

    Keras has no public way to compute them from a text, only the vocabulary counted by `adapt`.
    """
    return vectorizer._preprocess(texts)


def in_trainer(graph: Any) -> bool:
    """Whether only `fit`, `evaluate`, `predict` and their like call a TensorFlow graph.

    No such graph is exported: Keras sets the functions of its trainer aside when a model is saved.
    """
    while graph is not None:
        if getattr(graph, "name", "").startswith(("one_step_on_", "multi_step_on_")):
            return True
        graph = getattr(graph, "outer_graph", None)
    return False


def is_concrete(tensor: Any) -> bool:
    """Whether a tensor has values, unlike in a graph or under `jit`."""
    if isinstance(tensor, keras.KerasTensor) or in_symbolic_scope():
        return False
    match keras.config.backend():
        case "tensorflow":
            import tensorflow as tf

            return not tf.is_symbolic_tensor(tensor)
        case "jax":
            import jax

            return not isinstance(tensor, jax.core.Tracer)
        case _:
            import torch

            return not torch.compiler.is_compiling()
