"""What surrounds a call of the loop: XLA, tapes, forward accumulators, and the device."""

from typing import Any

import tensorflow as tf
from tensorflow.python.eager import context, forwardprop_util  # not exported
from tensorflow.python.ops import control_flow_util, gradients_util  # not exported

from kerasrnn.recurrence.loop import Call
from kerasrnn.recurrence.tensorflow.structures import differentiated, leaves

Tensor = Any


def under_xla() -> bool:
    """Whether XLA compiles the entire surrounding function."""
    if tf.executing_eagerly():
        return False
    return control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


def in_forward_mode(call: Call) -> bool:
    """Whether a `tf.autodiff.ForwardAccumulator` watches an input of this call."""
    return bool(forwardprop_util.pack_tangents(leaves(differentiated(call))).tangents)


def in_nested_tapes(call: Call) -> bool:
    """Whether a gradient of this call may be differentiated again."""
    return _recorded(call) == gradients_util.POSSIBLE_GRADIENT_TYPES_HIGHER_ORDER


def in_any_tape(call: Call) -> bool:
    """Whether a tape records this call."""
    return _recorded(call) != gradients_util.POSSIBLE_GRADIENT_TYPES_NONE


def _recorded(call: Call) -> int:
    """Whether a tape records this call, or several do."""
    return gradients_util.PossibleTapeGradientTypes(leaves(differentiated(call)))


def vectorizing() -> bool:
    """Whether this is traced for vectorization, detected by the names that `tf.vectorized_map` and
    tapes give the function."""
    return any(part.startswith("loop_body") for part in tf.get_current_name_scope().split("/"))


def requested_device() -> str | None:
    """The kind of device of the surrounding `tf.device`; None without one."""
    if tf.executing_eagerly():
        device = context.context().device_name or ""
    else:
        device = tf.constant(0).device
    return tf.DeviceSpec.from_string(device).device_type
