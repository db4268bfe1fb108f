"""Shared code of recipes whose models read one text: the saved model includes the vectorizer."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kerasrnn.recipes.base.recipe import Data, Recipe
from kerasrnn.recipes.tasks import text
from kerasrnn.recipes.tasks.text import checked

if TYPE_CHECKING:
    import keras

INPUT = "sequence"
"""The name of a model's input."""


class TextInput(Recipe):
    """A model that is trained on ids; the saved model reads texts.

    A recipe implements `vectorizer`.
    """

    @abstractmethod
    def vectorizer(self, metadata: Mapping[str, Any]) -> "keras.layers.Layer":
        """The layer that maps texts to ids, from the `metadata` of the training data."""

    def bundle(self, model: "keras.Model", config: Any, data: Data) -> "keras.Model":
        from kerasrnn import zoo

        return zoo.of_texts(model, {INPUT: self.vectorizer(data.metadata)})

    def trained_model(self, model: "keras.Model") -> "keras.Model":
        from kerasrnn import zoo

        return zoo.of_ids(model)

    def numbering(self, model: "keras.Model") -> "keras.layers.Layer | None":
        return model.get_layer("vectorizer")

    def parse_input(self, text: str) -> str:
        return checked(text)

    def vocabulary(self, model: "keras.Model", metadata: Mapping[str, Any]) -> dict[str, Any]:
        described = text.described(self.vectorizer(metadata))
        return {INPUT: described, **super().vocabulary(model, metadata)}
