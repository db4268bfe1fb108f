"""Products with a prepared source: linear, with adjoints, like the products of a cell.

The time loop excludes them from the step that it differentiates, and computes the gradient with
respect to the source in one batched product for all steps; automatic differentiation would add up
an array as large as the source at every step.
"""

from typing import Any, ClassVar

from keras import ops

Tensor = Any


class SourceProduct:
    """Weights times the rows of a source, `c = w V`; or, transposed, scores `e = q K^T`.

    Args:
        kernel: V or K, `(batch, positions, width)`.
        transposed: whether to multiply by K^T.
    """

    rank: ClassVar[int] = 2

    def __init__(self, kernel: Tensor, transposed: bool = False) -> None:
        self.kernel, self.transposed = kernel, transposed

    @property
    def weights(self) -> Tensor:
        """The source."""
        return self.kernel

    def __call__(self, v: Tensor) -> Tensor:
        """Compute the product for one vector per row, `(batch, ...)`, or for several, `(batch,
        time, ...)`."""
        return self._product(v, self.transposed)

    def adjoint(self, d_r: Tensor) -> Tensor:
        """Compute dL/dv of one step from its dL/dr."""
        return self._product(d_r, not self.transposed)

    def weight_gradients(self, v: Tensor, d_r: Tensor) -> Tensor:
        """Compute dL/dV or dL/dK from the v and dL/dr of all steps, `(time, batch, ...)`."""
        of_positions, of_width = (d_r, v) if self.transposed else (v, d_r)
        of_positions, of_width = (ops.cast(x, self.kernel.dtype) for x in (of_positions, of_width))
        return ops.einsum("tbs,tbu->bsu", of_positions, of_width)

    def _product(self, v: Tensor, transposed: bool) -> Tensor:
        if self.kernel.shape[0] == 1 and len(v.shape) == 2:
            # A single row: TensorFlow's batched product takes several times as long on CPUs.
            matrix = ops.squeeze(self.kernel, 0)
            matrix = ops.transpose(matrix) if transposed else matrix
            return ops.cast(ops.matmul(ops.cast(v, matrix.dtype), matrix), v.dtype)
        equation = ("b{0}u,bsu->b{0}s" if transposed else "b{0}s,bsu->b{0}u").format(
            "t" if len(v.shape) == 3 else ""
        )
        return ops.cast(ops.einsum(equation, ops.cast(v, self.kernel.dtype), self.kernel), v.dtype)
