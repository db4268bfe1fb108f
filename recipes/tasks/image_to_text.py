"""Shared code of the image-to-text recipes: an image, and a decoder that describes it."""

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from kerasrnn.recipes.base import config as options
from kerasrnn.recipes.base import search_space as space
from kerasrnn.recipes.base.recipe import Data, Recipe, Runtime
from kerasrnn.recipes.tasks import text
from kerasrnn.training.bucketing import bucketed

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

START, END = "[START]", "[END]"


@dataclass(frozen=True)
class Config(options.Config):
    """Options of image-to-text recipes."""

    mode: str = options.option(
        "every",
        "how the image embedding enters the decoder: before the first symbol, at every symbol, or "
        "as the initial state",
        choices=("first", "every", "state"),
    )
    epochs: int = options.default("epochs", 20)
    batch_size: int = options.option(64, "pictures per step", low=1)
    learning_rate: float = options.default("learning_rate", 2e-3)
    warmup: float = options.default("warmup", 0.05)
    shift: int = options.option(2, "data augmentation: the largest random shift, in pixels", low=0)
    stretch: float = options.option(
        0.15,
        "data augmentation: the largest random stretch factor of width and height, drawn "
        "independently",
        low=0.0,
        below=1.0,
    )
    cell: str = options.cell("gru")
    image_units: int = options.option(256, "size of the image embedding", low=1)
    embedding: int = options.option(64, "size of the symbol embeddings", low=1)
    units: int = options.option(256, "units of each recurrent layer", low=1)
    depth: int = options.option(1, "number of stacked layers", low=1)
    dropout: float = options.option(0.5, "dropout rate", low=0.0, below=1.0)


