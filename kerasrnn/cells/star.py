"""The stackable recurrent cell: Turkoglu, D'Aronco, Wegner & Schindler (2021)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn.cells.cell import Cell
from kerasrnn.cells.layer import Recurrent
from kerasrnn.recurrence.loop import Weights

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class STARCell(Cell):
    """One step of a stackable recurrent cell.

    Turkoglu, D'Aronco, Wegner & Schindler (2021), "Gating revisited: deep multi-layer RNNs that can
    be trained".

        (a_k, a_z) = x_t W + b
        k_t = sigmoid(a_k + h_{t-1} U),   z_t = tanh(a_z)
        h_t = tanh((1 - k_t) * h_{t-1} + k_t * z_t)

    It is made for deep stacks, in which gradients fade or grow not only from step to step but also
    from layer to layer: those of this cell keep their size better than those of LSTM and SimpleRNN.
    Only the gate reads the state, so that the cell has half of GRU's weights, if there are as many
    features as units.

    `sigmoid` is `recurrent_activation`, `tanh` is `activation`. Weights: `kernel` W
    `(features, 2 * units)` with the columns in the order k, z; `recurrent_kernel` U
    `(units, units)`; `bias` b `(2 * units,)`. State: h. The candidate z is the block h of `gates`.
    The authors initialize both kernels orthogonally, and the bias of k for memories of up to T
    steps, `kerasrnn.ChronoInitializer(T, kerasrnn.STARCell.memory_signs)`; here the initial values
    are those of the library's other cells.
    """

    own_arguments: ClassVar = {"recurrent_activation": "sigmoid"}
    gates = ("k", "h")
    memory_signs = (-1, 0)

    @property
    def product_groups(self) -> tuple[tuple[str, ...], ...]:
        return (("k",),)

    def update(
        self, a: Tensor, r: Tensor, states: Sequence[Tensor], weights: Weights
    ) -> tuple[Tensor, list[Tensor]]:
        (h,) = states
        a_k, a_z = ops.split(a, 2, axis=-1)
        k = self.recurrent_activation(a_k + r)
        z = self.activation(a_z)
        h = self.activation((1 - k) * h + k * z)
        return h, [h]


@keras.saving.register_keras_serializable(package="kerasrnn")
class STAR(Recurrent, cell_class=STARCell):
    """A stackable recurrent layer."""
