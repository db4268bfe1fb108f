"""A matrix memory of keys and values, read and written by a chunk of steps at once.

    C_t = decay_t C_{t-1} + k_t^T v_t,   r_t = q_t C_t

From the memory before a chunk, C_0, and with L_tj the product of the decays of the steps after j up
to t, the recurrence is

    r_t = L_t0 q_t C_0 + the sum over j <= t of L_tj (q_t k_j^T) v_j

which is causal attention without a softmax within the chunk, whose scores decay, and the attention
to what was stored before: matrix products in the place of a loop.
"""

from typing import Any

from keras import ops

Tensor = Any

NEVER = -1e30
"""The logarithm of a weight of 0: finite, since differences are taken."""


def segment_sums(x: Tensor) -> Tensor:
    """Sum the values at the steps after j up to t, for all pairs of steps.

    Each segment is summed by itself. The difference of two cumulative sums has the rounding errors
    of both, which are large if some step before j has a large value, such as the logarithm of a
    decay close to 0.

    Args:
        x: `(..., steps)`.

    Returns:
        `(..., steps, steps)`, with the axes t and j; `NEVER` where j is later than t.
    """
    steps = ops.arange(ops.shape(x)[-1])
    after = steps[:, None] > steps
    sums = ops.cumsum(ops.where(after, x[..., None], 0.0), axis=-2)
    return ops.where(steps[:, None] >= steps, sums, NEVER)


class MatrixMemory:
    """The reads and writes of a chunk of steps.

    Args:
        queries: what each step reads with, `(..., steps, key width)`.
        keys: what each step writes under, of the same shape.
        weights: L_tj, what is left at step t of the write of step j, `(..., steps, steps)`; 0 where
            j is later than t.
        kept: L_t0, what is left at each step of the memory before the chunk, `(..., steps)`.
    """

    def __init__(self, queries: Tensor, keys: Tensor, weights: Tensor, kept: Tensor) -> None:
        keys = ops.swapaxes(keys, -1, -2)
        self.queries, self.kept = queries, kept[..., None]
        self.scores = ops.matmul(queries, keys) * weights
        self.stored = keys * weights[..., -1:, :]

    def read(self, memory: Tensor, values: Tensor) -> Tensor:
        """What each step reads, `(..., steps, value width)`.

        Args:
            memory: C_0, `(..., key width, value width)`.
            values: what each step writes, `(..., steps, value width)`.
        """
        return ops.matmul(self.scores, values) + self.kept * ops.matmul(self.queries, memory)

    def write(self, memory: Tensor, values: Tensor) -> Tensor:
        """The memory after the last step; the arguments are those of `read`."""
        return self.kept[..., -1:, :] * memory + ops.matmul(self.stored, values)
