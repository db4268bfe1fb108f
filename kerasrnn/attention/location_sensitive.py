"""Location-aware attention: Chorowski et al. (2015); See, Liu & Manning (2017)."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.attention.bahdanau import BahdanauAttention
from kerasrnn.validation import PositiveInteger

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class LocationSensitiveAttention(BahdanauAttention):
    """Additive attention that also uses the previous weights, through a convolution.

    Chorowski et al. (2015), "Attention-based models for speech recognition", equations 8 and 9:

        f_j = sum_k F_k alpha'_{j + k}                      k around 0, zeros around the source
        e_j = v^T tanh(s W + h_j U + f_j U_f + b)

    alpha' are the weights of the previous step, zeros before the first; with `cumulative`, the sum
    of the weights of all previous steps, as in Shen et al. (2018), "Natural TTS synthesis by
    conditioning WaveNet on mel spectrogram predictions", section 2.2. The attention can thus
    distinguish positions with similar content, and continue from the previous position.

    Weights: those of `BahdanauAttention`, then `location_filters` F `(kernel_size, 1, filters)` and
    `location_kernel` U_f `(filters, units)`.

    Args:
        units: positive integer: the width of the comparison.
        filters: positive integer: the number of filters of the convolution.
        kernel_size: positive odd integer: the width of the convolution.
        cumulative: whether the convolution reads the sum of all previous weights.
        normalize: see `BahdanauAttention`.
        use_bias: whether to add b.
        kernel_initializer: initializer of the kernels, filters and v.
        normalization: "softmax", "sparsemax" or "entmax".

    @call@

    As a layer, several queries are processed as the steps of a sequence; a single query is a first
    step. In an `AttentionCell` the weights are carried from step to step.

    Example:

        >>> import numpy as np, kerasrnn
        >>> attention = kerasrnn.LocationSensitiveAttention(8, filters=4, kernel_size=3)
        >>> context, weights = attention(
        ...     np.ones((2, 5, 4), "float32"), np.ones((2, 3, 6), "float32"))
        >>> tuple(context.shape), tuple(weights.shape)
        ((2, 5, 6), (2, 5, 3))
    """

    has_memory = True

    @validation.checked
    def __init__(
        self,
        units: PositiveInteger,
        filters: PositiveInteger = 32,
        kernel_size: PositiveInteger = 31,
        cumulative: bool = False,
        normalize: bool = False,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        normalization: str = "softmax",
        **kwargs: Any,
    ) -> None:
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={kernel_size!r}: expected an odd number.")
        super().__init__(units, normalize, use_bias, kernel_initializer, normalization, **kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.cumulative = cumulative
        self.state_names = ("cumulated",) if cumulative else ()

    @property
    def step_weights(self) -> tuple[str, ...]:
        return (*super().step_weights, "location_filters", "location_kernel")

    def build(self, query_shape: Any, keys_shape: Any, values_shape: Any = None) -> None:
        super().build(query_shape, keys_shape, values_shape)
        for name, shape in (
            ("location_filters", (self.kernel_size, 1, self.filters)),
            ("location_kernel", (self.filters, self.units)),
        ):
            self.add_weight(shape=shape, name=name, initializer=self.kernel_initializer)

    def position_features(
        self, states: Sequence[Tensor], weights: Mapping[str, Tensor]
    ) -> Sequence[Tensor]:
        before = ops.expand_dims(states[-1], -1)  # the sum, with `cumulative`
        seen = ops.conv(before, weights["location_filters"], padding="same")
        return (ops.matmul(seen, weights["location_kernel"]),)

    def align(
        self, scores: Tensor, states: Sequence[Tensor], weights: Mapping[str, Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        alpha, _ = super().align(scores, states, weights)
        return alpha, [states[1] + alpha] if self.cumulative else []

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "cumulative": self.cumulative,
        }


@keras.saving.register_keras_serializable(package="kerasrnn")
class CoverageAttention(BahdanauAttention):
    """Additive attention that also uses the accumulated weights of each position.

    See, Liu & Manning (2017), "Get to the point: summarization with pointer-generator networks",
    equations 10 and 11:

        u_j = the sum of the weights of position j over all previous steps
        e_j = v^T tanh(s W + h_j U + u_j w_u + b)

    so that a decoder can learn to cover every position once.

    Weights: those of `BahdanauAttention`, then `coverage_kernel` w_u `(units,)`.

    Args:
        units: positive integer: the width of the comparison.
        normalize: see `BahdanauAttention`.
        use_bias: whether to add b.
        kernel_initializer: initializer of the kernels and vectors.
        normalization: "softmax", "sparsemax" or "entmax".

    @call@

    As a layer, several queries are processed as the steps of a sequence; a single query is a first
    step. In an `AttentionCell` the sums are carried from step to step.

    Example:

        >>> import numpy as np, kerasrnn
        >>> context, weights = kerasrnn.CoverageAttention(8)(
        ...     np.ones((2, 5, 4), "float32"), np.ones((2, 3, 6), "float32"))
        >>> bool(np.allclose(np.sum(weights, axis=-1), 1))
        True
    """

    has_memory = True
    state_names = ("coverage",)

    @validation.checked
    def __init__(
        self,
        units: PositiveInteger,
        normalize: bool = False,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        normalization: str = "softmax",
        **kwargs: Any,
    ) -> None:
        super().__init__(units, normalize, use_bias, kernel_initializer, normalization, **kwargs)

    @property
    def step_weights(self) -> tuple[str, ...]:
        return (*super().step_weights, "coverage_kernel")

    def build(self, query_shape: Any, keys_shape: Any, values_shape: Any = None) -> None:
        super().build(query_shape, keys_shape, values_shape)
        self.add_weight(
            shape=(self.units,), name="coverage_kernel", initializer=self.kernel_initializer
        )

    def position_features(
        self, states: Sequence[Tensor], weights: Mapping[str, Tensor]
    ) -> Sequence[Tensor]:
        return (ops.expand_dims(states[1], -1) * weights["coverage_kernel"],)

    def align(
        self, scores: Tensor, states: Sequence[Tensor], weights: Mapping[str, Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        alpha, _ = super().align(scores, states, weights)
        return alpha, [states[1] + alpha]
