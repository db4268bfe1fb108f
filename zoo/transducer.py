"""The output of models that write label sequences, each label given those before it."""

import functools
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import keras

import kerasrnn
from kerasrnn import validation
from kerasrnn.validation import PositiveInteger, Rate
from kerasrnn.zoo.cells import CellLike, recurrent_layers
from kerasrnn.zoo.outputs import Output

Tensor = Any


# `kerasrnn.Transducer` is registered under the name of the class.
@keras.saving.register_keras_serializable(package="kerasrnn", name="TransducerOutput")
@validation.checked
@dataclass(frozen=True)
class Transducer(Output):
    """A sequence of labels of another length, by a transducer: the output of `zoo.transcriber`.

    The layer is a `kerasrnn.Transducer`, which also reads the labels: they are both the last input
    of the model and the targets, `(batch, labels)`, padded with 0. The loss is
    `kerasrnn.losses.Transducer`. Decoded, the predictions are the labels of the best path, see
    `kerasrnn.decoding.TransducerGreedy`; `zoo.decoded` and `zoo.Transcriber` find them without the
    input of the labels. There is no metric: an error rate would need the labels of the best path,
    and the output, which is given the true labels, has only the moves of paths that write these.
    `zoo.decoded` and `kerasrnn.metrics.CharacterErrorRate` measure it after an epoch.

    Args:
        count: number of classes, including the blank, class 0.
        cell: the cell of the prediction network.
        units: number of units of the prediction network and of the joiner.
        dropout: dropout rate of the embeddings and of the joiner's inputs.
        impossible: what happens to rows with labels and without frames: see
            `kerasrnn.losses.Transducer`.

    Raises:
        ValueError: an argument is out of its range.

    Example: see `zoo.transcriber`.
    """

    count: Annotated[int, functools.partial(validation.integer, minimum=2)]
    cell: CellLike = "lstm"
    units: PositiveInteger = 64
    dropout: Rate = 0.0
    impossible: Literal["warn", "zero"] = "warn"

    name = "moves"
    aligned = False

    @property
    def target_ids(self) -> int:
        return self.count

    def layer(self, name: str | None = None) -> keras.layers.Layer:
        layers = recurrent_layers(self.cell, self.units)
        return kerasrnn.Transducer(self.count, layers, dropout=self.dropout, name=name or self.name)

    def loss(self, layer: keras.layers.Layer) -> keras.losses.Loss:
        return kerasrnn.losses.Transducer(impossible=self.impossible)

    def target_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (shape[0], None)

    def decoder(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        return kerasrnn.decoding.TransducerGreedy(layer, name="decoded")
