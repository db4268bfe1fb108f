"""Tags of sequences: an output whose tags of all steps are one prediction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras

import kerasrnn
from kerasrnn.base_layer import BaseLayer
from kerasrnn.losses.structured import structure_of
from kerasrnn.metrics.tag_schemes import SchemeName
from kerasrnn.zoo.outputs import Output, dtype_of_predictions

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrnn")
@dataclass(frozen=True)
class Tags(Output):
    """A tag for each step, from a `kerasrnn.CRF`, which scores adjacent tags.

    The predictions are the marginal probabilities of the tags of each step. The loss is
    `kerasrnn.losses.CRFLoss`, the metrics are the accuracy and, with a scheme, the F1 of spans.
    The targets are the numbers of the tags; so are the decoded predictions: the most probable
    sequence, in which each tag is allowed after the one before it. It is an output of
    `zoo.many_to_many`.

    Args:
        tags: the number of tags, or their names.
        scheme: "BIO", "IOB1", "BIOES", "BILOU", "BMES" or None: see `kerasrnn.CRF`.
        forbidden: pairs of tags of which the second must not follow the first: see `kerasrnn.CRF`.

    Raises:
        ValueError: the tags are not those of the scheme, or a pair has an unknown tag: see
            `kerasrnn.CRF`.

    Example:

        >>> import numpy as np
        >>> from kerasrnn import zoo
        >>> tags = zoo.Tags(["O", "B-PER", "I-PER"], scheme="BIO")
        >>> model = zoo.many_to_many(zoo.Tokens(50, 8), tags, units=8, bidirectional=True)
        >>> model.compile("adam", jit_compile=False)
        >>> words, y = np.array([[4, 7, 2], [3, 9, 0]]), np.array([[0, 1, 2], [1, 0, 0]])
        >>> sorted(model.fit(words, y, verbose=0).history)
        ['accuracy', 'loss', 'span_f1']
        >>> zoo.decoded(model).predict(words, verbose=0).shape
        (2, 3)
    """

    tags: int | Sequence[str]
    scheme: SchemeName | None = None
    forbidden: Sequence[tuple[Any, Any]] = ()

    name = "probabilities"

    def __post_init__(self) -> None:
        crf = kerasrnn.CRF(self.tags, self.scheme, self.forbidden)  # which checks them
        # Tuples, which are equal after loading, too.
        tags = crf.tags if isinstance(crf.tags, int) else tuple(crf.tags)
        for name, value in (("tags", tags), ("forbidden", tuple(crf.forbidden))):
            object.__setattr__(self, name, value)

    @property
    def target_ids(self) -> int:
        return self.tags if isinstance(self.tags, int) else len(self.tags)

    def layer(self, name: str | None = None) -> keras.layers.Layer:
        return TagsLayer(self.tags, self.scheme, self.forbidden, name=name or self.name)

    def loss(self, layer: keras.layers.Layer) -> keras.losses.Loss:
        return kerasrnn.losses.CRFLoss()

    def metrics(self, layer: keras.layers.Layer) -> list[Any]:
        if self.scheme is None or all(tag == "O" for tag in self.tags):
            return ["accuracy"]
        return ["accuracy", kerasrnn.metrics.SpanF1(self.tags, self.scheme)]

    def target_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return shape[:-1]

    def decode(
        self, predictions: Tensor, layer: keras.layers.Layer, mask: Tensor | None = None
    ) -> Tensor:
        return structure_of(predictions).most_probable()


@keras.saving.register_keras_serializable(package="kerasrnn")
class TagsLayer(BaseLayer):
    """The scores of the tags of each step, and their `kerasrnn.CRF`.

    Args:
        tags: see `Tags`.
        scheme: see `Tags`.
        forbidden: see `Tags`.
    """

    def __init__(
        self,
        tags: int | Sequence[str],
        scheme: SchemeName | None,
        forbidden: Sequence[tuple[Any, Any]],
        **kwargs: Any,
    ) -> None:
        super().__init__(dtype=kwargs.pop("dtype", None) or dtype_of_predictions(), **kwargs)
        self.crf = kerasrnn.CRF(tags, scheme, forbidden, name="crf")
        self.scores = keras.layers.Dense(self.crf.count, dtype=self.dtype_policy, name="scores")
        self.supports_masking = True

    def build(self, features_shape: Any) -> None:
        if len(features_shape) != 3:
            raise ValueError(
                f"{self.name}: features of the shape {tuple(features_shape)}; expected a sequence, "
                "with its steps: zoo.Tags is an output of zoo.many_to_many."
            )
        self.scores.build(features_shape)
        self.crf.build((*features_shape[:-1], self.crf.count))
        self.built = True

    def call(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.crf(self.scores(features), mask=mask)

    def compute_output_spec(self, features: Any, mask: Any = None) -> keras.KerasTensor:
        return keras.KerasTensor((*features.shape[:-1], self.crf.count), self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        crf = self.crf
        own = {"tags": crf.tags, "scheme": crf.scheme, "forbidden": crf.forbidden}
        return {**super().get_config(), **own}
