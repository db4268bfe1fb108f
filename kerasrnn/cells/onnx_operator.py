"""The ONNX operator that corresponds to a cell."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras

Activation = Callable[[Any], Any]

# Names in ONNX, with alpha and beta where the operator's defaults differ from Keras's.
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

SYMMETRIC: tuple[Activation, ...] = (keras.activations.sigmoid, keras.activations.hard_sigmoid)
"""Activations of gates with f(-p) = 1 - f(p), so that a gate may be negated."""


@dataclass(frozen=True)
class OnnxOperator:
    """A recurrent ONNX operator, with a cell's weights and activations.

    Its matrices consist of blocks of the cell's:

        W, R   the blocks of `kernel` and `recurrent_kernel` that `gates` names, transposed
        B      those of `bias`: of the input part, then of the recurrent part
        P      the rows of `peephole_kernel` that `peepholes` lists
    """

    name: Literal["RNN", "LSTM", "GRU"]
    gates: tuple[str, ...]
    """The cell's gates in the operator's order; a minus sign negates the gate's weights."""

    activations: tuple[Activation, ...]
    """The activations in the operator's order; see `ACTIVATIONS`."""

    peepholes: tuple[int, ...] = ()
    linear_before_reset: bool = False
    """GRU: whether the reset gate is applied after the recurrent product."""

    input_forget: bool = False
    """LSTM: whether the forget gate is 1 minus the input gate. Its block has these weights, too: a
    runtime may read either."""

    def blocks(self, gates: Sequence[str], matrix: Any) -> list[Any]:
        """The blocks of a cell's matrix, on its last axis, in the order of the operator.

        Args:
            gates: the cell's gates, which are the blocks of the matrix.
            matrix: the matrix, or a bias: an array or a tensor.
        """
        width = matrix.shape[-1] // len(gates)
        of_gates = {gate: matrix[..., k * width : (k + 1) * width] for k, gate in enumerate(gates)}
        of_gates |= {f"-{gate}": -block for gate, block in of_gates.items()}
        return [of_gates[gate] for gate in self.gates]

    @property
    def exists(self) -> bool:
        """Whether ONNX supports the activations."""
        return all(activation in ACTIVATIONS for activation in self.activations)
