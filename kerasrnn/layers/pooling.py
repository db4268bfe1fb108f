"""Pooling of a sequence into one vector: the mean, the maximum, or learned attention."""

from typing import Any

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.base_layer import SequenceLayer, boolean_mask, check_steps
from kerasrnn.validation import PositiveInteger

Tensor = Any

MODES = ("mean", "max", "attention")


@keras.saving.register_keras_serializable(package="kerasrnn")
class SequencePooling(SequenceLayer):
    """Pools the valid steps of a sequence into one vector.

        y = 1/T sum_t h_t                          mean, over the T valid steps
        y_k = max_t h_tk                           max
        u_t = tanh(h_t W + b)                      attention (5)
        alpha_t = exp(u_t . u) / sum_s exp(u_s . u)          (6)
        y = sum_t alpha_t h_t                                (7)

    with the equations of Yang et al. (2016), "Hierarchical attention networks for document
    classification". Weights, only with "attention": `kernel` W `(features, units)`, `bias` b
    `(units,)`, `context` u `(units, 1)`.

    Args:
        mode: "mean", "max" or "attention".
        units: width of u_t; default: the width of h_t. Only with "attention".

    Call arguments:
        sequences: h, `(batch, time, features)`.
        mask: boolean `(batch, time)`, True = use the step. Default: the mask attached to the
            sequences, if any.

    Returns:
        y, `(batch, features)`.

    Masking: masked steps are ignored. A fully masked row is pooled to zeros. No mask is passed on.

    Raises:
        ValueError: an unknown mode; `units` is not a positive integer, or is given with another
            mode; `sequences` have no steps (in a graph with an unknown number of steps, a sequence
            without steps is pooled to zeros).

    Example:

        >>> import numpy as np, kerasrnn
        >>> h = np.array([[[1.0, 5.0], [3.0, 1.0], [9.0, 9.0]]], "float32")
        >>> mask = np.array([[True, True, False]])
        >>> np.asarray(kerasrnn.SequencePooling("mean")(h, mask=mask)).tolist()
        [[2.0, 3.0]]
    """

    @validation.checked
    def __init__(
        self, mode: str = "mean", units: PositiveInteger | None = None, **kwargs: Any
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"mode={mode!r}: expected one of {', '.join(map(repr, MODES))}.")
        if units is not None and mode != "attention":
            raise ValueError(f"units={units!r}: expected None with mode={mode!r}.")
        super().__init__(**kwargs)
        self.mode = mode
        self.units = units
        self.supports_masking = True
        self.input_spec = keras.layers.InputSpec(ndim=3)

    def build(self, sequences_shape: Any) -> None:
        if self.mode == "attention":
            features = sequences_shape[-1]
            units = self.units or features
            self.kernel = self.add_weight(
                shape=(features, units), name="kernel", initializer="glorot_uniform"
            )
            self.bias = self.add_weight(shape=(units,), name="bias", initializer="zeros")
            self.context = self.add_weight(
                shape=(units, 1), name="context", initializer="glorot_uniform"
            )
        self.built = True

    def call(self, sequences: Tensor, mask: Tensor | None = None) -> Tensor:
        use = None
        if mask is not None:
            mask = boolean_mask(f"{self.name}: mask", mask, sequences.shape[:2])
            use = ops.expand_dims(mask, -1)  # (batch, time, 1)
        check_steps(f"{self.name}: sequences", sequences)
        sequences = self.in_compute_dtype(sequences)
        y = self._pooled(sequences, use)
        if sequences.shape[1] is None:
            y = ops.where(ops.shape(sequences)[1] > 0, y, 0)
        return y

    def _pooled(self, sequences: Tensor, use: Tensor | None) -> Tensor:
        if self.mode == "max":
            return self._max(sequences, use)
        weights = self._attention(sequences, use) if self.mode == "attention" else use
        if weights is None:
            return ops.mean(sequences, axis=1)
        weights = ops.cast(weights, sequences.dtype)
        total = ops.sum(weights * sequences, axis=1)
        if self.mode == "attention":
            return total
        # At least 1, since a row without valid steps has a sum of zero.
        return total / ops.maximum(ops.sum(weights, axis=1), 1)

    def compute_output_shape(self, sequences_shape: Any) -> tuple[int | None, ...]:
        return (sequences_shape[0], sequences_shape[-1])

    def compute_mask(self, inputs: Tensor, mask: Any = None) -> None:
        return None

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "mode": self.mode, "units": self.units}

    def _attention(self, sequences: Tensor, use: Tensor | None) -> Tensor:
        """alpha, `(batch, time, 1)`; zeros for rows without valid steps."""
        u = ops.tanh(ops.matmul(sequences, self.kernel) + self.bias)  # (5)
        score = ops.matmul(u, self.context)
        if use is None:
            use = ops.ones_like(score, dtype="bool")
        # Without an initial value, Keras rejects a batch without rows.
        highest = ops.max(
            ops.where(use, score, _lowest(score)), axis=1, keepdims=True, initial=-np.inf
        )
        # The score of a masked step may be arbitrarily larger: it is replaced before exp.
        weights = ops.where(use, ops.exp(ops.where(use, score - highest, 0)), 0)
        total = ops.sum(weights, axis=1, keepdims=True)
        return weights / ops.where(total > 0, total, 1)  # (6)

    def _max(self, sequences: Tensor, use: Tensor | None) -> Tensor:
        if use is None:
            return ops.max(sequences, axis=1, initial=-np.inf)
        highest = ops.max(ops.where(use, sequences, _lowest(sequences)), axis=1, initial=-np.inf)
        return ops.where(ops.any(use, axis=1), highest, 0)


def _lowest(x: Tensor) -> Tensor:
    """The lowest number of x's dtype, in x's shape."""
    name = keras.backend.standardize_dtype(x.dtype)
    return ops.full_like(x, -65504.0 if name == "float16" else -3e38)
