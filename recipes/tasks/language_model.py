"""Shared code of the character language models: model, vocabulary, exports, a baseline."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from kerasrnn.recipes.base.config import Config
from kerasrnn.recipes.base.recipe import Data
from kerasrnn.recipes.tasks import text
from kerasrnn.recipes.tasks.text_input import TextInput

if TYPE_CHECKING:
    import keras


class LanguageModel(TextInput):
    """A recurrent network reads characters and predicts the next one at each step.

    `metadata["vocabulary"]` contains the characters. The options of a recipe include `cell`,
    `units`, `depth`, `embedding` and `dropout`.
    """

    edge: ClassVar[str | None] = None
    """The character before and after each text; None: texts have neither beginning nor end."""

    def vectorizer(self, metadata: Mapping[str, Any]) -> "keras.layers.Layer":
        return text.vectorizer(metadata["vocabulary"], split="character")

    def model(self, config: Any, data: Data) -> "keras.Model":
        return self.network(config, data.metadata)

    def network(self, config: Any, metadata: Mapping[str, Any], **options: Any) -> "keras.Model":
        """The model with further arguments of `zoo.next_step`."""
        from kerasrnn import zoo

        return zoo.next_step(
            zoo.Classes(len(metadata["vocabulary"]) + 2),
            cell=config.cell,
            units=config.units,
            depth=config.depth,
            embedding_units=config.embedding,
            dropout=config.dropout,
            name=self.name,
            **options,
        )

    def loss(self, config: Config) -> str:
        return "sparse_categorical_crossentropy"

    def models_to_export(
        self, model: "keras.Model", batches: Sequence[Any], texts: Sequence[Any]
    ) -> dict[str, tuple["keras.Model", Sequence[Any] | bool]]:
        """The models to export, with batches of ids and of texts to verify them on."""
        from kerasrnn import zoo

        trained = self.trained_model(model)
        return {
            "model": (trained, batches),
            "step": (zoo.encoder_and_step(trained).step, True),
            "of_text": (model, texts),
        }

    def vocabulary(self, model: "keras.Model", metadata: Mapping[str, Any]) -> dict[str, Any]:
        symbols = [str(symbol) for symbol in self.vectorizer(metadata).get_vocabulary()]
        described: dict[str, Any] = {"symbols": symbols, "separator": ""}
        if self.edge is not None:
            described |= dict.fromkeys(("start", "end"), symbols.index(self.edge))
        (name,) = self.trained_model(model).output_names
        return {**super().vocabulary(model, metadata), name: described}


def log_likelihood(probabilities: Any, ids: Any) -> Any:
    """The log-probability of each symbol in double precision.

    Args:
        probabilities: `(batch, time, symbols)`.
        ids: int `(batch, time)`.
    """
    import numpy as np

    right = np.take_along_axis(probabilities, ids[..., None], axis=-1)[..., 0]
    return np.log(right.astype("float64"))
