"""The base class of cells that compute a chunk of steps at once."""

from typing import Any, ClassVar

from kerasrnn.cells.arguments import REMOVED
from kerasrnn.cells.cell import Cell
from kerasrnn.recurrence.loop import Weights
from kerasrnn.recurrence.products import Product

Tensor = Any


class ChunkedCell(Cell):
    """The base class of cells without a recurrent kernel that compute a chunk of steps at once.

    The states of such a cell may be matrices, too large to store one for each step. A subclass
    defines its equations twice: as a single `step`, for streams and exports, and as `chunk`, by
    matrix products over `chunk_size` steps. Training stores the states before each chunk only, and
    computes the chunks again for the gradient; `checkpoint_every` therefore raises an error. A
    class that overrides `step` alone runs step by step; set `is_chunked = True` beside both
    methods.

    Args:
        chunk_size: positive integer: how many steps are computed at once. It changes no result.
            The time of a step grows with it, and that of the steps between chunks falls.

    Call arguments:
        inputs: `(batch, features)`.
        states: list of the previous states, of the shapes in `state_shapes`.
        training: whether dropout is applied.

    Returns:
        `(output, new_states)`; the states have the same structure as the input.

    Raises:
        ValueError: an argument is out of its range, or a state is missing.

    Masking: in a layer, as for every cell: at a masked step the states are carried over.

    Example:

        The running sum of the input parts, computed for a chunk as cumulative sums.

        >>> import numpy as np, kerasrnn
        >>> from keras import ops
        >>> class SumCell(kerasrnn.ChunkedCell):
        ...     is_chunked = True
        ...
        ...     def step(self, a, states, weights, products):
        ...         h = states[0] + a
        ...         return h, [h]
        ...
        ...     def chunk(self, a, states, keep, weights):
        ...         a = a if keep is None else ops.where(keep, a, ops.zeros_like(a))
        ...         h = states[0] + ops.cumsum(a, axis=0)
        ...         return h, [h[-1]]
        >>> y = kerasrnn.RNN(SumCell(4, chunk_size=8), return_sequences=True)(
        ...     np.ones((2, 20, 3), "float32"))
        >>> tuple(y.shape)
        (2, 20, 4)
    """

    own_arguments: ClassVar = {
        "activation": REMOVED,
        "recurrent_initializer": REMOVED,
        "recurrent_regularizer": REMOVED,
        "recurrent_constraint": REMOVED,
        "recurrent_dropout": REMOVED,
        "weight_drop": REMOVED,
        "recurrent_parametrization": REMOVED,
        "chunk_size": 64,
    }
    recurrent_weights = ()

    def chunk(
        self, a: Tensor, states: list[Any], keep: Tensor | None, weights: Weights
    ) -> tuple[Tensor, list[Any]]:
        """Compute some steps at once.

        Args:
            a: input part of the steps, `(steps, batch, ...)`.
            states: the states before the first of them.
            keep: boolean `(steps, batch, 1)`, False at steps that change no state; None: all are
                valid.
            weights: as in `step`.

        Returns:
            `(outputs, new_states)`: the outputs, `(steps, batch, *output_shape)`, which do not
            matter where `keep` is False, and the states after the last step.
        """
        # Abstract: called only for a cell with `is_chunked`.
        raise NotImplementedError(f"{type(self).__name__} must define `chunk`.")

    @property
    def product_groups(self) -> tuple[tuple[str, ...], ...]:
        return ()

    @property
    def recurrent_kernel_shape(self) -> tuple[int, ...] | None:
        return None

    def recurrent_products(self, weights: Weights) -> tuple[Product, ...]:
        return ()
