"""Decides which operations act on each step of a sequence independently."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from kerasrnn.layers.batched_time_distributed import BatchedTimeDistributed
from kerasrnn.layers.missing_indicator import MissingIndicator

# Layers that act on each step of (batch, time, ...) independently, for any arguments;
# `acts_per_step` handles those that depend on their arguments. Unknown layers are rejected.
PER_STEP = (
    keras.layers.ActivityRegularization,
    keras.layers.Add,
    keras.layers.AlphaDropout,
    keras.layers.Average,
    keras.layers.Dropout,
    keras.layers.ELU,
    keras.layers.Embedding,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.Identity,
    keras.layers.LeakyReLU,
    keras.layers.Masking,
    keras.layers.Maximum,
    keras.layers.Minimum,
    keras.layers.Multiply,
    keras.layers.ReLU,
    keras.layers.SpatialDropout1D,
    keras.layers.Subtract,
    keras.layers.TimeDistributed,
    BatchedTimeDistributed,
    MissingIndicator,
)

# Layers that do so unless one of their axes is the time axis.
PER_STEP_BUT_AXES = {
    keras.layers.BatchNormalization: "axis",
    keras.layers.Concatenate: "axis",
    keras.layers.LayerNormalization: "axis",
    keras.layers.Normalization: "axis",
    keras.layers.RMSNormalization: "axis",
    keras.layers.Softmax: "axis",
    keras.layers.UnitNormalization: "axis",
}

# keras.ops in a functional model that act on single elements.
ELEMENTWISE = (
    *("Absolute", "Add", "Cast", "Clip", "Cos", "Divide", "Elu", "Equal", "Exp", "Expm1", "Floor"),
    *("Gelu", "Greater", "GreaterEqual", "LeakyRelu", "Less", "LessEqual", "Log", "Log10", "Log1p"),
    *("LogicalAnd", "LogicalNot", "LogicalOr", "Maximum", "Minimum", "Mod", "Multiply", "Negative"),
    *("NotEqual", "Power", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign", "Silu", "Sin", "Sqrt"),
    *("Softplus", "Softsign", "Square", "Subtract", "Tanh", "TrueDivide", "Where"),
)


def acts_per_step(operation: Any, rank: int, constants: Sequence[Any]) -> bool:
    """Whether an operation acts on each step of `(batch, time, ...)` independently.

    Args:
        operation: a layer, or an operation of `keras.ops`.
        rank: the number of axes of its first sequence.
        constants: its other arguments, which are the same at all steps.
    """
    kind = type(operation)
    if kind in (keras.layers.Activation, keras.layers.Dense):
        # In (batch, time), the last axis is the time axis.
        return rank > 2 and is_keras_activation(operation.activation)
    if kind is keras.layers.Rescaling:
        return max(np.ndim(operation.scale), np.ndim(operation.offset)) <= (rank > 2)
    if kind is keras.layers.PReLU:
        return 1 in (operation.shared_axes or ())
    if kind in PER_STEP_BUT_AXES:
        return _excludes_time_axis(getattr(operation, PER_STEP_BUT_AXES[kind]), rank)
    if isinstance(operation, keras.layers.Layer):
        return kind in PER_STEP
    if kind.__name__ in ("Concatenate", "Softmax", "LogSoftmax"):
        return _excludes_time_axis(operation.axis, rank)
    shapes = [tuple(x.shape) for x in constants if hasattr(x, "shape")]
    same_at_all_steps = all(len(s) < rank - 1 or s[1 - rank] == 1 for s in shapes)
    return kind.__name__ in ELEMENTWISE and same_at_all_steps


def is_user_defined(layer: keras.layers.Layer) -> bool:
    """Whether its class or its function is defined by a user."""
    function = getattr(layer, "activation", getattr(layer, "function", None))
    package = type(layer).__module__.split(".")[0]
    return package not in ("keras", "kerasrnn") or not (
        function is None or is_keras_activation(function)
    )


def is_keras_activation(activation: Any) -> bool:
    """Whether a function is one of Keras's activations, which do not mix steps."""
    return any(activation is known for known in vars(keras.activations).values())


def _excludes_time_axis(axes: Any, rank: int) -> bool:
    """Whether none of the axes is the time axis."""
    if axes is None:
        return True
    axes = axes if isinstance(axes, (list, tuple)) else [axes]
    return all(axis % rank not in (0, 1) for axis in axes)
