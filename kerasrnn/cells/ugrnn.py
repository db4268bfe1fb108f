"""The update gate recurrent network: Collins, Sohl-Dickstein & Sussillo (2017)."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from kerasrnn.cells.cell import GatedCell
from kerasrnn.cells.layer import Recurrent

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class UGRNNCell(GatedCell):
    """One step of an update gate recurrent network.

    Collins, Sohl-Dickstein & Sussillo (2017), "Capacity and trainability in recurrent neural
    networks".

        a_t = x_t W + b,   r_t = h_{t-1} U,   (p_g, p_h) = a_t + r_t
        g_t = sigmoid(p_g),   candidate_t = tanh(p_h)
        h_t = g_t * h_{t-1} + (1 - g_t) * candidate_t

    The candidate is c in the paper. `sigmoid` is `recurrent_activation`, `tanh` is `activation`.
    Weights: `kernel` W `(features, 2 * units)`, `recurrent_kernel` U `(units, 2 * units)`, `bias` b
    `(2 * units,)`, with the columns in the order g, h. State: h.

    Call arguments:
        inputs: `(batch, features)`.
        states: h, `(batch, units)`, alone or in a list.
        training: whether dropout is applied.

    Raises:
        ValueError: an argument is out of its range.

    Example:

        >>> import numpy as np, kerasrnn
        >>> cell = kerasrnn.UGRNNCell(4)
        >>> h, states = cell(np.ones((2, 3), "float32"), cell.get_initial_state(2))
        >>> tuple(h.shape), len(states)
        ((2, 4), 1)
    """

    gates = ("g", "h")

    def update(
        self, a: Tensor, r: Tensor, states: Sequence[Tensor], weights: Mapping[str, Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        (h,) = states
        p_g, p_h = ops.split(a + r, 2, axis=-1)
        g = self.recurrent_activation(p_g)
        h = g * h + (1 - g) * self.activation(p_h)
        return h, [h]


@keras.saving.register_keras_serializable(package="kerasrnn")
class UGRNN(Recurrent, cell_class=UGRNNCell):
    """An update gate recurrent network.

    Collins, Sohl-Dickstein & Sussillo (2017), "Capacity and trainability in recurrent neural
    networks".

        a_t = x_t W + b,   r_t = h_{t-1} U,   (p_g, p_h) = a_t + r_t
        g_t = sigmoid(p_g),   candidate_t = tanh(p_h)
        h_t = g_t * h_{t-1} + (1 - g_t) * candidate_t

    The candidate is c in the paper. `sigmoid` is `recurrent_activation`, `tanh` is `activation`.
    Weights: `kernel` W `(features, 2 * units)`, `recurrent_kernel` U `(units, 2 * units)`, `bias` b
    `(2 * units,)`, with the columns in the order g, h. State: h.

    Example:

        >>> import numpy as np, kerasrnn
        >>> y, h = kerasrnn.UGRNN(4, return_sequences=True, return_state=True)(
        ...     np.ones((2, 5, 3), "float32"))
        >>> tuple(y.shape), bool(np.all(y[:, -1] == h))
        ((2, 5, 4), True)
    """
