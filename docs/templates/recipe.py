"""Name of the task: what the model reads and what it predicts.

Paper: Author & Author (2000), "Title", Venue. The paper's split, if it has one.

    kerasrnn train my_recipe
    kerasrnn predict my_recipe frames.csv
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from kerasrnn.recipes.base import config as options
from kerasrnn.recipes.base import search_space as space
from kerasrnn.recipes.base.card import Card
from kerasrnn.recipes.base.recipe import Data
from kerasrnn.recipes.tasks.classification import Classification
from kerasrnn.recipes.tasks.tables import read_numbers

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

FEATURES = 12
LENGTHS = (16, 32)
"""The lengths that sequences are padded to: few, since XLA compiles once for each."""


@dataclass(frozen=True)
class Config(options.Config):
    """The recipe's options."""

    epochs: int = options.default("epochs", 20)
    batch_size: int = options.option(32, "sequences per step", low=1)
    cell: str = options.cell("gru")
    units: int = options.option(64, "units of each recurrent layer", low=1)
    dropout: float = options.option(0.3, "dropout rate", low=0.0, below=1.0)


class MyRecipe(Classification):
    """A recurrent network reads the steps; the last state predicts the class."""

    name = "my_recipe"
    dataset = "my_dataset"
    card = Card(
        title="Name of the task",
        topology="many-to-one",
        result="no figures yet",
        protocol="What is trained, validated and tested on what; what was tuned on what. Licence.",
        metrics=("test_accuracy",),
    )
    Config = Config
    search_space: ClassVar = {
        "cell": space.choice("lstm", "gru"),
        "units": space.powers(16, 256),
        "dropout": space.floats(0.0, 0.6),
        "learning_rate": space.floats(3e-4, 3e-2, log=True),
        **space.CLIPPING,
    }
    variants: ClassVar = {"LSTM": {"cell": "lstm"}, "GRU": {"cell": "gru"}}
    input_help = f"text files with one step per line, {FEATURES} numbers each"
    example_noun = "sequence"

    def load(self, config: Config, data_dir: str | None = None) -> Data:
        from kerasrnn.recipes import datasets

        splits, info = datasets.load(self.dataset, ("train", "test"), data_dir, as_supervised=True)
        _, label = info.supervised_keys
        return Data(
            train=splits["train"],
            test=splits["test"],
            train_size=int(splits["train"].cardinality()),
            test_size=int(splits["test"].cardinality()),
            metadata={"classes": info.features[label].names},
        )

    def model(self, config: Config, data: Data) -> "keras.Model":
        from kerasrnn import zoo

        return zoo.many_to_one(
            zoo.Vectors(FEATURES),
            zoo.Classes(len(data.metadata["classes"])),
            cell=config.cell,
            units=config.units,
            dropout=config.dropout,
            name=self.name,
        )

    def batches(
        self, dataset: "tf.data.Dataset", config: Config, training: bool = False
    ) -> "tf.data.Dataset":
        from kerasrnn.training.bucketing import bucketed

        return bucketed(dataset, LENGTHS, config.batch_size, training)

    def parse_input(self, text: str) -> "np.ndarray":
        return read_numbers(text, FEATURES, "numbers")

    def probabilities(
        self,
        model: "keras.Model",
        inputs: Sequence["np.ndarray"],
        metadata: Mapping[str, Any],
    ) -> list["np.ndarray"]:
        return [model.predict(frames[None], verbose=0)[0] for frames in inputs]


RECIPE: Any = MyRecipe()
