"""Copying: a distribution over a fixed vocabulary and the symbols of the source."""

from typing import Any

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.attention.normalization import wide_dtype
from kerasrnn.base_layer import BaseLayer
from kerasrnn.decoding.processors import IMPOSSIBLE
from kerasrnn.validation import PositiveInteger

Tensor = Any

UNKNOWN = 1
"""The id that a decoder reads in the place of one beyond its vocabulary."""


@keras.saving.register_keras_serializable(package="kerasrnn")
class PointerGenerator(BaseLayer):
    """Mixes the symbols that a decoder generates with those that it copies from the source.

        p_gen = sigmoid(w_c^T c_t + w_h^T h_t + w_x^T x_t + b)                            (8)
        P(k) = p_gen P_vocab(k) + (1 - p_gen) sum_{j: e_j = k} alpha_j                    (9)

    (See, Liu & Manning 2017, "Get to the point: summarization with pointer-generator networks").
    The vocabulary has `size` ids. The ids from `size` to `size + copied - 1` are those of source
    symbols outside the vocabulary: within one row, each id is another such symbol, so that a model
    with a small vocabulary writes words that it has never seen. e_j is the id of the source's
    position j; 0 means that it cannot be copied, as padding. P is normalized, should the alpha_j of
    positions that can be copied sum to less than 1.

    A `kerasrnn.Decoder` with `copied` applies it to the logits of every step.

    Weights: those of the dense layer `gate`: `[w_c; w_h; w_x]` and b.

    Args:
        size: number of ids of the vocabulary, where 0 is padding.
        copied: number of ids beyond the vocabulary.

    Call arguments:
        logits: of P_vocab, `(batch, [time,] size)`.
        context: c_t, `(batch, [time,] width)`: what the attention reads.
        h: h_t, `(batch, [time,] units)`: the output of the recurrent network.
        x: x_t, `(batch, [time,] width)`: its input.
        weights: alpha, `(batch, [time,] positions)`.
        source_ids: e, `(batch, positions)`.

    Returns:
        log P, float32 `(batch, [time,] size + copied)` (float64 for float64): logits whose softmax
        is P. Ids beyond the vocabulary that no position has are impossible: -1e30.

    Masking: a masked position has a weight of 0, and no influence.

    Raises:
        ValueError: an argument is not a positive integer.

    Example: the gate is 1/2, and so is the probability of 2 in the vocabulary.

        >>> import numpy as np, kerasrnn
        >>> pointer = kerasrnn.decoding.PointerGenerator(size=3, copied=2)
        >>> logits, zeros = np.array([[-1e9, 0.0, 0.0]]), np.zeros((1, 4))
        >>> log_p = pointer(logits, zeros, zeros, zeros, np.array([[0.6, 0.4]]), np.array([[2, 3]]))
        >>> [round(float(p), 2) for p in np.exp(log_p)[0]]
        [0.0, 0.25, 0.55, 0.2, 0.0]
    """

    @validation.checked
    def __init__(self, size: PositiveInteger, copied: PositiveInteger, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size, self.copied = size, copied
        self.supports_masking = True
        self.gate = keras.layers.Dense(1, dtype=self.dtype_policy, name="gate")

    def build(
        self, logits_shape: Any, context_shape: Any, h_shape: Any, x_shape: Any, *_: Any, **__: Any
    ) -> None:
        width = sum(shape[-1] for shape in (context_shape, h_shape, x_shape))
        self.gate.build((None, width))
        self.built = True

    def call(
        self,
        logits: Tensor,
        context: Tensor,
        h: Tensor,
        x: Tensor,
        weights: Tensor,
        source_ids: Tensor,
    ) -> Tensor:
        wide = wide_dtype(self.compute_dtype)
        features = [ops.cast(each, self.compute_dtype) for each in (context, h, x)]
        gate = ops.cast(self.gate(ops.concatenate(features, axis=-1)), wide)
        generated = ops.log_softmax(ops.cast(logits, wide), axis=-1) + ops.log_sigmoid(gate)
        widths = [[0, 0]] * (len(logits.shape) - 1) + [[0, self.copied]]
        generated = ops.pad(generated, widths, constant_values=IMPOSSIBLE)
        copied = summed_by_id(ops.cast(weights, wide), source_ids, self.size + self.copied)
        some = copied > 0
        copied = ops.log(ops.where(some, copied, 1)) + ops.log_sigmoid(-gate)
        copied = ops.where(some, copied, IMPOSSIBLE)
        # Not `ops.logaddexp`, for which ONNX has no operator.
        most = ops.stop_gradient(ops.maximum(generated, copied))
        return most + ops.log(ops.exp(generated - most) + ops.exp(copied - most))

    def compute_output_spec(self, logits: Any, *_: Any, **__: Any) -> keras.KerasTensor:
        shape = (*logits.shape[:-1], self.size + self.copied)
        return keras.KerasTensor(shape, wide_dtype(self.compute_dtype))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size, "copied": self.copied}


def summed_by_id(weights: Tensor, ids: Tensor, size: int) -> Tensor:
    """The sum of the weights of the positions with each id, `(batch, [time,] size)`; 0 for id 0.

    Args:
        weights: `(batch, [time,] positions)`.
        ids: `(batch, positions)`. Ids that are not below `size` have no influence.
        size: number of ids.
    """
    ids = ops.cast(ids, "int32")
    positions = ops.shape(ids)[1]
    used = (ids > 0) & (ids < size)
    equal = ops.expand_dims(ids, 2) == ops.expand_dims(ids, 1)  # (batch, positions, positions)
    place = ops.arange(positions, dtype="int32")
    earlier = ops.expand_dims(place, 1) < ops.expand_dims(place, 0)
    first = used & ~ops.any(equal & earlier, axis=1)
    steps = "t" if len(weights.shape) == 3 else ""
    weights = ops.einsum(f"b{steps}i,bij->b{steps}j", weights, ops.cast(equal, weights.dtype))
    # The first position with an id has the sum, the others a column of their own: ONNX has no
    # scatter that adds up, and one-hot vectors would be as long as the vocabulary.
    columns = ops.where(first, ids, size + place)
    if steps:
        columns = ops.broadcast_to(ops.expand_dims(columns, 1), ops.shape(weights))
    *rows, _ = ops.shape(weights)
    count, width = (rows[0] if len(rows) == 1 else rows[0] * rows[1]), size + positions
    starts = ops.expand_dims(ops.arange(count, dtype="int32") * width, 1)
    columns = ops.reshape(starts + ops.reshape(columns, (-1, positions)), (-1, 1))
    summed = ops.scatter(columns, ops.reshape(weights, (-1,)), (count * width,))
    return ops.reshape(summed, (*rows, width))[..., :size]
