"""Image classification: Fashion-MNIST, 28 by 28 pixels, read row by row or all at once.

Paper: Xiao, Rasul & Vollgraf (2017), "Fashion-MNIST: a novel image dataset for benchmarking machine
learning algorithms", arXiv 1708.07747. Its split: 60,000 training and 10,000 test images.

    kerasrnn train fashion_mnist --reader rows --cell gru
    kerasrnn train fashion_mnist --reader all

The one-to-one network has no hidden state; it is the non-recurrent baseline.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from kerasrnn.recipes.base import config as options
from kerasrnn.recipes.base import search_space as space
from kerasrnn.recipes.base.card import Card, Published
from kerasrnn.recipes.base.recipe import Data
from kerasrnn.recipes.tasks.small_images import SIDE, SmallImages

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Config(options.Config):
    """The recipe's options."""

    dataset: str = options.option(
        "zalando_fashion",
        "the images: from a Debian package; or from the TFDS catalogue, which needs a network "
        "connection",
        choices=("zalando_fashion", "fashion_mnist", "mnist", "kmnist"),
    )
    reader: str = options.option(
        "rows",
        "rows: many-to-one, one row per step; all: one-to-one, all pixels at once",
        choices=("rows", "all"),
    )
    epochs: int = options.default("epochs", 20)
    batch_size: int = options.option(100, "images per step", low=1)
    learning_rate: float = options.default("learning_rate", 2e-3)
    warmup: float = options.default("warmup", 0.05)
    cell: str = options.cell("gru", "recurrent cell, with reader=rows")
    units: int = options.option(128, "units of each recurrent or hidden layer", low=1)
    depth: int = options.option(2, "number of stacked layers", low=1)
    bidirectional: bool = options.option(False, "use bidirectional layers, with reader=rows")
    dropout: float = options.option(0.3, "dropout rate", low=0.0, below=1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reader == "all":
            self.refuse_ignored("reader='all'", "cell", "bidirectional")


class FashionMnist(SmallImages):
    """A recurrent network reads the rows from top to bottom; the last state predicts the class."""

    name = "fashion_mnist"
    dataset = "zalando_fashion"
    card = Card(
        title="Image classification on Fashion-MNIST, row by row",
        topology="one-to-one, many-to-one",
        result=(
            "test accuracy 0.911 with GRU, row by row (mean of three seeds), in 9 minutes; without "
            "recurrence: 0.895"
        ),
        protocol=(
            "The authors' split: trained on all 60,000 training images for a fixed number of "
            "epochs and evaluated once on the 10,000 test images; nothing was tuned on the test "
            "data. No data augmentation. Data: Zalando SE, MIT licence."
        ),
        metrics=("test_accuracy",),
        limits=(
            "The model expects images like those of the dataset: 28 by 28 pixels, one garment, "
            "light on dark. It confuses shirts, pullovers and coats most often."
        ),
        published=(
            Published(
                "MLP 256-128-100",
                "the dataset's README, user submissions",
                {"test_accuracy": 0.8833},
            ),
            Published(
                "GRU and SVM", "the dataset's README, user submissions", {"test_accuracy": 0.888}
            ),
            Published("GRU and SVM with dropout", "the dataset's README", {"test_accuracy": 0.897}),
            Published("people", "the dataset's README", {"test_accuracy": 0.835}),
        ),
    )
    Config = Config
    search_space: ClassVar = {
        "cell": space.choice("simple_rnn", "lstm", "gru", given={"reader": ("rows",)}),
        "units": space.powers(32, 512),
        "depth": space.integers(1, 3),
        "bidirectional": space.switch(given={"reader": ("rows",)}),
        "dropout": space.floats(0.0, 0.6),
        "learning_rate": space.floats(3e-4, 1e-2, log=True),
        **space.CLIPPING,
    }
    variants: ClassVar = {
        "all pixels, no recurrence": {"reader": "all", "units": 512},
        "rows, SimpleRNN": {"cell": "simple_rnn"},
        "rows, LSTM": {"cell": "lstm"},
        "rows, GRU": {"cell": "gru"},
    }
    published_variant = "rows, GRU"

    def metadata(self, config: Config) -> dict[str, Any]:
        return {"reader": config.reader}

    def arranged(self, images: Any, metadata: Mapping[str, Any]) -> Any:
        import tensorflow as tf

        shape = [-1, SIDE, SIDE] if metadata["reader"] == "rows" else [-1, SIDE * SIDE]
        return tf.reshape(images, shape)

    def model(self, config: Config, data: Data) -> "keras.Model":
        from kerasrnn import zoo

        outputs = zoo.Classes(len(data.metadata["classes"]))
        if config.reader == "all":
            return zoo.one_to_one(
                zoo.Vectors(SIDE * SIDE),
                outputs,
                hidden=(config.units,) * config.depth,
                dropout=config.dropout,
                name=self.name,
            )
        return zoo.many_to_one(
            # No padding value: empty rows tell where the garment begins.
            zoo.Vectors(SIDE, padding=None),
            outputs,
            cell=config.cell,
            units=config.units,
            depth=config.depth,
            bidirectional=config.bidirectional,
            dropout=config.dropout,
            name=self.name,
        )

    def tiny(self) -> Config:
        return dataclasses.replace(super().tiny(), units=8, depth=1)


RECIPE: Any = FashionMnist()
