"""Models that return decoded predictions, such as the most probable class."""

from typing import Any

import keras

from kerasrnn.base_layer import BaseLayer
from kerasrnn.keras_internals import get_keras_mask, producer_of, set_keras_mask
from kerasrnn.zoo.model import Model, output_layer
from kerasrnn.zoo.outputs import Output

Tensor = Any


def decoded(model: keras.Model) -> Model:
    """Create a model that decodes the predictions of another one, whose layers it shares.

        y = decode(model(x))

    `decode` is that of the model's output: the most probable class, the labels whose probability is
    at least 0.5, the values themselves; see `zoo.Output` for outputs of your own. Later training of
    `model` changes it, too. It is saved, loaded and exported like any Keras model; its output has
    the name "decoded".

    Args:
        model: a model of a topology of the zoo. To generate entire sequences with a decoder, use
            `zoo.generator`.

    Raises:
        ValueError: the model does not store its output, since it was not created by the zoo, or is
            a clone of a model that was not compiled.

    Example:

        >>> import numpy as np
        >>> from kerasrnn import zoo
        >>> model = zoo.many_to_one(zoo.Vectors(3), zoo.Classes(4), "gru", units=5)
        >>> x = np.random.default_rng(0).normal(size=(2, 6, 3))
        >>> ids = zoo.decoded(model).predict(x, verbose=0)
        >>> bool((ids == model.predict(x, verbose=0).argmax(axis=-1)).all())
        True
    """
    output_type = getattr(model, "output_type", None)
    if output_type is None:
        raise ValueError(
            f"model={model.name!r}: does not store how its output is decoded; expected a model of "
            "a topology of the zoo."
        )
    head, (arguments, _) = producer_of(model.output)
    decoder = output_type.decoder(head)
    if decoder is not None:
        others = [id(x) for x in keras.tree.flatten(arguments[1:])]
        sources = [x for x in model.inputs if id(x) not in others]
        y = decoder(arguments[0])
        return Model(sources if len(sources) > 1 else sources[0], y, name=f"{model.name}_decoded")
    y = DecodedOutput(head, output_type, name="decoded")(*arguments)
    return Model(model.input, y, name=f"{model.name}_decoded")


@keras.saving.register_keras_serializable(package="kerasrnn")
class DecodedOutput(BaseLayer):
    """The output layer of a model and the decoding of its predictions.

    Args:
        head: the output layer, from features to predictions, or the model that ends in it.
        output_type: the output that decodes them.
    """

    def __init__(self, head: keras.layers.Layer, output_type: Output, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)  # the head may be a model with inputs of its own
        self.head = head
        self.output_type = output_type
        self.supports_masking = True

    def build(self, features_shape: Any) -> None:
        if not self.head.built:
            self.head.build(features_shape)
        self.built = True

    def call(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is not None:  # of each tensor, if the head is a model with several inputs
            tensors, masks = keras.tree.flatten(features), keras.tree.flatten(mask)
            for tensor, each in zip(tensors, masks, strict=True):
                if each is not None:
                    set_keras_mask(tensor, each)
        predictions = self.head(features)
        layer = output_layer(self.head)
        return self.output_type.decode(predictions, layer, get_keras_mask(predictions))

    def compute_mask(self, features: Tensor, mask: Tensor | None = None) -> None:
        """No mask is passed on: decoded predictions may have other steps than the features."""

    def get_config(self) -> dict[str, Any]:
        parts = {"head": self.head, "output_type": self.output_type}
        return super().get_config() | {
            name: keras.saving.serialize_keras_object(part) for name, part in parts.items()
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "DecodedOutput":
        parts = {
            name: keras.saving.deserialize_keras_object(config[name], custom_objects)
            for name in ("head", "output_type")
        }
        return cls(**{**config, **parts})
