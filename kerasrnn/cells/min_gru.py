"""The minimal gated recurrent unit: Feng et al. (2024)."""

from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn.cells.layer import Recurrent
from kerasrnn.cells.linear_cell import LinearCell
from kerasrnn.recurrence.loop import Weights

Tensor = Any


def positive(a: Tensor) -> Tensor:
    """The candidate of the log-space forms: `a + 0.5` from 0 on, and `sigmoid(a)` below."""
    return ops.where(a >= 0, a + 0.5, ops.sigmoid(a))


@keras.saving.register_keras_serializable(package="kerasrnn")
class MinGRUCell(LinearCell):
    """One step of a minimal gated recurrent unit.

    Feng et al. (2024), "Were RNNs all we needed?", section 3.1 and, with `log_space`, appendix B.

        (a_z, a_h) = x_t W + b
        z_t = sigmoid(a_z)
        h_t = (1 - z_t) * h_{t-1} + z_t * a_h

    A GRU whose gate and candidate read only the input: without a reset gate, and with a third of
    GRU's input weights less and no recurrent ones. Everything but the recurrence is computed for
    all steps at once, which makes long sequences cheap. The units of a layer do not read each
    other: stack layers to mix them.

    With `log_space` the candidate is positive, as it must be where the recurrence is computed from
    logarithms: `g(a_h) = a_h + 0.5` for `a_h >= 0`, and `sigmoid(a_h)` otherwise. Here it is
    computed directly, with the same results: the decays are in [0, 1], so that nothing overflows.

    `sigmoid` is `recurrent_activation`; `activation` is applied to a_h. Weights: `kernel` W
    `(features, 2 * units)`, `bias` b `(2 * units,)`; the gates' columns are in the order z, h.
    State: h.

    Args:
        log_space: whether the candidate is g(a_h), as in the log-space form.
    """

    own_arguments: ClassVar = {
        "activation": None,
        "recurrent_activation": "sigmoid",
        "log_space": False,
    }
    gates = ("z", "h")

    def transition(self, a: Tensor, weights: Weights) -> tuple[Tensor, Tensor]:
        a_z, a_h = ops.split(a, 2, axis=-1)
        z = self.recurrent_activation(a_z)
        candidate = self.activation(a_h)
        if self.log_space:
            candidate = positive(candidate)
        return 1 - z, z * candidate


@keras.saving.register_keras_serializable(package="kerasrnn")
class MinGRU(Recurrent, cell_class=MinGRUCell, after_loop=("log_space",)):
    """A minimal gated recurrent unit layer."""
