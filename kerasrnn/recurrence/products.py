"""The products of a recurrent cell, with dropout.

A `Product` is linear in what it is applied to, so its adjoint needs neither its argument nor its
result, and the gradients of its weights are computed after the loop, for all steps at once.

Dropout follows Gal & Ghahramani (2016), "A theoretically grounded application of dropout in
recurrent neural networks": one mask per sequence, the same at every step. A mask list holds either
one mask, shared by all gates, or one mask per gate.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from keras import ops

Tensor = Any


def input_part(
    x: Tensor, kernel: Tensor, bias: Tensor | None, masks: Sequence[Tensor] | None = None
) -> Tensor:
    """Compute the input part `a = x W + b` of one step or of all steps at once.

    Args:
        x: `(batch, features)` for one step, `(time, batch, features)` for all.
        kernel: W, `(features, gates * units)`.
        bias: b, `(gates * units,)`, or None.
        masks: dropout masks of the inputs, each `(batch, features)`.

    Returns:
        a, `(..., batch, gates * units)`.
    """
    if masks is not None and len(masks) > 1:
        blocks = ops.split(kernel, len(masks), axis=-1)
        a = ops.concatenate(
            [ops.matmul(x * mask, block) for mask, block in zip(masks, blocks, strict=True)],
            axis=-1,
        )
        return a if bias is None else a + bias
    if masks is not None:
        x = x * masks[0]
    if bias is not None and (len(x.shape) == 2 or x.shape[-1] == 0):
        return ops.matmul(x, kernel) + bias  # one step: the kernel is the larger array
    if bias is not None:
        # The bias becomes one more row of the kernel. Added separately, it would cost one more pass
        # over all of a, the largest array, and its gradient another.
        x = ops.concatenate([x, ops.ones_like(x[..., :1])], axis=-1)
        kernel = ops.concatenate([kernel, ops.expand_dims(bias, 0)])
    return matmul(x, kernel)


def matmul(x: Tensor, kernel: Tensor) -> Tensor:
    """Multiply vectors, with any number of axes before the last, by a matrix."""
    if len(x.shape) == 2 or None in x.shape:
        return ops.matmul(x, kernel)
    # With rows as one axis: for the gradient of the kernel, XLA would otherwise transpose all of
    # the gradient of the result.
    rows = ops.reshape(x, (-1, x.shape[-1]))
    return ops.reshape(ops.matmul(rows, kernel), (*x.shape[:-1], kernel.shape[-1]))


class Product(Protocol):
    """An affine function `r = P v + b` that a step applies to a state, or to any other tensor.

    The time loop does not differentiate a product: it records the applications, applies `adjoint`
    in the backward pass, and calls `weight_gradients` once, after the loop. Everything that is
    constant over time is prepared in the constructor, outside the loop. A convolution, for example,
    is another class with these members.
    """

    rank: int
    """The number of axes of v, the batch axis included."""

    @property
    def weights(self) -> Any:
        """A structure of the tensors that r depends on besides v, such as P and b; None where one
        is missing."""

    def __call__(self, v: Tensor) -> Tensor:
        """Compute r for one step's v, in the dtype of v."""

    def adjoint(self, d_r: Tensor) -> Tensor:
        """Compute dL/dv of one step from its dL/dr: `P^T dL/dr`."""

    def weight_gradients(self, v: Tensor, d_r: Tensor) -> Any:
        """Compute the gradients of `weights`, in the same structure, from the v and dL/dr of all
        steps, `(time, batch, ...)`."""


