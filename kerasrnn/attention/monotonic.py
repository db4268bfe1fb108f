"""Monotonic attention: Raffel et al. (2017)."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.attention.attention import Attention
from kerasrnn.attention.normalization import wide_dtype
from kerasrnn.validation import NonNegativeNumber, Seed

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class MonotonicAttention(Attention):
    """Attention that only moves forward, with the scores of another attention.

    Raffel, Luong, Liu, Weiss & Eck (2017), "Online and linear-time attention by enforcing monotonic
    alignments". From its current position it inspects one position after the other, and stops at
    the first one that it selects. e_j are the other attention's scores, r is a bias, and alpha' are
    the weights of the previous step, initially at the first position:

        p_j = sigmoid(e_j + r)                                                      (5, 16)
        soft:  q_j = (1 - p_{j-1}) q_{j-1} + alpha'_j,   alpha_j = p_j q_j          (8, 9)
        hard:  alpha_j = 1 at the first j from the last one on with p_j > 1/2       (algorithm 1)

    Soft weights are the expected weights, for training; they sum to 1 or less, and the rest is the
    probability that no position is selected. Hard weights process the source online in linear time;
    they have no gradient. If no position is selected for a row, its weights are 0 from then on.

    With `noise`, a normally distributed number is added to each e_j + r in training. To be robust
    against it, the scores become large, and the p_j close to 0 or 1, so that hard weights do not
    differ much from the soft ones of training.

    Weights: those of the other attention, then `monotonic_bias` r `()`.

    Args:
        attention: the attention that computes the scores: a new `BahdanauAttention` (the paper uses
            `normalize`) or a `LuongAttention` without a window.
        hard: whether the weights are hard. May be changed at any time: train with False, then set
            it to True.
        bias: the initial value of r; negative values make positions far ahead accessible from the
            beginning.
        noise: standard deviation of the noise in training, 0 or more; the paper uses 1.
        seed: integer that makes the noise reproducible.

    @call@

    As a layer, several queries are processed as the steps of a sequence; a single query is a first
    step. In an `AttentionCell` the weights are carried from step to step.

    Example:

        >>> import numpy as np, kerasrnn
        >>> attention = kerasrnn.MonotonicAttention(kerasrnn.LuongAttention("dot"), hard=True)
        >>> keys = np.eye(3, dtype="float32")[None] * 9
        >>> queries = np.array([[[-1, 1, 0], [-1, -1, 1]]], "float32")
        >>> np.asarray(attention(queries, keys)[1]).astype(int).tolist()
        [[[0, 1, 0], [0, 0, 1]]]
    """

    has_memory = True

    @validation.checked
    def __init__(
        self,
        attention: Attention,
        hard: bool = False,
        bias: float = 0.0,
        noise: NonNegativeNumber = 0.0,
        seed: Seed | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(attention, Attention) or attention.has_memory:
            raise ValueError(
                f"attention={attention!r}: expected an attention that does not depend "
                "on the previous step, such as BahdanauAttention."
            )
        if getattr(attention, "window", None) is not None:
            raise ValueError(
                f"attention: {attention.name} has window={attention.window!r}; expected None."
            )
        if attention.normalization != "softmax":
            raise ValueError(
                f"attention: {attention.name} has normalization={attention.normalization!r}, and "
                "monotonic attention normalizes in its own way; expected the default, 'softmax'."
            )
        if attention.built:
            raise ValueError(f"attention: {attention.name} is built; expected a new attention.")
        for name in ("kernel_initializer", "normalization"):
            if name in kwargs:
                raise ValueError(
                    f"{name}={kwargs[name]!r}: an argument of the attention that computes the "
                    "scores; expected none here."
                )
        super().__init__(**kwargs)
        self.attention = attention
        self.hard = hard
        self.bias = bias
        self.noise = noise
        self.seed = seed
        self.noise_seed = keras.random.SeedGenerator(seed) if noise else None

    @property
    def product_count(self) -> int:
        return self.attention.product_count

    @property
    def step_weights(self) -> tuple[str, ...]:
        return (*self.attention.step_weights, "monotonic_bias")

    def build(self, query_shape: Any, keys_shape: Any, values_shape: Any = None) -> None:
        self.attention.build(query_shape, keys_shape, values_shape)
        self.add_weight(
            shape=(), name="monotonic_bias", initializer=keras.initializers.Constant(self.bias)
        )
        super().build(query_shape, keys_shape, values_shape)

    def project(self, keys: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        return self.attention.project(keys, weights)

    def score_products(self, weights: Mapping[str, Tensor]) -> tuple[Any, ...]:
        return self.attention.score_products(weights)

    def scores(
        self,
        query: Tensor,
        states: Sequence[Tensor],
        weights: Mapping[str, Tensor],
        products: Sequence[Any],
    ) -> Tensor:
        scores = self.attention.scores(query, states, weights, products)
        scores = scores + weights["monotonic_bias"]
        noise = weights.get("attention_noise")
        return scores if noise is None else scores + noise

    @property
    def noisy(self) -> bool:
        return bool(self.noise) and not self.hard

    def draw_noise(self, shape: Any, dtype: str) -> Tensor:
        return keras.random.normal(shape, stddev=self.noise, dtype=dtype, seed=self.noise_seed)

    def align(
        self, scores: Tensor, states: Sequence[Tensor], weights: Mapping[str, Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        dtype, wide = scores.dtype, wide_dtype(scores.dtype)
        # Half precision cannot represent small differences of large sums.
        scores, before, mask = (
            ops.cast(x, wide) for x in (scores, states[0], weights["attention_mask"])
        )
        if self.hard:
            reached = ops.cumsum(before, axis=-1) * mask
            chosen = ops.where(scores > 0, reached, 0)
            first = ops.equal(ops.cumsum(chosen, axis=-1), 1)
            return ops.cast(ops.where(first, chosen, 0), dtype), []
        p = ops.sigmoid(scores) * mask
        # (8) expanded: q_j = sum_{k <= j} alpha'_k prod_{l = k}^{j - 1} (1 - p_l). The products are
        # exponentials of differences of sums of logarithms: no division, no overflow.
        passed = ops.log_sigmoid(-scores) * mask
        passed = ops.cumsum(passed, axis=-1) - passed
        between = ops.expand_dims(passed, -2) - ops.expand_dims(passed, -1)  # (batch, k, j)
        position = ops.arange(ops.shape(scores)[-1])
        later = ops.expand_dims(position, -2) >= ops.expand_dims(position, -1)
        between = ops.where(later, ops.exp(ops.where(later, between, 0)), 0)
        return ops.cast(p * ops.einsum("bk,bkj->bj", before, between), dtype), []  # (9)

    def initial_states(self, prepared: Mapping[str, Tensor]) -> list[Tensor]:
        mask = prepared["attention_mask"]
        return [ops.where(ops.equal(ops.cumsum(mask, axis=-1), 1), mask, 0)]

    def get_config(self) -> dict[str, Any]:
        attention = keras.saving.serialize_keras_object(self.attention)
        attention.pop("build_config", None)
        config = {**super().get_config(), "attention": attention}
        for name in ("kernel_initializer", "normalization"):
            del config[name]  # the other attention's
        return {
            **config,
            "hard": self.hard,
            "bias": self.bias,
            "noise": self.noise,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "MonotonicAttention":
        attention = keras.saving.deserialize_keras_object(config["attention"])
        return cls(**{**config, "attention": attention})
