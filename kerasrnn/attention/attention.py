"""The base class of attention: the prepared memory, the softmax and the layer's call."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.attention.normalization import NORMALIZATIONS, normalized, wide_dtype
from kerasrnn.attention.products import SourceProduct
from kerasrnn.base_layer import SequenceLayer, boolean_mask
from kerasrnn.cells.cell import weights_by_name

Tensor = Any

CALL = """
Call arguments:
    query: `(batch, width)`, or `(batch, time, width)`: one query per step.
    keys: `(batch, positions, width)`.
    values: `(batch, positions, width)`; default: the keys.
    keys_mask: boolean `(batch, positions)`, True = may be attended to. Default: the mask attached
        to the keys, if any.
    training: whether noise is added, of an attention that has any.

Returns:
    `(context, weights)`: `(batch, [time,] width of values)` and `(batch, [time,] positions)`.

`normalization`: "softmax" gives every position a positive weight. "sparsemax" (Martins & Astudillo
2016, "From softmax to sparsemax") and "entmax" (Peters, Niculae & Martins 2019, "Sparse
sequence-to-sequence models", with an alpha of 1.5) give positions with low scores a weight of 0:

    sparsemax    alpha_j = max(e_j - tau, 0)
    entmax       alpha_j = max(e_j / 2 - tau, 0)^2          tau: such that the sum is 1

Masking: a masked position has a weight of 0. A fully masked row has weights of 0 and a context of
0.

Raises:
    ValueError: an argument is out of its range, or a tensor has the wrong shape.
"""


class Attention(SequenceLayer):
    """The base class of attention: a subclass defines `scores` and their inputs.

        e_j = score(s, h_j),   alpha = softmax(e),   c = sum_j alpha_j v_j

    or with another `normalization` in the place of the softmax: see `attention.normalization`.

    It is used as a layer, by an `AttentionCell` in the time loop, and by a decoder step by step.
    All call `attend`, with the result of `prepare_memory`, which is computed once from the keys,
    the values and their mask, and with the `products` of a step.
    """

    state_names: ClassVar[tuple[str, ...]] = ()
    """States passed from step to step besides the weights, each `(batch, positions)`."""

    has_memory: ClassVar[bool] = False
    """Whether the weights of a step depend on those of the previous step."""

    product_count: int = 2
    """The number of products that `attend` applies, including the context's."""

    at_once: bool = False
    """Whether the weights of all steps can be computed at once, storing nothing but the weights."""

    def __init__(
        self,
        kernel_initializer: Any = "glorot_uniform",
        normalization: str = "softmax",
        **kwargs: Any,
    ) -> None:
        validation.one_of("normalization", normalization, NORMALIZATIONS)
        super().__init__(**kwargs)
        self.kernel_initializer = validation.initializer("kernel_initializer", kernel_initializer)
        self.normalization = normalization
        self.supports_masking = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__doc__ and "@call@" in cls.__doc__:
            import inspect

            cls.__doc__ = inspect.cleandoc(cls.__doc__).replace("@call@", CALL.strip())

    # What an attention defines.

    @property
    def step_weights(self) -> tuple[str, ...]:
        """Names of the weights and of the parts of the prepared memory that `attend` uses."""
        return ("attention_mask",)

    def build(self, query_shape: Any, keys_shape: Any, values_shape: Any = None) -> None:
        self.built = True

    def project(self, keys: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """Project the keys for the scores, `(batch, positions, units)`: once per source."""
        return keys

    def score_products(self, weights: Mapping[str, Tensor]) -> tuple[Any, ...]:
        """The `RecurrentProduct`s and `SourceProduct`s that `scores` applies, in order."""
        # Abstract: every attention has scores.
        raise NotImplementedError(f"{type(self).__name__} must define `score_products`.")

    def scores(
        self,
        query: Tensor,
        states: Sequence[Tensor],
        weights: Mapping[str, Tensor],
        products: Sequence[Any],
    ) -> Tensor:
        """Compute e, `(batch, [time,] positions)`."""
        # Abstract: every attention has scores.
        raise NotImplementedError(f"{type(self).__name__} must define `scores`.")

    def align(
        self, scores: Tensor, states: Sequence[Tensor], weights: Mapping[str, Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Compute `(alpha, new states)` from the scores and the states of the previous step."""
        return normalized(scores, weights["attention_mask"], self.normalization), []

    def initial_states(self, prepared: Mapping[str, Tensor]) -> list[Tensor]:
        """The weights before the first step, and the states of `state_names`: zeros."""
        zeros = ops.zeros_like(prepared["attention_mask"])
        return [zeros for _ in ("weights", *self.state_names)]

    noisy = False
    """Whether `draw_noise` draws what a step finds in training as `weights["attention_noise"]`."""

    def draw_noise(self, shape: Any, dtype: str) -> Tensor:
        """Draw the noise, of the shape `(batch, [time,] positions)`."""
        raise NotImplementedError(f"{type(self).__name__} must define `draw_noise` if it is noisy.")

    # The interface to a cell and a decoder.

    def prepare_memory(
        self,
        keys: Tensor,
        values: Tensor | None = None,
        mask: Tensor | None = None,
        weights: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Compute once what depends only on the memory: tensors with a batch axis, by name."""
        weights = weights_by_name(self) if weights is None else weights
        keys = ops.cast(keys, self.compute_dtype)
        values = keys if values is None else ops.cast(values, self.compute_dtype)
        if mask is None:
            mask = ops.ones_like(keys[..., 0], dtype="bool")
        return {
            "attention_keys": self.project(keys, weights),
            "attention_values": values,
            "attention_mask": ops.cast(mask, self.compute_dtype),
        }

    def products(self, weights: Mapping[str, Tensor]) -> tuple[Any, ...]:
        """The products that `attend` applies, once each and in order; `weights` include the
        prepared memory."""
        return (*self.score_products(weights), SourceProduct(weights["attention_values"]))

    def attend(
        self,
        query: Tensor,
        states: Sequence[Tensor],
        weights: Mapping[str, Tensor],
        products: Sequence[Any],
    ) -> tuple[Tensor, list[Tensor]]:
        """Compute `(context, states)` for one or several queries per row; alpha is the first state.

        Args:
            query: s, `(batch, [time,] width)`.
            states: from `initial_states` or the previous step.
            weights: the weights named in `step_weights`, by name.
            products: the result of `products`.
        """
        *of_scores, into_context = products
        scores = self.scores(query, states, weights, of_scores)
        alpha, new = self.align(scores, states, weights)
        return into_context(alpha), [alpha, *new]

    # The layer.

    def call(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor | None = None,
        keys_mask: Tensor | None = None,
        training: bool | None = False,
    ) -> tuple[Tensor, Tensor]:
        self._check(query, keys, values)
        if keys_mask is not None:
            keys_mask = self._as_mask("keys_mask", keys_mask, keys)
        weights = weights_by_name(self)
        prepared = self.prepare_memory(keys, values, keys_mask, weights)
        weights = {**weights, **prepared}
        products = self.products(weights)
        states = self.initial_states(prepared)
        noise = None
        if training and self.noisy:
            shape = (*ops.shape(query)[:-1], ops.shape(keys)[1])
            noise = self.draw_noise(shape, self.compute_dtype)
        if len(query.shape) == 2 or not self.has_memory:
            query = ops.cast(query, self.compute_dtype)
            weights["attention_noise"] = noise
            context, states = self.attend(query, states, weights, products)
            return context, states[0]
        # States are carried as in the time loop: see `recurrence.unroll`.
        wide = wide_dtype(self.compute_dtype)
        weights = {name: ops.cast(weights[name], wide) for name in self.step_weights}
        query, *states = (ops.cast(x, wide) for x in (query, *states))

        def step(carry: list[Tensor], x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
            query, *noise = x
            named = {**weights, "attention_noise": noise[0]} if noise else weights
            context, states = self.attend(query, carry[1:], named, products)
            return [context, *states], [context, *states]  # TensorFlow needs equal structures

        nothing = ops.cast(ops.zeros_like(prepared["attention_values"][:, 0]), wide)
        by_step = [query] if noise is None else [query, ops.cast(noise, wide)]
        by_step = [ops.swapaxes(x, 0, 1) for x in by_step]
        _, steps = ops.scan(step, [nothing, *states], by_step)
        context, alpha = (ops.cast(ops.swapaxes(x, 0, 1), self.compute_dtype) for x in steps[:2])
        return context, alpha

    def compute_output_shape(
        self,
        query_shape: Any,
        keys_shape: Any,
        values_shape: Any = None,
        keys_mask_shape: Any = None,
    ) -> tuple[Any, Any]:
        width = (values_shape or keys_shape)[-1]
        return (*query_shape[:-1], width), (*query_shape[:-1], keys_shape[1])

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """The mask of the queries, for both results."""
        return [mask[0] if isinstance(mask, (list, tuple)) else mask] * 2

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "normalization": self.normalization,
        }

    def _as_mask(self, name: str, mask: Any, keys: Tensor) -> Tensor:
        return boolean_mask(
            f"{self.name}: {name}",
            mask,
            keys.shape[:2],
            axes="(batch, positions)",
            used="it may be attended to",
        )

    def _check(self, query: Any, keys: Any, values: Any) -> None:
        if len(query.shape) not in (2, 3):
            raise ValueError(
                f"{self.name}: query has the shape {tuple(query.shape)}; expected (batch, width) "
                "or (batch, time, width)."
            )
        for name, x in (("keys", keys), ("values", values)):
            if x is not None and len(x.shape) != 3:
                raise ValueError(
                    f"{self.name}: {name} has the shape {tuple(x.shape)}; expected (batch, "
                    "positions, width)."
                )
        if keys.shape[1] == 0:
            raise ValueError(f"{self.name}: keys of shape {tuple(keys.shape)} have no positions.")


def additive_scores(
    compared: Tensor, keys: Tensor, v: Tensor, features: Sequence[Tensor] = ()
) -> Tensor:
    """`v^T tanh(compared + keys_j + ...)`, `(batch, [time,] positions)`.

    Args:
        compared: the query's contribution, `(batch, [time,] units)`.
        keys: the keys' contribution, `(batch, positions, units)`.
        v: `(units,)`.
        features: further contributions of each position, `(batch, positions, units)`.
    """
    inner = ops.expand_dims(compared, -2)
    inner = inner + (ops.expand_dims(keys, 1) if len(compared.shape) == 3 else keys)
    for feature in features:
        inner = inner + feature
    return ops.sum(ops.tanh(inner) * v, axis=-1)
