"""Embeddings of pairs of neighbours, in a table that the pairs share by their hashes."""

from numbers import Integral
from typing import Any

import keras
from keras import ops

Tensor = Any

# Odd, and small enough that no sum of products with ids below IDS leaves 32 bits.
FIRST, SECOND = 40503, 25013
IDS = 1 << 15


@keras.saving.register_keras_serializable(package="kerasrnn")
class BigramEmbedding(keras.layers.Layer):
    """Embeds each step's pairs: with the step before it and with the one after it.

        k(a, b) = (40503 a + 25013 b) mod rows,   y_t = [E_{k(x_{t-1}, x_t)}; E_{k(x_t, x_{t+1})}]

    where x_0 and x_{T+1} are 0. Pairs of characters say much more than characters where no space
    stands between words (Chen et al. 2015, "Long short-term memory neural networks for Chinese word
    segmentation"); that pairs with one hash share a vector keeps the table small (Weinberger et al.
    2009, "Feature hashing for large scale multitask learning"; Bojanowski et al. 2017, "Enriching
    word vectors with subword information"). Of ids the remainder by 32,768 is taken. Weight:
    `embeddings` E `(rows, units)`.

    Args:
        rows: of the table.
        units: width of a pair's embedding.

    Call arguments:
        inputs: ids x, integers `(batch, time)`; 0 is padding.

    Returns:
        y, `(batch, time, 2 * units)`. It looks one step ahead: it is not for language models.

    Masking: steps whose id is 0 are masked for the layers after; there is a pair with them all the
    same, which says that a row begins or ends.

    Raises:
        ValueError: `rows` or `units` is no positive integer.

    Example:

        >>> import numpy as np, kerasrnn
        >>> layer = kerasrnn.BigramEmbedding(rows=100, units=3)
        >>> tuple(layer(np.array([[5, 7, 5, 0]])).shape)
        (1, 4, 6)
    """

    def __init__(self, rows: int, units: int, **kwargs: Any) -> None:
        for name, value in (("rows", rows), ("units", units)):
            if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name}={value!r}: expected a positive integer.")
        super().__init__(**kwargs)
        self.rows = int(rows)
        self.units = int(units)
        self.supports_masking = True

    def build(self, inputs_shape: Any) -> None:
        self.embeddings = self.add_weight(
            shape=(self.rows, self.units), name="embeddings", initializer="uniform"
        )
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        ids = ops.pad(ops.cast(inputs, "int32") % IDS, ((0, 0), (1, 1)))
        keys = (ids[:, :-1] * FIRST + ids[:, 1:] * SECOND) % self.rows
        pairs = ops.take(ops.convert_to_tensor(self.embeddings), keys, axis=0)
        return ops.cast(ops.concatenate([pairs[:, :-1], pairs[:, 1:]], -1), self.compute_dtype)

    def compute_output_shape(self, inputs_shape: Any) -> tuple[int | None, ...]:
        return (*inputs_shape, 2 * self.units)

    def compute_mask(self, inputs: Tensor, mask: Any = None) -> Tensor:
        return ops.not_equal(inputs, 0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rows": self.rows, "units": self.units}