class ImageToText(Recipe):
    """A convolutional network encodes the image; a recurrent network writes the text.

    A recipe implements `load`, `test_pictures`, `evaluate_predictions`, `parse_input` and
    `example`.
    """

    Config = Config
    search_space: ClassVar = {
        "mode": space.choice("first", "every", "state"),
        "cell": space.choice("simple_rnn", "lstm", "gru"),
        "image_units": space.powers(64, 512),
        "embedding": space.powers(32, 256),
        "units": space.powers(64, 512),
        "depth": space.integers(1, 2),
        "dropout": space.floats(0.0, 0.7),
        "shift": space.integers(0, 4),
        "stretch": space.floats(0.0, 0.3),
        "learning_rate": space.floats(3e-4, 1e-2, log=True),
        **space.CLIPPING,
    }
    lengths: ClassVar[Sequence[int]]
    """Lengths that texts are padded to; the last one is the maximum length of predictions."""

    def model(self, config: Config, data: Data) -> "keras.Model":
        from kerasrnn import zoo

        size = len(data.metadata["vocabulary"]) + 2
        return zoo.one_to_many(
            zoo.Images(
                tuple(data.metadata["shape"]), filters=(32, 64, 128), units=config.image_units
            ),
            zoo.Classes(size),
            mode=config.mode,
            cell=config.cell,
            units=config.units,
            depth=config.depth,
            embedding_units=config.embedding,
            dropout=config.dropout,
            name=self.name,
        )

    def bundle(self, model: "keras.Model", config: Config, data: Data) -> "keras.Model":
        from kerasrnn import zoo

        numbers = text.vectorizer(data.metadata["vocabulary"])
        return zoo.of_texts(model, {"previous": numbers})

    def trained_model(self, model: "keras.Model") -> "keras.Model":
        from kerasrnn import zoo

        return zoo.of_ids(model)

    def loss(self, config: Config) -> str:
        return "sparse_categorical_crossentropy"

    def batches(
        self, dataset: "tf.data.Dataset", config: Config, training: bool = False
    ) -> "tf.data.Dataset":
        import tensorflow as tf

        if training and (config.shift or config.stretch):
            seeds = tf.data.Dataset.random(config.seed, rerandomize_each_iteration=True).batch(2)

            def moved(seed: Any, example: Any) -> Any:
                (image, previous), target = example
                return (_moved(image, seed, config.shift, config.stretch), previous), target

            dataset = tf.data.Dataset.zip(seeds, dataset).map(moved)
        return bucketed(
            dataset.map(lambda x, y: ((tf.cast(x[0], "float32"), x[1]), y)),
            self.lengths,
            config.batch_size,
            training,
            length=lambda x, y: tf.shape(y)[0],
        )

    def evaluate(
        self, model: "keras.Model", data: Data, config: Config, folder: Path
    ) -> dict[str, float]:
        predictions = self.describe(model, data.metadata["vocabulary"], self.test_pictures(data))
        return self.evaluate_predictions(predictions, data, folder)

    def evaluate_exported(
        self, run: Runtime, model: "keras.Model", data: Data, config: Config, folder: Path
    ) -> dict[str, float]:
        import numpy as np

        images = self.test_pictures(data)
        ids = [run([batch])[0] for batch in np.array_split(images, -(-len(images) // 256))]
        predictions = _spelled(np.concatenate(ids), data.metadata["vocabulary"])
        return self.evaluate_predictions(predictions, data, folder)

    @abstractmethod
    def test_pictures(self, data: Data) -> "np.ndarray":
        """The images as the model reads them, `(examples, height, width, channels)`."""

    @abstractmethod
    def evaluate_predictions(
        self, predictions: Sequence[str], data: Data, folder: Path
    ) -> dict[str, float]:
        """The test metrics of the predictions for all test images."""

    def describe(
        self, model: "keras.Model", vocabulary: Sequence[str], images: "np.ndarray"
    ) -> list[str]:
        """The predicted sequence of each image, its symbols separated by spaces."""
        ids = self._speller(model, vocabulary).predict(images, batch_size=256, verbose=0)
        return _spelled(ids, vocabulary)

    def _speller(self, model: "keras.Model", vocabulary: Sequence[str]) -> "keras.Model":
        from kerasrnn import zoo

        symbols = ["", "[UNK]", *vocabulary]
        return zoo.generator(
            self.trained_model(model),
            max_length=self.lengths[-1],
            start=symbols.index(START),
            end=symbols.index(END),
            forbidden=[symbols.index("[UNK]"), symbols.index(START)],
        )

    def predict(
        self,
        model: "keras.Model",
        metadata: Mapping[str, Any],
        inputs: Sequence["np.ndarray"],
        predict_options: options.Options,
        places: Sequence[Path] | None = None,
    ) -> list[str]:
        import numpy as np

        return self.describe(model, metadata["vocabulary"], np.stack(inputs).astype("float32"))

    def exports(
        self, model: "keras.Model", data: Data, config: Config
    ) -> dict[str, tuple["keras.Model", list[Any]]]:
        from kerasrnn import zoo

        images = self.test_pictures(data)
        batches = [images[:32], images[:1]]
        encoder, step = zoo.encoder_and_step(self.trained_model(model))
        return {
            "greedy": (self._speller(model, data.metadata["vocabulary"]), batches),
            "encoder": (encoder, batches),
            "step": (step, True),
        }

    def vocabulary(self, model: "keras.Model", metadata: Mapping[str, Any]) -> dict[str, Any]:
        symbols = ["", "[UNK]", *metadata["vocabulary"]]
        ends = {"start": symbols.index(START), "end": symbols.index(END)}
        return {"sequences": {"symbols": symbols, "separator": " ", **ends}}

    def tiny(self) -> Config:
        return dataclasses.replace(
            super().tiny(), units=8, embedding=4, image_units=8, batch_size=8
        )


def _spelled(ids: "np.ndarray", vocabulary: Sequence[str]) -> list[str]:
    """Sequences, their symbols separated by spaces."""
    symbols = ["", "[UNK]", *vocabulary]
    ends = (0, symbols.index(END))
    return [" ".join(symbols[n] for n in row if n not in ends) for row in ids]


def nearest_sequences(train: "tf.data.Dataset", images: "np.ndarray") -> list[str]:
    """For each image, the sequence of the nearest training image."""
    import numpy as np
    from sklearn.neighbors import NearestNeighbors

    examples = list(train.as_numpy_iterator())
    known = np.stack([example["image"].ravel() for example in examples]).astype("float32")
    search = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(known)
    indices = search.kneighbors(images.reshape(len(images), -1), return_distance=False)
    return [examples[n]["sequence"].decode() for n in indices[:, 0]]


def teacher_forced(image: Any, numbers: Any, sequence: Any) -> Any:
    """`((image, previous ids), ids)` with start and end symbols."""
    import tensorflow as tf

    ids = tf.cast(numbers(tf.strings.join([START, sequence, END], separator=" ")), "int32")
    return (image, ids[:-1]), ids[1:]


def _moved(image: Any, seed: Any, shift: int, stretch: float) -> Any:
    """Stretch an image about its centre and shift it by whole pixels, at random."""
    import tensorflow as tf

    first, second = tf.unstack(tf.random.split(seed, 2))
    middle = (tf.cast(tf.shape(image)[:2], "float32") - 1) / 2
    factors = tf.exp(tf.random.stateless_uniform([2], first, -1.0, 1.0) * tf.math.log1p(stretch))
    moves = tf.cast(tf.random.stateless_uniform([2], second, -shift, shift + 1, "int32"), "float32")
    (height, width), (down, right) = tf.unstack(1 / factors), tf.unstack(moves)
    # Each pixel (x, y) is taken from (width x + ..., height y + ...).
    left, top = middle[1] - width * (middle[1] + right), middle[0] - height * (middle[0] + down)
    zero = tf.zeros([])
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=tf.stack([width, zero, left, zero, height, top, zero, zero])[None],
        output_shape=tf.shape(image)[:2],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )[0]
