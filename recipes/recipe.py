"""What a recipe is."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from kerasrnn.recipes.config import Config

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf


@dataclass(frozen=True)
class Data:
    """What a recipe trains on and is judged on: unbatched `(inputs, target)` datasets."""

    train: "tf.data.Dataset"
    test: "tf.data.Dataset"
    train_size: int
    test_size: int
    facts: Mapping[str, Any]
    """What the model's builder must know of the training data (statistics, names of classes)."""


class Recipe(ABC):
    """One task: its data, its model, and how it is judged. See `kerasrnn.recipes`."""

    name: ClassVar[str]
    title: ClassVar[str]
    topology: ClassVar[str]
    dataset: ClassVar[str]
    result: ClassVar[str]
    """The figure reached, with its conditions, for `kerasrnn list`."""
    protocol: ClassVar[str]
    """What was trained on, judged on and chosen by what, and the licence, for the card."""
    Config: ClassVar[type[Config]]
    variants: ClassVar[Mapping[str, Mapping[str, Any]]]
    """Named overrides of the configuration, compared side by side in the recipe's card."""
    metric: ClassVar[str]
    """The test metric that the variants are compared by."""
    loss: ClassVar[str]

    @abstractmethod
    def load(self, data_dir: str | None) -> Data:
        """The data, downloaded and prepared if need be."""

    @abstractmethod
    def model(self, config: Config, data: Data) -> "keras.Model":
        """The model, untrained and not compiled."""

    @abstractmethod
    def batches(
        self, dataset: "tf.data.Dataset", config: Config, drop_remainder: bool = False
    ) -> "tf.data.Dataset":
        """Padded batches of a static shape."""

    @abstractmethod
    def judge(
        self, model: "keras.Model", data: Data, config: Config, folder: Path
    ) -> dict[str, float]:
        """Metrics on the test data; pictures are written into `folder`."""

    @abstractmethod
    def read(self, path: Path) -> "np.ndarray":
        """One input for `predict`, from a user's file."""

    @abstractmethod
    def answer(self, model: "keras.Model", inputs: Sequence["np.ndarray"]) -> list[str]:
        """What `predict` says of each input."""

    def tiny(self) -> Config:
        """A configuration that runs in seconds, for tests."""
        return dataclasses.replace(self.Config(), epochs=2)
