"""Shared code of the recipes that classify small images: Fashion-MNIST, digits and their like."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.base.recipe import Data
from kerasrnn.recipes.tasks.classification import Classification
from kerasrnn.recipes.tasks.images import read_image

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

SIDE = 28


class SmallImages(Classification):
    """A network that classifies images of 28 by 28 pixels.

    A recipe implements `model` and `arranged`. Its options include `dataset`.
    """

    input_help = f"pictures of {SIDE} by {SIDE} pixels, light on dark"
    example_noun = "image"

    def metadata(self, config: Any) -> dict[str, Any]:
        """What `arranged` needs to know of the options, besides the classes."""
        return {}

    @abstractmethod
    def arranged(self, images: Any, metadata: Mapping[str, Any]) -> Any:
        """The inputs of the model.

        Args:
            images: a TensorFlow tensor `(batch, 28, 28, 1)`, of 0 to 1.
            metadata: that of the run.
        """

    def load(self, config: Any, data_dir: str | None = None) -> Data:
        from kerasrnn.recipes import datasets

        splits, info = datasets.load(
            config.dataset, ("train", "test"), data_dir, as_supervised=True
        )
        return Data(
            train=splits["train"],
            test=splits["test"],
            train_size=int(splits["train"].cardinality()),
            test_size=int(splits["test"].cardinality()),
            metadata={"classes": info.features["label"].names, **self.metadata(config)},
        )

    def batches(
        self, dataset: "tf.data.Dataset", config: Any, training: bool = False
    ) -> "tf.data.Dataset":
        metadata = self.metadata(config)
        return dataset.batch(config.batch_size, drop_remainder=training).map(
            lambda images, labels: (self.arranged(_scaled(images), metadata), labels)
        )

    def title(self, config: Any) -> str:
        return config.dataset

    def parse_input(self, text: str) -> "np.ndarray":
        import numpy as np

        pixels = np.array(read_image(text).convert("L"))
        if pixels.shape != (SIDE, SIDE):
            raise DatasetError(
                f"{text}: expected {SIDE} by {SIDE} pixels; found {pixels.shape[1]} by "
                f"{pixels.shape[0]}."
            )
        return pixels[..., None]

    def probabilities(
        self,
        model: "keras.Model",
        inputs: Sequence["np.ndarray"],
        metadata: Mapping[str, Any],
    ) -> "np.ndarray":
        import numpy as np

        images = self.arranged(_scaled(np.stack(inputs)), metadata)
        return model.predict(np.asarray(images), verbose=0)

    def exports(
        self, model: "keras.Model", data: Data, config: Any
    ) -> dict[str, tuple["keras.Model", list[Any]]]:
        batches = [x for x, _ in self.batches(data.test, config).take(4).as_numpy_iterator()]
        return {"model": (model, [*batches, batches[0][:1]])}


def _scaled(images: Any) -> Any:
    import tensorflow as tf

    return tf.cast(images, "float32") / 255
