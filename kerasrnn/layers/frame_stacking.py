"""Fewer steps: adjacent frames as one."""

from typing import Any

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.base_layer import SequenceLayer, boolean_mask
from kerasrnn.keras_internals import get_keras_mask
from kerasrnn.validation import PositiveInteger

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class FrameStacking(SequenceLayer):
    """Concatenates adjacent frames, so that a sequence has fewer steps.

        y_t = [x_{kt}, x_{kt+1}, ..., x_{kt+k-1}]

    Speech has 100 frames in a second, and a recurrent network that reads three or four of them at
    a step is faster and learns more easily (Sak et al. 2015, "Fast and accurate recurrent neural
    network acoustic models for speech recognition"). The last frames are followed by zeros.

    Args:
        count: k, the number of frames of a step.

    Call arguments:
        sequences: x, `(batch, time, features)`.
        mask: boolean `(batch, time)`, True = use the frame. Default: the mask attached to x.

    Returns:
        y, `(batch, ceil(time / count), count * features)`.

    Masking: masked frames are zeros. A step is valid if one of its frames is.

    Raises:
        ValueError: `count` is not a positive integer, or the sequences have another rank.

    Example:

        >>> import numpy as np, kerasrnn
        >>> x = np.array([[[1.0], [2.0], [3.0]]], "float32")
        >>> np.asarray(kerasrnn.FrameStacking(2)(x)).tolist()
        [[[1.0, 2.0], [3.0, 0.0]]]
    """

    @validation.checked
    def __init__(self, count: PositiveInteger, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.count = count
        self.supports_masking = True
        self.input_spec = keras.layers.InputSpec(ndim=3)

    def build(self, *_: Any) -> None:
        self.built = True

    def call(self, sequences: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.in_compute_dtype(sequences)
        mask = get_keras_mask(sequences) if mask is None else mask
        if mask is not None:
            mask = boolean_mask(f"{self.name}: mask", mask, sequences.shape[:2], used="a frame is")
            x = ops.where(ops.expand_dims(mask, 2), x, 0)
        # As much padding as the last step may need, and no negative remainder, which ONNX lacks.
        x = ops.pad(x, ((0, 0), (0, self.count - 1), (0, 0)))
        batch, time, _ = ops.shape(x)
        steps = time // self.count
        x = x[:, : steps * self.count]
        return ops.reshape(x, (batch, steps, self.count * x.shape[2]))

    def compute_mask(self, sequences: Tensor, mask: Tensor | None = None) -> Tensor | None:
        if mask is None:
            return None
        # A pool, not a reshape: Keras computes masks of unknown length symbolically, too.
        mask = ops.pad(ops.cast(mask, "float32"), ((0, 0), (0, self.count - 1)))
        pooled = ops.max_pool(ops.expand_dims(mask, 2), self.count, self.count, padding="valid")
        return ops.squeeze(pooled, 2) > 0

    def compute_output_shape(self, sequences_shape: Any) -> tuple[int | None, ...]:
        batch, time, features = sequences_shape
        return (batch, self._steps(time), None if features is None else self.count * features)

    def compute_output_spec(self, sequences: Any, mask: Any = None) -> keras.KerasTensor:
        return keras.KerasTensor(self.compute_output_shape(sequences.shape), self.compute_dtype)

    def _steps(self, time: int | None) -> int | None:
        return None if time is None else -(-time // self.count)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "count": self.count}
