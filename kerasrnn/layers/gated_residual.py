"""The parts of a residual block around a recurrent layer, which compute every step by itself."""

from typing import Any

import keras
from keras import ops

Tensor = Any


class GatedResidual(keras.layers.Layer):
    """What precedes and follows the recurrent layer of a block: see `kerasrnn.StackedRNN`.

    Args:
        width: the number of features that the blocks pass on.
    """

    def __init__(self, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width = width
        self.normalization = keras.layers.LayerNormalization(
            epsilon=1e-5, dtype=self.dtype_policy, name="normalization"
        )
        self.gate = keras.layers.Dense(width, dtype=self.dtype_policy, name="gate")

    def build(self, input_shape: Any) -> None:
        self.normalization.build((None, self.width))
        self.gate.build((None, self.width))
        self.built = True

    def before(self, x: Tensor) -> Tensor:
        return self.normalization(x)

    def after(self, y: Tensor) -> Tensor:
        y = ops.gelu(y, approximate=False)
        return y * ops.sigmoid(self.gate(y))
