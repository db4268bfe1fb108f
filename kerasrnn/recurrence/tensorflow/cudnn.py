"""cuDNN on TensorFlow: see `backend.CudnnBackend`."""

import sys

import tensorflow as tf

from kerasrnn.recurrence import cudnn
from kerasrnn.recurrence.loop import Call, JitCompile, Options, Results, Steppable
from kerasrnn.recurrence.tensorflow.surroundings import (
    in_forward_mode,
    in_nested_tapes,
    requested_device,
    under_xla,
)


def cudnn_loop(cell: Steppable, options: Options, call: Call) -> Results:
    """Run the loop in cuDNN, differentiated by TensorFlow."""
    return cudnn.loop(sys.modules[__name__], cell, options, call)


def excludes_xla(cell: Steppable, options: Options, jit_compile: JitCompile) -> bool:
    """See `loop.excludes_xla`. In a function that XLA compiles there is no cuDNN."""
    if options.use_cudnn is False or cudnn.refusal(cell, options, jit_compile):
        return False
    return _refusal_of_machine() is None


def cudnn_refusal(mode: str, call: Call) -> str | None:
    """See `backend.CudnnBackend`."""
    reason = _refusal_of_machine()
    if reason:
        return reason
    device, dtype = requested_device(), call.sequences.dtype
    if device not in (None, "GPU"):
        return f"the layer is placed on a {device}"
    if dtype not in (tf.float16, tf.float32, tf.float64):
        return (
            f"cuDNN computes in float16, float32 and float64, and the compute dtype is {dtype.name}"
        )
    if under_xla():
        return "XLA compiles the surrounding function"
    if in_forward_mode(call):
        return "a ForwardAccumulator watches its inputs, and cuDNN has no forward mode"
    if in_nested_tapes(call):
        return "its gradient is differentiated again, by a nested or a persistent tape"
    return None


def _refusal_of_machine() -> str | None:
    if not tf.config.list_logical_devices("GPU"):
        return "TensorFlow has no GPU"
    if not tf.sysconfig.get_build_info()["is_cuda_build"]:
        return "this TensorFlow is built without CUDA"
    return None


def cudnn_kernel(
    mode: str,
    x: tf.Tensor,
    states: list[tf.Tensor],
    weights: tf.Tensor,
    lengths: tf.Tensor | None,
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """See `backend.CudnnBackend`."""
    rows, units = x.shape[0], states[0].shape[-1]
    if lengths is None:
        lengths = tf.fill(tf.shape(x)[:1], tf.shape(x)[1])
    empty = 0
    if rows is None:  # possibly none, which cuDNN rejects: it then runs on a row of zeros
        empty = tf.cast(tf.equal(tf.shape(x)[0], 0), tf.int32)

    # Padding copies nothing if there is nothing to pad, nor does a slice that is the entire tensor.
    def with_row(x: tf.Tensor, value: int = 0) -> tf.Tensor:
        return tf.pad(x, [[0, empty], *([0, 0] for _ in x.shape[1:])], constant_values=value)

    def without_row(y: tf.Tensor, *shape: int | None) -> tf.Tensor:
        size = tf.concat([tf.shape(x)[:1], tf.shape(y)[1:]], 0)
        y = tf.slice(y, tf.zeros_like(size), size)
        y.set_shape((rows, *shape))
        return y

    h, *c = (tf.expand_dims(with_row(state), 1) for state in states)  # (batch, layers, units)
    outputs, *finals, _, _ = tf.raw_ops.CudnnRNNV3(
        input=with_row(x),
        input_h=h,
        input_c=c[0] if c else tf.zeros((), x.dtype),
        params=weights,
        sequence_lengths=with_row(lengths, 1),
        rnn_mode=mode,
        is_training=True,  # in inference, too: a gradient may be requested
        time_major=False,
    )
    finals = [without_row(tf.squeeze(final, 1), units) for final in finals[: len(states)]]
    return without_row(outputs, x.shape[1], units), finals


def take_steps(x: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
    """See `backend.CudnnBackend`."""
    return tf.gather(x, steps, axis=1, batch_dims=1)
