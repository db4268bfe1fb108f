"""The output of models that write label sequences without an alignment."""

import functools
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import keras

import kerasrnn
from kerasrnn import validation
from kerasrnn.zoo.outputs import Output, dtype_of_predictions

Tensor = Any


# `kerasrnn.losses.CTC` is registered under the name of the class.
@keras.saving.register_keras_serializable(package="kerasrnn", name="CTCOutput")
@validation.checked
@dataclass(frozen=True)
class CTC(Output):
    """A shorter sequence of labels, by connectionist temporal classification.

    A model with an output at every step, such as `zoo.many_to_many`, predicts the probabilities of
    `count` classes at each: class 0 is the blank, the others are labels. The targets are the
    labels, `(batch, labels)`, padded with 0: nothing says at which steps they are. The loss is
    `kerasrnn.losses.CTC`, the metric the label error rate of the best path (`label_error_rate`, see
    `kerasrnn.metrics.CharacterErrorRate`). Decoded, predictions are the labels of the best path,
    see `kerasrnn.decoding.CTCGreedy`; `kerasrnn.decoding.CTCBeam` searches for better ones.

    Args:
        count: number of classes, including the blank.
        impossible: what happens to targets with more labels than steps: see `kerasrnn.losses.CTC`.

    Raises:
        ValueError: `count` is not an integer of at least 2, or `impossible` not "warn" or "zero".

    Example: from 13 cepstral coefficients per frame to letters.

        >>> import numpy as np
        >>> from kerasrnn import zoo
        >>> model = zoo.many_to_many(zoo.Vectors(13), zoo.CTC(28), "gru", units=8)
        >>> model.compile("adam", jit_compile=False)
        >>> x, y = np.ones((4, 20, 13)), np.array([[3, 1, 20], [4, 15, 7], [1, 0, 0], [2, 5, 0]])
        >>> history = model.fit(x, y, verbose=0)
        >>> sorted(history.history)
        ['label_error_rate', 'loss']
        >>> zoo.decoded(model).predict(x, verbose=0).shape
        (4, 20)
    """

    count: Annotated[int, functools.partial(validation.integer, minimum=2)]
    impossible: Literal["warn", "zero"] = "warn"

    name = "probabilities"
    aligned = False

    @property
    def target_ids(self) -> int:
        return self.count

    def layer(self, name: str | None = None) -> keras.layers.Layer:
        return keras.layers.Dense(
            self.count,
            activation="softmax",
            dtype=dtype_of_predictions(),
            name=name or self.name,
        )

    def loss(self, layer: keras.layers.Layer) -> keras.losses.Loss:
        return kerasrnn.losses.CTC(impossible=self.impossible)

    def metrics(self, layer: keras.layers.Layer) -> list[Any]:
        return [kerasrnn.metrics.CharacterErrorRate(name="label_error_rate")]

    def target_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (shape[0], None)

    def decode(
        self, predictions: Tensor, layer: keras.layers.Layer, mask: Tensor | None = None
    ) -> Tensor:
        return kerasrnn.decoding.CTCGreedy()(predictions, mask=mask)
