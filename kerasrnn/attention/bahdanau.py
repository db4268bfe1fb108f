"""Additive attention: Bahdanau, Cho & Bengio (2015)."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.attention.attention import Attention, additive_scores
from kerasrnn.recurrence.products import RecurrentProduct
from kerasrnn.validation import PositiveInteger

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class BahdanauAttention(Attention):
    """Additive attention: a small network compares the query with each key.

    Bahdanau, Cho & Bengio (2015), "Neural machine translation by jointly learning to align and
    translate", appendix A.1.2, with the state s as the query and the annotations h_j as keys:

        e_j = v^T tanh(s W + h_j U + b)
        alpha_j = exp(e_j) / sum_k exp(e_k)
        c = sum_j alpha_j h_j

    b is present with `use_bias`. With `normalize`, v is `g v / |v|`, which trains better according
    to Raffel et al. (2017), "Online and linear-time attention by enforcing monotonic alignments",
    equation 16. The keys' contribution, `h_j U`, is computed once per source.

    Weights: `query_kernel` W `(query width, units)`, `key_kernel` U `(key width, units)`,
    `attention_v` v `(units,)`, then, if enabled, `attention_g` g `()` and `attention_bias` b
    `(units,)`.

    Args:
        units: positive integer: the width of the comparison.
        normalize: whether v is normalized and scaled by g, which is initially `1 / sqrt(units)`.
        use_bias: whether to add b.
        kernel_initializer: initializer of W, U and v.
        normalization: "softmax", "sparsemax" or "entmax".

    @call@

    Example:

        >>> import numpy as np, kerasrnn
        >>> attention = kerasrnn.BahdanauAttention(8)
        >>> mask = np.array([[True, True, False], [True, True, True]])
        >>> context, weights = attention(
        ...     np.ones((2, 4), "float32"), np.ones((2, 3, 6), "float32"), keys_mask=mask)
        >>> tuple(context.shape), np.round(np.asarray(weights), 2)[0].tolist()
        ((2, 6), [0.5, 0.5, 0.0])
    """

    @validation.checked
    def __init__(
        self,
        units: PositiveInteger,
        normalize: bool = False,
        use_bias: bool = False,
        kernel_initializer: Any = "glorot_uniform",
        normalization: str = "softmax",
        **kwargs: Any,
    ) -> None:
        super().__init__(kernel_initializer, normalization, **kwargs)
        self.units = units
        self.normalize = normalize
        self.use_bias = use_bias

    @property
    def step_weights(self) -> tuple[str, ...]:
        optional = (("attention_g", self.normalize), ("attention_bias", self.use_bias))
        used = [name for name, present in optional if present]
        return (*super().step_weights, "attention_keys", "attention_v", *used)

    def build(self, query_shape: Any, keys_shape: Any, values_shape: Any = None) -> None:
        for name, width in (("query_kernel", query_shape[-1]), ("key_kernel", keys_shape[-1])):
            self.add_weight(
                shape=(width, self.units), name=name, initializer=self.kernel_initializer
            )
        self.add_weight(
            shape=(self.units,), name="attention_v", initializer=self.kernel_initializer
        )
        if self.normalize:
            start = keras.initializers.Constant(self.units**-0.5)
            self.add_weight(shape=(), name="attention_g", initializer=start)
        if self.use_bias:
            self.add_weight(shape=(self.units,), name="attention_bias", initializer="zeros")
        super().build(query_shape, keys_shape, values_shape)

    def project(self, keys: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        return ops.matmul(keys, weights["key_kernel"])

    def score_products(self, weights: Mapping[str, Tensor]) -> tuple[Any, ...]:
        return (RecurrentProduct(weights["query_kernel"], None),)

    def scores(
        self,
        query: Tensor,
        states: Sequence[Tensor],
        weights: Mapping[str, Tensor],
        products: Sequence[Any],
    ) -> Tensor:
        compared = products[0](query)
        if self.use_bias:
            compared = compared + weights["attention_bias"]
        v = weights["attention_v"]
        if self.normalize:
            v = weights["attention_g"] * v * ops.rsqrt(ops.sum(ops.square(v)))
        features = self.position_features(states, weights)
        return additive_scores(compared, weights["attention_keys"], v, features)

    def position_features(
        self, states: Sequence[Tensor], weights: Mapping[str, Tensor]
    ) -> Sequence[Tensor]:
        """Terms that a subclass adds inside the tanh, each `(batch, positions, units)`."""
        return ()

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "normalize": self.normalize,
            "use_bias": self.use_bias,
        }
