"""Which ONNX operator a cell is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import keras

Activation = Callable[[Any], Any]

# Names in ONNX, with alpha and beta where the operator does not take Keras's by itself.
ACTIVATIONS: dict[Activation, tuple[str, float | None, float | None]] = {
    keras.activations.tanh: ("Tanh", None, None),
    keras.activations.sigmoid: ("Sigmoid", None, None),
    keras.activations.relu: ("Relu", None, None),
    keras.activations.linear: ("Affine", 1.0, 0.0),
    keras.activations.hard_sigmoid: ("HardSigmoid", 1 / 6, 0.5),
    keras.activations.elu: ("Elu", 1.0, None),
    keras.activations.leaky_relu: ("LeakyRelu", 0.2, None),
    keras.activations.softplus: ("Softplus", None, None),
    keras.activations.softsign: ("Softsign", None, None),
}


@dataclass(frozen=True)
class OnnxOperator:
    """A recurrent operator of ONNX, as a cell's weights and activations fill it in.

    Its matrices are the cell's, block by block:

        W, R   the blocks of `kernel` and `recurrent_kernel` that `gates` names, transposed
        B      those of `bias`: of the input part, then of the recurrent part
        P      the rows of `peephole_kernel` that `peepholes` numbers
    """

    name: Literal["RNN", "LSTM", "GRU"]
    gates: tuple[str, ...]
    """The cell's gates in the operator's order; one after a minus with its weights negated."""

    activations: tuple[Activation, ...]
    """In the operator's order; see `ACTIVATIONS`."""

    peepholes: tuple[int, ...] = ()
    linear_before_reset: bool = False
    """GRU: whether the reset gate acts after the recurrent product."""

    @property
    def exists(self) -> bool:
        """Whether ONNX has the activations."""
        return all(activation in ACTIVATIONS for activation in self.activations)
