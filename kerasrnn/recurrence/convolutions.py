"""The products of convolutional recurrent cells.

A convolution is linear in what it is applied to, so it is a `Product`. Its adjoint is the
convolution with the kernel reversed along the spatial axes and transposed in the channels. All
tensors here have the channels last.
"""

from collections.abc import Sequence
from typing import Any

from keras import ops

from kerasrnn.recurrence.loop import primitives

Tensor = Any


def convolved_input_part(
    x: Tensor,
    kernel: Tensor,
    bias: Tensor | None,
    masks: Sequence[Tensor] | None = None,
    **window: Any,
) -> Tensor:
    """Compute the input part `a = W * x + b` of one step or of all steps at once.

    Time is part of the batch of a single convolution.

    Args:
        x: `(batch, *sizes, channels)` for one step, `(time, batch, *sizes, channels)` for all.
        kernel: W, `(*kernel_size, channels, gates * filters)`.
        bias: b, `(gates * filters,)`, or None.
        masks: dropout masks of the inputs, each `(batch, *sizes, channels)`: one for all gates or
            one per gate.
        **window: `strides`, `padding` and `dilation_rate` of `keras.ops.conv`.

    Returns:
        a, `(..., batch, *new_sizes, gates * filters)`.
    """
    axes = len(kernel.shape) - 1  # of an image, with its channels
    blocks = [kernel] if masks is None else ops.split(kernel, len(masks), axis=-1)
    parts = []
    for n, block in enumerate(blocks):
        dropped = x if masks is None else x * masks[n]
        images = ops.reshape(dropped, (-1, *x.shape[-axes:]))
        parts.append(ops.conv(images, block, data_format="channels_last", **window))
    a = _joined(parts)
    a = a if bias is None else a + bias
    return ops.reshape(a, (*ops.shape(x)[:-axes], *a.shape[1:]))


class ConvolutionProduct:
    """The recurrent part `r = U * v + b` of some of the gates, which a step applies to a state v.

    The convolution has strides of 1 and pads with zeros, so that r has the sizes of v.

    Args:
        kernel: U, `(*kernel_size, filters, gates * filters)`, the columns of these gates.
        bias: b, `(gates * filters,)`, or None.
        masks: dropout masks of the state, each `(batch, *sizes, filters)`: one for all gates or one
            per gate.
    """

    def __init__(
        self, kernel: Tensor, bias: Tensor | None, masks: Sequence[Tensor] | None = None
    ) -> None:
        self.kernel, self.bias = kernel, bias
        self.masks = None if masks is None else list(masks)
        self.gates = 1 if masks is None else len(masks)  # blocks of columns with separate masks
        self.blocks = [kernel] if self.gates == 1 else ops.split(kernel, self.gates, axis=-1)
        # Transposed once for `adjoint`; inside the loop it would be transposed at every step.
        self.transposed = [_transposed(block) for block in self.blocks]

    @property
    def rank(self) -> int:
        """The number of axes of v, the batch axis included."""
        return len(self.kernel.shape)

    @property
    def weights(self) -> tuple[Tensor, Tensor | None]:
        """`(kernel, bias)`."""
        return self.kernel, self.bias

    def __call__(self, v: Tensor) -> Tensor:
        """Compute r for one step's v, `(batch, *sizes, filters)`, in the dtype of v."""
        dtype, v = v.dtype, ops.cast(v, self.kernel.dtype)
        parts = [_same(self._dropped(v, n), block) for n, block in enumerate(self.blocks)]
        r = _joined(parts)
        return ops.cast(r if self.bias is None else r + self.bias, dtype)

    def adjoint(self, d_r: Tensor) -> Tensor:
        """Compute dL/dv of one step from its dL/dr, with the masks."""
        dtype, d_r = d_r.dtype, ops.cast(d_r, self.kernel.dtype)
        d_blocks = [d_r] if self.gates == 1 else ops.split(d_r, self.gates, axis=-1)
        parts = [
            self._dropped(_same(d_block, kernel), n)
            for n, (d_block, kernel) in enumerate(zip(d_blocks, self.transposed, strict=True))
        ]
        return ops.cast(sum(parts[1:], parts[0]), dtype)

    def weight_gradients(self, v: Tensor, d_r: Tensor) -> tuple[Tensor, Tensor | None]:
        """Compute dL/dU and dL/db from the v and dL/dr of all steps, `(time, batch, ...)`."""
        v, d_r = ops.cast(v, self.kernel.dtype), ops.cast(d_r, self.kernel.dtype)
        d_bias = None
        if self.bias is not None:
            d_bias = ops.sum(d_r, axis=tuple(range(len(d_r.shape) - 1)))
        d_blocks = [d_r] if self.gates == 1 else ops.split(d_r, self.gates, axis=-1)
        d_kernels = [
            _kernel_gradient(self._dropped(v, n), d_block, block)
            for n, (d_block, block) in enumerate(zip(d_blocks, self.blocks, strict=True))
        ]
        return _joined(d_kernels), d_bias

    def _dropped(self, v: Tensor, gate: int) -> Tensor:
        return v if self.masks is None else v * self.masks[gate]


def _joined(blocks: list[Tensor]) -> Tensor:
    return blocks[0] if len(blocks) == 1 else ops.concatenate(blocks, axis=-1)


def _same(v: Tensor, kernel: Tensor) -> Tensor:
    return ops.conv(v, kernel, padding="same", data_format="channels_last")


def _transposed(kernel: Tensor) -> Tensor:
    """The kernel of the adjoint: reversed along the spatial axes, its channels exchanged.

    Along an axis of even size, the padding is one longer at the end, and so the adjoint's is at the
    beginning. A zero at the end of the kernel, whose size is then odd, has this effect.
    """
    spatial = list(range(len(kernel.shape) - 2))
    kernel = ops.flip(kernel, spatial)
    widths = [(0, 1 - kernel.shape[axis] % 2) for axis in spatial]
    if any(after for _, after in widths):
        kernel = ops.pad(kernel, [*widths, (0, 0), (0, 0)])
    return ops.swapaxes(kernel, -1, -2)


def _kernel_gradient(v: Tensor, d_r: Tensor, kernel: Tensor) -> Tensor:
    """The gradient of a kernel, of all steps and rows in one convolution: the backend's own."""
    images = ops.reshape(v, (-1, *v.shape[2:]))
    _, vjp_fn = primitives().vjp(lambda kernel: _same(images, kernel), (kernel,))
    (d_kernel,) = vjp_fn(ops.reshape(d_r, (-1, *d_r.shape[2:])))
    return d_kernel
