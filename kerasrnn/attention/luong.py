"""Multiplicative attention, global and local: Luong, Pham & Manning (2015)."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.attention.attention import Attention, additive_scores
from kerasrnn.attention.normalization import along, normalized, wide_dtype
from kerasrnn.attention.products import SourceProduct
from kerasrnn.recurrence.products import RecurrentProduct
from kerasrnn.validation import PositiveInteger

Tensor = Any

SCORES = ("dot", "scaled_dot", "general", "concat")


@keras.saving.register_keras_serializable(package="kerasrnn")
class LuongAttention(Attention):
    """Multiplicative attention: the query times each key, global or local.

    Luong, Pham & Manning (2015), "Effective approaches to attention-based neural machine
    translation", equations 7 to 10, with the state s as the query:

        "dot"          e_j = s^T h_j                                                   (8)
        "scaled_dot"   e_j = s^T h_j / sqrt(width of h)     (Vaswani et al. 2017, equation 1)
        "general"      e_j = s^T W h_j                                                 (8)
        "concat"       e_j = v^T tanh(W_s s + W_h h_j)                                 (8)
        alpha_j = exp(e_j) / sum_k exp(e_k)                                            (7)

    With a `window` D, it is local with predictive alignment (local-p): for a source of S positions,

        p = S sigmoid(v_p^T tanh(W_p s))                                               (9)
        alpha_j = softmax over |j - p| <= D of e_j, times exp(-(j - p)^2 / (2 (D/2)^2))   (10)

    so the weights sum to less than 1. j counts the unmasked positions, from 0. The projection of
    the keys (`W h_j`) is computed once per source.

    Weights: "general": `key_kernel` W `(key width, query width)`; "concat": `query_kernel` `(query
    width, units)`, `key_kernel` `(key width, units)`, `attention_v` `(units,)`; local:
    `position_kernel` W_p `(query width, query width)`, `position_v` v_p `(query width,)`.

    Args:
        score: "dot", "scaled_dot", "general" or "concat".
        units: positive integer: the width of the comparison, only with "concat".
        window: D, a positive integer, or None: global.
        kernel_initializer: initializer of the kernels and vectors.
        normalization: "softmax", "sparsemax" or "entmax".

    @call@

    Example:

        >>> import numpy as np, kerasrnn
        >>> h = np.array([[[1, 0], [0, 1]]], "float32")
        >>> context, weights = kerasrnn.LuongAttention("dot")(np.array([[9, 0]], "float32"), h)
        >>> np.round(np.asarray(weights), 3).tolist()
        [[1.0, 0.0]]
    """

    @validation.checked
    def __init__(
        self,
        score: str = "general",
        units: PositiveInteger | None = None,
        window: PositiveInteger | None = None,
        kernel_initializer: Any = "glorot_uniform",
        normalization: str = "softmax",
        **kwargs: Any,
    ) -> None:
        if score not in SCORES:
            raise ValueError(f"score={score!r}: expected one of {', '.join(map(repr, SCORES))}.")
        if score == "concat":
            units = validation.positive_integer("units", units)
        elif units is not None:
            raise ValueError(f"units={units!r}: only for score='concat'; expected None.")
        super().__init__(kernel_initializer, normalization, **kwargs)
        self.score = score
        self.units = units
        self.window = window

    @property
    def at_once(self) -> bool:
        return self.score != "concat"

    @property
    def product_count(self) -> int:
        return 2 if self.window is None else 3

    @property
    def step_weights(self) -> tuple[str, ...]:
        names = super().step_weights
        if self.score == "concat":
            names += ("attention_keys", "attention_v")
        if self.window is not None:
            names += ("position_v",)
        return names

    def build(self, query_shape: Any, keys_shape: Any, values_shape: Any = None) -> None:
        query, keys = query_shape[-1], keys_shape[-1]
        if self.score in ("dot", "scaled_dot") and query != keys:
            raise ValueError(
                f"{self.name}: score={self.score!r} expects queries and keys of equal width; "
                f"received {query} and {keys}. 'general' accepts any."
            )
        shapes: dict[str, tuple[int, ...]] = {}
        if self.score == "general":
            shapes["key_kernel"] = (keys, query)
        if self.score == "concat":
            shapes |= {"query_kernel": (query, self.units), "key_kernel": (keys, self.units)}
            shapes["attention_v"] = (self.units,)
        if self.window is not None:
            shapes |= {"position_kernel": (query, query), "position_v": (query,)}
        for name, shape in shapes.items():
            self.add_weight(shape=shape, name=name, initializer=self.kernel_initializer)
        super().build(query_shape, keys_shape, values_shape)

    def project(self, keys: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        if self.score == "scaled_dot":
            return keys * (keys.shape[-1] ** -0.5)
        return keys if self.score == "dot" else ops.matmul(keys, weights["key_kernel"])

    def score_products(self, weights: Mapping[str, Tensor]) -> tuple[Any, ...]:
        products = []
        if self.window is not None:
            products.append(RecurrentProduct(weights["position_kernel"], None))
        if self.score == "concat":
            products.append(RecurrentProduct(weights["query_kernel"], None))
        else:
            products.append(SourceProduct(weights["attention_keys"], transposed=True))
        return tuple(products)

    def attend(
        self,
        query: Tensor,
        states: Sequence[Tensor],
        weights: Mapping[str, Tensor],
        products: Sequence[Any],
    ) -> tuple[Tensor, list[Tensor]]:
        if self.window is None:
            return super().attend(query, states, weights, products)
        into_position, *products = products
        *of_scores, into_context = products
        # Half precision can only count to some hundred positions.
        wide = wide_dtype(query.dtype)
        mask, v = (ops.cast(weights[name], wide) for name in ("attention_mask", "position_v"))
        hidden = ops.tanh(ops.cast(into_position(query), wide))
        share = ops.sigmoid(ops.sum(hidden * v, axis=-1, keepdims=True))
        p = along(ops.sum(mask, axis=-1, keepdims=True), query) * share  # (9)
        scores = ops.cast(self.scores(query, states, weights, of_scores), wide)
        distance = along(ops.cumsum(mask, axis=-1) - 1, scores) - p
        near = ops.cast(ops.abs(distance) <= self.window, wide)
        alpha = normalized(scores, near * along(mask, scores), self.normalization)
        alpha = alpha * ops.exp(-2 * ops.square(distance / self.window))  # (10)
        alpha = ops.cast(alpha, query.dtype)
        return into_context(alpha), [alpha]

    def scores(
        self,
        query: Tensor,
        states: Sequence[Tensor],
        weights: Mapping[str, Tensor],
        products: Sequence[Any],
    ) -> Tensor:
        (product,) = products
        if self.score != "concat":
            return product(query)
        return additive_scores(product(query), weights["attention_keys"], weights["attention_v"])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "score": self.score,
            "units": self.units,
            "window": self.window,
        }
