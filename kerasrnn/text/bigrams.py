"""Embeddings of adjacent pairs of ids: one for each known pair, and one for all others."""

from collections import Counter
from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.base_layer import BaseLayer
from kerasrnn.validation import PositiveInteger, Rate, Seed

Tensor = Any

IDS = 1 << 15  # so that a pair of ids fits into 32 bits


@keras.saving.register_keras_serializable(package="kerasrnn")
class BigramEmbedding(BaseLayer):
    """Embeds the two pairs of each step: with the previous step and with the next one.

        y_t = [E_{n(x_{t-1}, x_t)}; E_{n(x_t, x_{t+1})}]

    where n(a, b) is the index of (a, b) among the known pairs, in order and starting at 1, or 0 if
    it is unknown; x_0 and x_{T+1} are 0. Pairs of characters are much more informative than single
    characters where no spaces separate words (Chen et al. 2015, "Long short-term memory neural
    networks for Chinese word segmentation"). An unknown pair is informative too: most often, a word
    ends inside it. Therefore pairs do not share vectors here, and some are treated as unknown in
    training (`dropout`), so that the vector of unknown pairs is learned from all kinds of pairs
    (Iyyer et al. 2015, "Deep unordered composition rivals syntactic methods", on word dropout).
    Weights: `embeddings` E `(pairs + 1, units)`, and the non-trainable `keys`, the known pairs.

    Args:
        pairs: the known pairs, `(count, 2)`, of ids from 0 to 32,767: see `frequent`. Or only their
            number, if they are loaded with the weights.
        units: width of a pair's embedding.
        dropout: fraction of the pairs that are treated as unknown in training, in [0, 1).
        seed: integer that makes dropout reproducible.

    Call arguments:
        inputs: ids x, integers `(batch, time)`; 0 is padding. Pairs with ids above 32,767 are
            unknown.
        training: whether dropout is applied.

    Returns:
        y, `(batch, time, 2 * units)`. Each step depends on the next one, so the layer is unsuitable
        for language models.

    Masking: steps whose id is 0 are masked for the following layers. Their pairs are embedded all
    the same: they mark the beginning and the end of a row.

    Raises:
        ValueError: an argument is out of its range, or a pair is duplicated.

    Example:

        >>> import numpy as np, kerasrnn
        >>> ids = np.array([[5, 7, 5, 0]])
        >>> pairs = kerasrnn.BigramEmbedding.frequent(ids, least=1)
        >>> pairs.tolist()
        [[0, 5], [5, 0], [5, 7], [7, 5]]
        >>> layer = kerasrnn.BigramEmbedding(pairs, units=3)
        >>> tuple(layer(ids).shape)
        (1, 4, 6)
    """

    @validation.checked
    def __init__(
        self,
        pairs: Sequence[Sequence[int]] | np.ndarray | int,
        units: PositiveInteger,
        dropout: Rate = 0.0,
        seed: Seed | None = None,
        **kwargs: Any,
    ) -> None:
        keys = _keys(pairs)
        super().__init__(**kwargs)
        self._known = keys
        self.units = units
        self.dropout = dropout
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed) if dropout else None
        self.supports_masking = True

    @property
    def pairs(self) -> int:
        """The number of known pairs."""
        return len(self._known)

    @staticmethod
    def frequent(sequences: Iterable[Sequence[int]], least: int = 2) -> np.ndarray:
        """The pairs that occur at least a given number of times, in order, `(count, 2)`.

        Args:
            sequences: sequences of ids; zeros at the end of a sequence are padding.
            least: the minimum count.
        """
        counts: Counter[tuple[int, int]] = Counter()
        for sequence in sequences:
            ids = np.trim_zeros(np.asarray(sequence), "b").tolist()
            if ids:
                counts.update(zip([0, *ids], [*ids, 0], strict=True))
        known = sorted(pair for pair, count in counts.items() if count >= least)
        return np.array(known, "int32").reshape(-1, 2)

    def build(self, inputs_shape: Any) -> None:
        self.embeddings = self.add_weight(
            shape=(self.pairs + 1, self.units), name="embeddings", initializer="uniform"
        )
        self.keys = self.add_weight(
            shape=(self.pairs,),
            name="keys",
            initializer=lambda shape, dtype: ops.convert_to_tensor(self._known, dtype),
            dtype="int32",
            trainable=False,
        )
        self.built = True

    def call(self, inputs: Tensor, training: bool | None = False) -> Tensor:
        # Clipped before the cast, since int64 values may exceed int32.
        ids = ops.pad(ops.cast(ops.minimum(inputs, IDS), "int32"), ((0, 0), (1, 1)))
        before, after = ids[:, :-1], ids[:, 1:]
        within = ops.logical_and(before < IDS, after < IDS)
        places = self._places(ops.where(within, before * IDS + after, -1))
        if training and self.dropout:
            drawn = keras.random.uniform(ops.shape(places), seed=self.seed_generator)
            places = ops.where(drawn < self.dropout, 0, places)
        pairs = ops.take(ops.convert_to_tensor(self.embeddings), places, axis=0)
        return ops.cast(ops.concatenate([pairs[:, :-1], pairs[:, 1:]], -1), self.compute_dtype)

    def _places(self, wanted: Tensor) -> Tensor:
        """Find indices by binary search, from 1; 0 for pairs that are unknown.

        It uses only gathers and comparisons, which every backend and export format supports.
        """
        keys = ops.convert_to_tensor(self.keys)
        places = ops.zeros_like(wanted)  # the number of keys known to be no larger
        for bit in reversed(range(self.pairs.bit_length())):
            further = places + (1 << bit)
            key = ops.take(keys, ops.minimum(further, self.pairs) - 1, axis=0)
            smaller = ops.logical_and(further <= self.pairs, key <= wanted)
            places = ops.where(smaller, further, places)
        matches = ops.take(keys, ops.maximum(places, 1) - 1, axis=0) == wanted
        return ops.where(ops.logical_and(matches, wanted >= 0), places, 0)

    def compute_output_shape(self, inputs_shape: Any) -> tuple[int | None, ...]:
        return (*inputs_shape, 2 * self.units)

    def compute_mask(self, inputs: Tensor, mask: Any = None) -> Tensor:
        return ops.not_equal(inputs, 0)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "pairs": self.pairs,
            "units": self.units,
            "dropout": self.dropout,
            "seed": self.seed,
        }


def _keys(pairs: Any) -> np.ndarray:
    """One number per pair, in order; -1, which no pair has, if only the count is known."""
    if isinstance(pairs, Integral) and not isinstance(pairs, bool):
        if not 1 <= pairs <= IDS**2:
            raise ValueError(f"pairs={pairs!r}: expected 1 to {IDS**2} pairs.")
        return np.full(int(pairs), -1, "int32")
    known = np.asarray(pairs)
    if known.ndim != 2 or known.shape[1] != 2 or not np.issubdtype(known.dtype, np.integer):
        raise ValueError(
            f"pairs: expected integers of the shape (count, 2); received {known.dtype} of the "
            f"shape {known.shape}."
        )
    if not len(known):
        raise ValueError("pairs: expected at least one pair; received none.")
    if known.min() < 0 or known.max() >= IDS:
        raise ValueError(
            f"pairs: expected ids from 0 to {IDS - 1}; received {known.min()} to {known.max()}."
        )
    keys = np.unique(known[:, 0].astype("int32") * IDS + known[:, 1])
    if len(keys) != len(known):
        raise ValueError(f"pairs: {len(known) - len(keys)} of {len(known)} are duplicates.")
    return keys
