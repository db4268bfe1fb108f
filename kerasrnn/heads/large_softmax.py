"""What softmaxes over many classes share."""

from typing import Any

import keras
from keras import ops

from kerasrnn.base_layer import SequenceLayer
from kerasrnn.losses.structured import TOKENS, TokenDistribution, attach, tokens_of

Tensor = Any


class LargeSoftmax(SequenceLayer):
    """The base class: probabilities of all classes, with what losses need instead of them.

    A subclass defines `log_probabilities` and `distribution`. The products are computed in the
    compute dtype, sums over the classes in float32.

    Args:
        classes: number of classes.
    """

    def __init__(self, classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.classes = classes
        self.supports_masking = True

    def tensors(self) -> list[Tensor]:
        """The weights, as tensors, read where the layer is called.

        A loss or a metric is no call of the layer: on JAX it has no access to variables.
        """
        weights = self.weights  # without the state of random numbers
        return [ops.cast(ops.convert_to_tensor(weight), self.compute_dtype) for weight in weights]

    def log_probabilities(self, features: Tensor, weights: list[Tensor]) -> Tensor:
        """Those of all classes, `(batch, ..., classes)`."""
        raise NotImplementedError(f"{type(self).__name__} must define `log_probabilities`.")

    def distribution(
        self, features: Tensor, weights: list[Tensor], training: bool | None
    ) -> TokenDistribution:
        """What losses need instead of the probabilities."""
        raise NotImplementedError(f"{type(self).__name__} must define `distribution`.")

    def logits(self, features: Tensor, training: bool | None = None) -> Tensor:
        """The logarithms of the output, with the distribution behind it, for a `Decoder`.

        In a graph, nothing computes them if nothing reads them.
        """
        x = self.in_compute_dtype(features)
        weights = self.tensors()
        y = self.log_probabilities(x, weights)
        attach(y, self.distribution(x, weights, training), TOKENS)
        return y

    def call(self, features: Tensor, training: bool | None = None) -> Tensor:
        log_p = self.logits(features, training)
        return with_tokens_of(log_p, ops.cast(ops.exp(log_p), self.variable_dtype))

    def compute_output_spec(self, features: Any, training: bool | None = None) -> keras.KerasTensor:
        return keras.KerasTensor((*features.shape[:-1], self.classes), self.variable_dtype)

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor | None:
        return mask

    def _features(self, features_shape: Any) -> int:
        if len(features_shape) < 2 or features_shape[-1] is None:
            raise ValueError(
                f"{self.name}: features of the shape {tuple(features_shape)}; expected (batch, "
                "..., features), with a known number of features."
            )
        return features_shape[-1]


@keras.saving.register_keras_serializable(package="kerasrnn")
class TokenSoftmax(keras.layers.Layer):
    """The softmax of a decoder's logits, with what losses need of a large one."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, logits: Tensor) -> Tensor:
        return with_tokens_of(logits, ops.softmax(logits, axis=-1))

    def compute_output_shape(self, logits_shape: Any) -> Any:
        return logits_shape


def with_tokens_of(tensor: Tensor, y: Tensor) -> Tensor:
    """y, with the distribution behind another tensor, if there is one."""
    behind = tokens_of(tensor)
    if behind is not None:
        attach(y, behind, TOKENS)
    return y


def in_use(features: Tensor, used: Tensor | None) -> Tensor:
    """The features, and zeros at steps that are not used: NaN would be in all gradients."""
    return features if used is None else ops.where(ops.expand_dims(used, -1), features, 0)


def wide(x: Tensor) -> Tensor:
    """In float32, or in float64 if it is."""
    double = keras.backend.standardize_dtype(x.dtype) == "float64"
    return ops.cast(x, "float64" if double else "float32")


def picked(log_probabilities: Tensor, ids: Tensor) -> Tensor:
    """The entry of each row, for `(..., classes)` and `(...)`."""
    return ops.squeeze(
        ops.take_along_axis(log_probabilities, ops.expand_dims(ids, -1), axis=-1), axis=-1
    )
