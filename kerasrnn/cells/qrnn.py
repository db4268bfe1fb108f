"""The quasi-recurrent network: Bradbury et al. (2017)."""

from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.cells.layer import Recurrent
from kerasrnn.cells.linear_cell import LinearCell
from kerasrnn.recurrence.loop import Weights

Tensor = Any
POOLINGS = {"f": ("c", "f"), "fo": ("c", "f", "o"), "ifo": ("c", "f", "o", "i")}
"""The blocks of the kernel: the candidate z, which has the name of the state, and the gates."""


@keras.saving.register_keras_serializable(package="kerasrnn")
class QRNNCell(LinearCell):
    """One step of a quasi-recurrent network.

    Bradbury, Merity, Xiong & Socher (2017), "Quasi-recurrent neural networks", equations 1 to 5.

        (a_z, a_f, a_o, a_i) = x_t W + [x_{t-1}, ..., x_{t-k+1}] V + b
        z_t = tanh(a_z),   f_t = sigmoid(a_f),   o_t = sigmoid(a_o),   i_t = sigmoid(a_i)
        c_t = f_t * c_{t-1} + (1 - f_t) * z_t       "f" and "fo"
        c_t = f_t * c_{t-1} + i_t * z_t             "ifo"
        h_t = c_t                                   "f";  o_t * c_t with "fo" and "ifo"

    The gates are a convolution over the last `kernel_size` inputs, masked so that no step sees a
    later one, and the units are connected over time only by the pooling. At a masked step the
    convolution skips the input: it reads the last valid ones.

    `sigmoid` is `recurrent_activation`, `tanh` is `activation`. Weights: `kernel` W
    `(features, gates * units)`, `bias` b `(gates * units,)`, and `window_kernel` V
    `((kernel_size - 1) * features, gates * units)`, unless `kernel_size` is 1; the gates' columns
    are in the order z, f, o, i. States: c, and the inputs of the last `kernel_size - 1` steps.

    Args:
        kernel_size: positive integer: how many inputs a gate reads, the current one included.
        pooling: "f", "fo" or "ifo": the gates of the recurrence.
    """

    own_arguments: ClassVar = {
        "activation": "tanh",
        "recurrent_activation": "sigmoid",
        "kernel_size": 2,
        "pooling": "fo",
    }
    state_names = ("c", "window")

    def __post_init__(self) -> None:
        validation.integer("kernel_size", self.kernel_size, minimum=1)
        validation.one_of("pooling", self.pooling, tuple(POOLINGS))
        self.window = self.kernel_size - 1
        self.gates = POOLINGS[self.pooling]
        if not self.window:
            self.state_names = ("c",)

    def transition(self, a: Tensor, weights: Weights) -> tuple[Tensor, Tensor]:
        z, f, *others = ops.split(a, len(self.gates), axis=-1)
        z, f = self.activation(z), self.recurrent_activation(f)
        i = self.recurrent_activation(others[1]) if self.pooling == "ifo" else 1 - f
        return f, i * z

    def read(self, states: list[Tensor], a: Tensor, weights: Weights) -> Tensor:
        (c,) = states
        if self.pooling == "f":
            return c
        a_o = a[..., 2 * self.units : 3 * self.units]
        return self.recurrent_activation(a_o) * c


@keras.saving.register_keras_serializable(package="kerasrnn")
class QRNN(Recurrent, cell_class=QRNNCell, after_loop=("kernel_size", "pooling")):
    """A quasi-recurrent network layer."""
