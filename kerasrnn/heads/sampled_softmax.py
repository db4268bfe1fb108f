"""A softmax that is trained on some of its classes: Bengio & Senecal (2008)."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from kerasrnn import validation
from kerasrnn.heads.large_softmax import LargeSoftmax, in_use, picked, wide
from kerasrnn.recurrence.log_semiring import NEVER
from kerasrnn.validation import ArgumentError, PositiveInteger, Seed

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class SampledSoftmax(LargeSoftmax):
    """A softmax over many classes, whose loss in training compares with some of them.

        s = K x + b
        p(k | x) = softmax(s)_k

    In training, `samples` classes C are drawn for each batch, independently, with the probabilities
    q, and the loss of a target y is

        l = -s_y + log(exp(s_y) + sum_{k in C, k != y} exp(s_k) / (samples q_k))

    The sum is an unbiased estimate of that over all other classes (Bengio & Senecal 2008, "Adaptive
    importance sampling to accelerate training of a neural probabilistic language model"; Blanc &
    Rendle 2018, "Adaptive sampled softmax with kernel based sampling"): with many samples, the
    gradient is that of the full softmax. `tf.nn.sampled_softmax_loss` divides exp(s_y) as well,
    which suits its samples without replacement. Otherwise, in `evaluate`, `predict` and for
    metrics, the softmax is exact: after training, it is a dense layer with a softmax.

    The loss is `kerasrnn.losses.SequenceCrossentropy`. In training, `fit` therefore reports an
    estimate, which is too low in the mean; the validation loss is exact. Metrics of the training
    data compute all classes in each step: leave them out.

    Args:
        classes: number of classes.
        samples: number of samples.
        frequencies: how often each class is drawn, up to a factor: positive numbers, `(classes,)`,
            such as counts in the training data. Default: q_k = log((k + 2) / (k + 1)) / log(classes
            + 1), for classes that are numbered from the most frequent one, as `TextVectorization`
            numbers words.
        use_bias: whether there is a bias b.
        initializer: initializer of the kernel. The kernel is `(classes, features)`, so that the
            rows of the samples are adjacent in memory.
        seed: integer that makes the samples reproducible.

    Call arguments:
        features: x, `(batch, ..., features)`.
        training: whether the loss is that of samples.

    Returns:
        Probabilities, `(batch, ..., classes)`.

    Masking: the mask is passed on, and the loss excludes masked steps.

    Raises:
        ValueError: an argument is out of its range.

    Example:

        >>> import keras, numpy as np, kerasrnn
        >>> words = keras.Input((None,), dtype="int32")
        >>> x = keras.layers.Embedding(10_000, 32, mask_zero=True)(words)
        >>> x = kerasrnn.LSTM(32, return_sequences=True)(x)
        >>> p = kerasrnn.SampledSoftmax(10_000, samples=100, seed=0)(x)
        >>> model = keras.Model(words, p)
        >>> loss = kerasrnn.losses.SequenceCrossentropy(ignore_class=0)
        >>> model.compile("adam", loss, jit_compile=False)
        >>> texts = np.array([[3, 812, 5, 0], [7, 9, 9_999, 2]])
        >>> history = model.fit(texts[:, :-1], texts[:, 1:], verbose=0)
    """

    @validation.checked
    def __init__(
        self,
        classes: PositiveInteger,
        samples: PositiveInteger,
        frequencies: Sequence[float] | None = None,
        use_bias: bool = True,
        initializer: Any = "glorot_uniform",
        seed: Seed | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(classes, **kwargs)
        self.samples = samples
        self.frequencies = None
        if frequencies is not None:
            given = validation.numbers("frequencies", frequencies).astype("float64")
            if given.shape != (classes,) or not ((given > 0) & np.isfinite(given)).all():
                raise ArgumentError(
                    "frequencies",
                    f"an array of the shape {given.shape}, from {given.min()} to {given.max()}",
                    f"{classes} positive numbers",
                )
            self.frequencies = given.tolist()
        self.use_bias = use_bias
        self.initializer = validation.initializer("initializer", initializer)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, features_shape: Any) -> None:
        features = self._features(features_shape)
        self.kernel = self.add_weight((self.classes, features), self.initializer, name="kernel")
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight((self.classes,), "zeros", name="bias")
        self.built = True

    def distribution(
        self, features: Tensor, weights: list[Tensor], training: bool | None
    ) -> "Samples":
        return Samples(self, features, weights, self.draw() if training else None)

    def scores(self, features: Tensor, weights: list[Tensor]) -> Tensor:
        """s, `(batch, ..., classes)`."""
        kernel, *bias = weights
        s = wide(ops.matmul(features, ops.transpose(kernel)))
        return s + wide(bias[0]) if bias else s

    def log_probabilities(self, features: Tensor, weights: list[Tensor]) -> Tensor:
        return ops.log_softmax(self.scores(features, weights), axis=-1)

    def draw(self) -> Tensor:
        """The classes of a batch, int32 `(samples,)`."""
        u = keras.random.uniform((self.samples,), dtype="float32", seed=self.seed_generator)
        if self.frequencies is None:
            drawn = ops.floor(ops.exp(u * math.log(self.classes + 1))) - 1
        else:
            sums = np.cumsum(self.frequencies)
            sums = ops.convert_to_tensor((sums / sums[-1]).astype("float32"))
            drawn = ops.searchsorted(sums, u, side="right")
        return ops.clip(ops.cast(drawn, "int32"), 0, self.classes - 1)

    def log_expected(self, ids: Tensor) -> Tensor:
        """log(samples q_k): how often a class is drawn for a batch."""
        if self.frequencies is None:
            q = ops.log1p(1 / ops.cast(ids + 1, "float32")) / math.log(self.classes + 1)
            return ops.log(self.samples * q)
        q = np.asarray(self.frequencies) / np.sum(self.frequencies)
        log_q = np.log(self.samples * q).astype("float32")
        return ops.take(ops.convert_to_tensor(log_q), ids)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "classes": self.classes,
            "samples": self.samples,
            "frequencies": self.frequencies,
            "use_bias": self.use_bias,
            "initializer": keras.initializers.serialize(self.initializer),
            "seed": self.seed,
        }


class Samples(NamedTuple):
    """The distribution behind the output of a `SampledSoftmax`: see `TokenDistribution`."""

    layer: SampledSoftmax
    features: Tensor
    weights: list[Tensor]
    drawn: Tensor | None

    def exact_losses(self, ids: Tensor, used: Tensor | None) -> Tensor:
        s = self.layer.scores(in_use(self.features, used), self.weights)
        return ops.logsumexp(s, axis=-1) - picked(s, ids)

    def losses(self, ids: Tensor, used: Tensor | None) -> Tensor:
        if self.drawn is None:
            return self.exact_losses(ids, used)
        layer, x = self.layer, in_use(self.features, used)
        kernel, *bias = self.weights

        def with_bias(scores: Tensor, classes: Tensor) -> Tensor:
            scores = wide(scores)
            return scores + wide(ops.take(bias[0], classes, axis=0)) if bias else scores

        of_target = ops.sum(wide(x) * wide(ops.take(kernel, ids, axis=0)), axis=-1)
        of_target = with_bias(of_target, ids)
        of_drawn = ops.matmul(x, ops.transpose(ops.take(kernel, self.drawn, axis=0)))
        of_drawn = with_bias(of_drawn, self.drawn)
        of_drawn = of_drawn - ops.cast(layer.log_expected(self.drawn), of_drawn.dtype)
        hit = ops.expand_dims(ids, -1) == self.drawn
        of_drawn = ops.where(hit, NEVER, of_drawn)
        both = ops.concatenate([ops.expand_dims(of_target, -1), of_drawn], axis=-1)
        return ops.logsumexp(both, axis=-1) - of_target