class RecurrentProduct:
    """The recurrent part `r = v U + b` of some of the gates, which a step applies to a state v.

    Args:
        kernel: U, `(units, gates * units)`, the columns of these gates.
        bias: b, `(gates * units,)`, or None.
        masks: dropout masks of the state, each `(batch, units)`: one for all gates or one per gate.
    """

    rank: ClassVar[int] = 2

    def __init__(
        self, kernel: Tensor, bias: Tensor | None, masks: Sequence[Tensor] | None = None
    ) -> None:
        self.kernel, self.bias = kernel, bias
        self.gates = 1 if masks is None else len(masks)  # blocks of columns with separate masks
        self.masks = None if masks is None else ops.stack(list(masks))  # (gates, batch, units)
        # Transposed once for `adjoint`; inside the loop it would be transposed at every step.
        self.transposed = ops.transpose(kernel)
        if self.gates > 1:
            self.blocks = ops.stack(ops.split(kernel, self.gates, axis=-1))  # (gates, units, width)

    @property
    def weights(self) -> tuple[Tensor, Tensor | None]:
        """`(kernel, bias)`."""
        return self.kernel, self.bias

    def __call__(self, v: Tensor) -> Tensor:
        """Compute r for one step's v, `(batch, units)`, in the dtype of v."""
        dtype, v = v.dtype, ops.cast(v, self.kernel.dtype)
        if self.gates == 1:
            r = matmul(v if self.masks is None else v * self.masks[0], self.kernel)
        else:
            r = _join(ops.matmul(self.masks * v, self.blocks))
        return ops.cast(r if self.bias is None else r + self.bias, dtype)

    def adjoint(self, d_r: Tensor) -> Tensor:
        """Compute dL/dv of one step from its dL/dr: `dL/dr U^T`, with the masks."""
        dtype, d_r = d_r.dtype, ops.cast(d_r, self.kernel.dtype)
        if self.gates == 1:
            d_v = ops.matmul(d_r, self.transposed)
            return ops.cast(d_v if self.masks is None else d_v * self.masks[0], dtype)
        d_blocks = ops.stack(ops.split(d_r, self.gates, axis=-1))  # (gates, batch, width)
        d_v = ops.matmul(d_blocks, ops.transpose(self.blocks, (0, 2, 1)))
        return ops.cast(ops.sum(d_v * self.masks, axis=0), dtype)

    def weight_gradients(self, v: Tensor, d_r: Tensor) -> tuple[Tensor, Tensor | None]:
        """Compute dL/dU and dL/db from the v and dL/dr of all steps, `(time, batch, ...)`."""
        v, d_r = ops.cast(v, self.kernel.dtype), ops.cast(d_r, self.kernel.dtype)
        d_bias = None if self.bias is None else ops.sum(d_r, axis=(0, 1))
        if self.gates == 1:
            v = v if self.masks is None else v * self.masks[0]
            return _sum_of_products(v, d_r), d_bias
        d_blocks = [
            _sum_of_products(v * self.masks[gate], d_block)
            for gate, d_block in enumerate(ops.split(d_r, self.gates, axis=-1))
        ]
        return ops.concatenate(d_blocks, axis=-1), d_bias


