"""The joiner of a transducer: the moves at each node of the lattice of frames and labels.

    z_tu = tanh(f_t + g_u),    a_tu = z_tu V + c,    log p_tu = a_tu - log sum_k exp a_tuk

Only log p of the blank and of the next label, y_{u+1}, are returned. The scores of all classes
exist for one frame at a time: a scan over the frames computes them, and its gradient computes them
again. For the gradients b_tu and d_tu of the two numbers,

    da_tuk = b_tu (1[k = 0] - p_tuk) + d_tu (1[k = y_{u+1}] - p_tuk)
    dV = sum_tu z_tu^T da_tu,    dc = sum_tu da_tu
    ds_tu = (da_tu V^T) (1 - z_tu^2),    df_t = sum_u ds_tu,    dg_u = sum_t ds_tu
"""

from typing import Any

import keras
from keras import ops

from kerasrnn.recurrence import dynamic

Tensor = Any


def moves(frames: Tensor, outputs: Tensor, kernel: Tensor, bias: Tensor, ids: Tensor) -> Tensor:
    """The log-probabilities of the blank and of the next label, float32 `(batch, time, n, 2)`.

    Args:
        frames: f, `(batch, time, units)`.
        outputs: g, `(batch, n, units)`.
        kernel: V, `(units, classes)`, in the same dtype.
        bias: c, `(classes,)`.
        ids: the next label of each output, int32 `(batch, n)`.
    """
    return dynamic.traced(_moves, frames, outputs, kernel, bias, ids, key=tuple(kernel.shape))


def _moves(frames: Tensor, outputs: Tensor, kernel: Tensor, bias: Tensor, ids: Tensor) -> Tensor:
    frames = ops.transpose(frames, (1, 0, 2))
    of_frames = dynamic.with_gradient(_forward, _backward, frames, outputs, kernel, bias, ids)
    return ops.transpose(of_frames, (1, 0, 2, 3))


def _scores(frame: Tensor, outputs: Tensor, kernel: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """z and log p of a frame, `(batch, n, units)` and float32 `(batch, n, classes)`."""
    z = ops.tanh(ops.expand_dims(frame, 1) + outputs)
    logits = ops.cast(ops.matmul(z, kernel) + bias, _precise(frame))
    return z, ops.log_softmax(logits, axis=-1)


def _precise(x: Tensor) -> str:
    return "float64" if keras.backend.standardize_dtype(x.dtype) == "float64" else "float32"


def _is_next(ids: Tensor, kernel: Tensor) -> Tensor:
    return ops.expand_dims(ids, -1) == ops.arange(kernel.shape[1], dtype="int32")


def _forward(
    frames: Tensor, outputs: Tensor, kernel: Tensor, bias: Tensor, ids: Tensor
) -> tuple[Tensor, Any]:
    """See `moves`, with the time first."""
    is_next = _is_next(ids, kernel)

    def step(carry: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
        _, log_p = _scores(frame, outputs, kernel, bias)
        # A comparison rather than a lookup, as in the cross-entropy.
        of_label = ops.sum(ops.where(is_next, log_p, 0), axis=-1)
        return carry, ops.stack([log_p[..., 0], of_label], axis=-1)

    _, y = dynamic.scan(step, ops.zeros((), dtype="int32"), frames)
    return y, (frames, outputs, kernel, bias, ids)


def _backward(residuals: Any, d_moves: Tensor) -> tuple[Any, ...]:
    frames, outputs, kernel, bias, ids = residuals
    dtype = keras.backend.standardize_dtype(frames.dtype)
    units, classes = kernel.shape
    is_next = ops.cast(_is_next(ids, kernel), _precise(frames))
    is_blank = ops.cast(ops.arange(classes) == 0, _precise(frames))

    def step(carry: tuple[Tensor, ...], x: tuple[Tensor, Tensor]) -> Any:
        (d_outputs, d_kernel, d_bias), (frame, d) = carry, x
        z, log_p = _scores(frame, outputs, kernel, bias)
        d_blank, d_label = d[..., :1], d[..., 1:]
        d_logits = d_blank * is_blank + d_label * is_next - (d_blank + d_label) * ops.exp(log_p)
        d_logits = ops.cast(d_logits, dtype)
        d_sums = ops.matmul(d_logits, ops.transpose(kernel)) * (1 - z * z)
        flat_z, flat_d = ops.reshape(z, (-1, units)), ops.reshape(d_logits, (-1, classes))
        carry = (
            d_outputs + ops.cast(d_sums, d_outputs.dtype),
            d_kernel + ops.cast(ops.matmul(ops.transpose(flat_z), flat_d), d_kernel.dtype),
            d_bias + ops.cast(ops.sum(flat_d, axis=0), d_bias.dtype),
        )
        return carry, ops.sum(d_sums, axis=1)

    # What is summed over the frames is summed in float32.
    start = tuple(ops.zeros_like(x, dtype=_precise(x)) for x in (outputs, kernel, bias))
    totals, d_frames = dynamic.scan(step, start, (frames, d_moves), reverse=True)
    return d_frames, *(ops.cast(x, dtype) for x in totals), None
