"""A softmax whose rare classes are cheap: Grave et al. (2017)."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from kerasrnn import validation
from kerasrnn.heads.large_softmax import LargeSoftmax, in_use, picked, wide
from kerasrnn.validation import ArgumentError, PositiveInteger, PositiveNumber

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
class AdaptiveSoftmax(LargeSoftmax):
    """A softmax over many classes, in clusters by frequency.

    Grave, Joulin, Cisse, Grangier & Jegou (2017), "Efficient softmax approximation for GPUs",
    section 4. Classes are numbered from the most frequent one, as `TextVectorization` numbers
    words. The first ones have a probability of their own, the others that of their cluster times
    that within it:

        p(k | x) = softmax(H x)_k                                             k < cutoffs[0]
        p(k | x) = softmax(H x)_{cutoffs[0] + i} softmax(K_i P_i x)_k         k in the cluster i

    The cluster i has the classes from `cutoffs[i]` up to the next cutoff, and P_i, with
    features / factor^(i + 1) rows, makes rare classes cheap. `H` is `(features, cutoffs[0] +
    clusters)`. The equations and weights are those of `torch.nn.AdaptiveLogSoftmaxWithLoss`, whose
    `div_value` is the factor. It is a model of its own, not an approximation of the full softmax:
    the probabilities sum to 1.

    The loss is `kerasrnn.losses.SequenceCrossentropy`, and `kerasrnn.metrics.Perplexity` a metric:
    they compute the probabilities of the targets alone. On TensorFlow and PyTorch, the classes of a
    cluster are computed for those steps whose target is in it. XLA, and with it JAX, needs shapes
    that do not depend on the targets: there, all clusters are computed for all steps, with the
    small projections. The output, the probabilities of all classes, is computed where it is read:
    by `predict`, or by a metric such as the accuracy.

    Args:
        classes: number of classes.
        cutoffs: where the clusters begin: increasing numbers, from 1 to `classes` - 1.
        factor: by which number the features are divided from one cluster to the next.
        initializer: initializer of the weights.

    Call arguments:
        features: x, `(batch, ..., features)`.
        training: not used; only `SampledSoftmax` differs in training.

    Returns:
        Probabilities, `(batch, ..., classes)`.

    Masking: the mask is passed on, and the loss excludes masked steps.

    Raises:
        ValueError: an argument is out of its range, or a cluster has no feature.

    Example:

        >>> import keras, numpy as np, kerasrnn
        >>> words = keras.Input((None,), dtype="int32")
        >>> x = keras.layers.Embedding(10_000, 32, mask_zero=True)(words)
        >>> x = kerasrnn.LSTM(32, return_sequences=True)(x)
        >>> p = kerasrnn.AdaptiveSoftmax(10_000, cutoffs=[500, 3000])(x)
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
        cutoffs: Sequence[int],
        factor: PositiveNumber = 4.0,
        initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(classes, **kwargs)
        self.cutoffs = list(validation.sizes("cutoffs", cutoffs))
        ends = [0, *self.cutoffs, classes]
        if len(ends) < 3 or any(a >= b for a, b in itertools.pairwise(ends)):
            raise ArgumentError(
                "cutoffs", self.cutoffs, f"increasing integers from 1 to {classes - 1}"
            )
        self.factor = factor
        self.initializer = validation.initializer("initializer", initializer)

    @property
    def clusters(self) -> list[tuple[int, int]]:
        """The first class of each cluster, and the one after its last."""
        ends = [*self.cutoffs, self.classes]
        return list(itertools.pairwise(ends))

    def build(self, features_shape: Any) -> None:
        features = self._features(features_shape)

        def weight(shape: tuple[int, int], name: str) -> Any:
            # One object gives weights of the same shape the same numbers.
            initializer = self.initializer
            if isinstance(initializer, keras.initializers.Initializer):
                initializer = initializer.clone()
            return self.add_weight(shape, initializer, name=name)

        weight((features, self.cutoffs[0] + len(self.clusters)), "head")
        for n, (begin, end) in enumerate(self.clusters):
            size = int(features // self.factor ** (n + 1))
            if not size:
                raise ValueError(
                    f"{self.name}: {features} features, divided by factor={self.factor} for each "
                    f"of {len(self.clusters)} clusters, leave none for the last; expected more "
                    "features, fewer cutoffs or a smaller factor."
                )
            weight((features, size), f"projection_{n}")
            weight((size, end - begin), f"kernel_{n}")
        self.built = True

    def distribution(
        self, features: Tensor, weights: list[Tensor], training: bool | None
    ) -> "Clusters":
        return Clusters(self, features, weights)

    def log_probabilities(self, features: Tensor, weights: list[Tensor]) -> Tensor:
        head = self._head(features, weights)
        parts = [head[..., : self.cutoffs[0]]]
        for n in range(len(self.clusters)):
            of_cluster = head[..., self.cutoffs[0] + n : self.cutoffs[0] + n + 1]
            parts.append(of_cluster + self._tail(features, weights, n))
        return ops.concatenate(parts, axis=-1)

    def _head(self, features: Tensor, weights: list[Tensor]) -> Tensor:
        return ops.log_softmax(wide(ops.matmul(features, weights[0])), axis=-1)

    def _tail(self, features: Tensor, weights: list[Tensor], n: int) -> Tensor:
        """The log-probabilities of the classes within a cluster."""
        projection, kernel = weights[1 + 2 * n : 3 + 2 * n]
        x = ops.matmul(ops.matmul(features, projection), kernel)
        return ops.log_softmax(wide(x), axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "classes": self.classes,
            "cutoffs": self.cutoffs,
            "factor": self.factor,
            "initializer": keras.initializers.serialize(self.initializer),
        }


class Clusters(NamedTuple):
    """The distribution behind the output of an `AdaptiveSoftmax`: see `TokenDistribution`."""

    layer: AdaptiveSoftmax
    features: Tensor
    weights: list[Tensor]

    def losses(self, ids: Tensor, used: Tensor | None) -> Tensor:
        layer, few = self.layer, self.layer.cutoffs[0]
        features = in_use(self.features, used)
        places = ids
        for n, (begin, end) in enumerate(layer.clusters):
            places = ops.where((ids >= begin) & (ids < end), few + n, places)
        log_p = picked(layer._head(features, self.weights), places)
        for n, (begin, end) in enumerate(layer.clusters):
            inside = (ids >= begin) & (ids < end)
            if used is not None:
                inside = inside & used
            log_p = log_p + self._within(n, features, ids - begin, inside)
        return -log_p

    exact_losses = losses

    def _within(self, n: int, features: Tensor, ids: Tensor, inside: Tensor) -> Tensor:
        """The log-probabilities within a cluster, `(batch, time)`; 0 for other targets."""
        ids = ops.where(inside, ids, 0)
        if not shapes_may_vary():
            return ops.where(inside, picked(self.layer._tail(features, self.weights, n), ids), 0)
        x, flat = ops.reshape(features, (-1, features.shape[-1])), ops.reshape(inside, (-1,))
        # The first row is always there: without any, PyTorch has no gradient of the weights.
        first = ops.cast(ops.arange(ops.shape(x)[0]) == 0, "bool")
        rows = ops.nonzero(flat | first)[0]
        log_p = self.layer._tail(ops.take(x, rows, axis=0), self.weights, n)
        log_p = picked(log_p, ops.take(ops.reshape(ids, (-1,)), rows, axis=0))
        found = ops.scatter(ops.expand_dims(rows, 1), log_p, (ops.shape(x)[0],))
        return ops.where(inside, ops.reshape(found, ops.shape(ids)), 0)


def shapes_may_vary() -> bool:
    """Whether the shape of a tensor may depend on values here."""
    match keras.config.backend():
        case "tensorflow":
            from kerasrnn.recurrence.tensorflow.surroundings import under_xla

            return not under_xla()
        case backend:
            return backend == "torch"