class HeadsProduct:
    """The recurrent part `r = v U` of heads: units are connected only within the same head.

    Args:
        kernel: U, `(units / heads, gates * units)`: the columns of head k in each gate are applied
            to the units of head k.
        heads: the number of heads, each of which has consecutive units.
        gates: the number of gates.
        masks: dropout masks of the state, each `(batch, units)`: one for all gates or one per gate.
    """

    rank: ClassVar[int] = 2

    def __init__(
        self, kernel: Tensor, heads: int, gates: int, masks: Sequence[Tensor] | None = None
    ) -> None:
        self.kernel, self.heads, self.gates = kernel, heads, gates
        # (gates, batch, units), with an axis of 1 for a mask of all gates.
        self.masks = None if masks is None else ops.stack(list(masks))
        size = kernel.shape[0]
        blocks = ops.reshape(kernel, (size, gates, heads, size))
        self.blocks = ops.transpose(blocks, (1, 2, 0, 3))  # (gates, heads, size, size)
        self.transposed = ops.transpose(blocks, (1, 2, 3, 0))

    @property
    def weights(self) -> Tensor:
        """The kernel."""
        return self.kernel

    def __call__(self, v: Tensor) -> Tensor:
        """Compute r for one step's v, `(batch, units)`, in the dtype of v."""
        dtype, v = v.dtype, ops.cast(v, self.kernel.dtype)
        r = ops.matmul(self._by_head(self._masked(v)), self.blocks)  # (gates, heads, batch, size)
        r = ops.transpose(r, (2, 0, 1, 3))
        return ops.cast(ops.reshape(r, (-1, self.gates * v.shape[-1])), dtype)

    def adjoint(self, d_r: Tensor) -> Tensor:
        """Compute dL/dv of one step from its dL/dr."""
        dtype, d_r = d_r.dtype, ops.cast(d_r, self.kernel.dtype)
        d_v = ops.matmul(self._of_gates(d_r), self.transposed)
        d_v = ops.transpose(d_v, (0, 2, 1, 3))
        d_v = ops.reshape(d_v, (self.gates, -1, d_r.shape[-1] // self.gates))
        return ops.cast(ops.sum(d_v if self.masks is None else d_v * self.masks, axis=0), dtype)

    def weight_gradients(self, v: Tensor, d_r: Tensor) -> Tensor:
        """Compute dL/dU from the v and dL/dr of all steps, `(time, batch, ...)`."""
        v, d_r = ops.cast(v, self.kernel.dtype), ops.cast(d_r, self.kernel.dtype)
        v = ops.expand_dims(v, 0) if self.masks is None else v * ops.expand_dims(self.masks, 1)
        v = ops.reshape(v, (v.shape[0], -1, v.shape[-1]))
        d_r = self._of_gates(ops.reshape(d_r, (-1, d_r.shape[-1])))
        of_blocks = ops.matmul(ops.transpose(self._by_head(v), (0, 1, 3, 2)), d_r)
        return ops.reshape(ops.transpose(of_blocks, (2, 0, 1, 3)), self.kernel.shape)

    def _masked(self, v: Tensor) -> Tensor:
        """v for each gate, `(gates, batch, units)`, or for all of them, `(1, batch, units)`."""
        return ops.expand_dims(v, 0) if self.masks is None else v * self.masks

    def _by_head(self, v: Tensor) -> Tensor:
        """Reshape `(n, rows, units)` to `(n, heads, rows, size)`."""
        v = ops.reshape(v, (v.shape[0], -1, self.heads, self.kernel.shape[0]))
        return ops.transpose(v, (0, 2, 1, 3))

    def _of_gates(self, r: Tensor) -> Tensor:
        """Reshape `(rows, gates * units)` to `(gates, heads, rows, size)`."""
        r = ops.reshape(r, (-1, self.gates, self.heads, self.kernel.shape[0]))
        return ops.transpose(r, (1, 2, 0, 3))


class ElementwiseProduct:
    """The recurrent part `r = v * u + b` of units without connections between them.

    Args:
        kernel: u, `(units,)`.
        bias: b, `(units,)`, or None.
        masks: dropout masks of the state: a single one, `(batch, units)`.
    """

    rank: ClassVar[int] = 2

    def __init__(
        self, kernel: Tensor, bias: Tensor | None, masks: Sequence[Tensor] | None = None
    ) -> None:
        self.kernel, self.bias = kernel, bias
        self.factors = kernel if masks is None else kernel * masks[0]
        self.mask = None if masks is None else masks[0]

    @property
    def weights(self) -> tuple[Tensor, Tensor | None]:
        """`(kernel, bias)`."""
        return self.kernel, self.bias

    def __call__(self, v: Tensor) -> Tensor:
        """Compute r for one step's v, `(batch, units)`, in the dtype of v."""
        r = v * ops.cast(self.factors, v.dtype)
        return r if self.bias is None else r + ops.cast(self.bias, v.dtype)

    def adjoint(self, d_r: Tensor) -> Tensor:
        """Compute dL/dv of one step from its dL/dr."""
        return d_r * ops.cast(self.factors, d_r.dtype)

    def weight_gradients(self, v: Tensor, d_r: Tensor) -> tuple[Tensor, Tensor | None]:
        """Compute dL/du and dL/db from the v and dL/dr of all steps, `(time, batch, units)`."""
        v, d_r = ops.cast(v, self.kernel.dtype), ops.cast(d_r, self.kernel.dtype)
        d_bias = None if self.bias is None else ops.sum(d_r, axis=(0, 1))
        v = v if self.mask is None else v * self.mask
        return ops.sum(v * d_r, axis=(0, 1)), d_bias


def _join(blocks: Tensor) -> Tensor:
    """Reshape `(gates, batch, width)` to `(batch, gates * width)`."""
    gates, _, width = blocks.shape
    return ops.reshape(ops.transpose(blocks, (1, 0, 2)), (-1, gates * width))


def _sum_of_products(v: Tensor, d_r: Tensor) -> Tensor:
    """Compute the sum over time of `v_t^T d_r_t` as one product."""
    rows = [ops.reshape(x, (-1, x.shape[-1])) for x in (v, d_r)]
    return ops.matmul(ops.transpose(rows[0]), rows[1])
