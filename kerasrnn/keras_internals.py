"""The only door to names that Keras does not export, each with the reason it is needed.

A test fails where another file imports from `keras.src`.
"""

import importlib
from typing import Any


def _first(*places: str) -> Any:
    """The object at the first of these places ("module:name") that this Keras has."""
    for place in places:
        module, name = place.split(":")
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            continue
    raise ImportError(f"this version of Keras has none of: {', '.join(places)}.")


# The mask that Keras attached to a tensor: it looks for it only where the sequences are the one
# tensor argument. In Keras 3.16 it moved.
get_keras_mask = _first(
    "keras.src.backend.common.masking:get_keras_mask", "keras.src.backend:get_keras_mask"
)
set_keras_mask = _first(
    "keras.src.backend.common.masking:set_keras_mask", "keras.src.backend:set_keras_mask"
)

# Keras's RNN and StackedRNNCells draw a sequence's dropout masks, once, for subclasses of this
# class alone.
DropoutRNNCell = _first("keras.src.layers.rnn.dropout_rnn_cell:DropoutRNNCell")

# Keras's losses divide their sum by the number of replicas with it, inside a distribution strategy.
scale_loss_for_distribution = _first("keras.src.losses.loss:scale_loss_for_distribution")

# Whether XLA may compile a model, as `jit_compile="auto"` decides it.
model_supports_jit = _first("keras.src.trainers.trainer:model_supports_jit")


def patch_tf2onnx() -> None:
    """Let tf2onnx 1.17, which was written for NumPy 1, run with NumPy 2, as Keras's export does."""
    _first("keras.src.export.tf2onnx_lib:patch_tf2onnx")()
