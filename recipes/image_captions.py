"""Image captioning: a sentence about a photograph.

Paper: Vinyals, Toshev, Bengio & Erhan (2015), "Show and tell: a neural image caption generator",
CVPR, arXiv 1411.4555. Data: Lin et al. (2014), "Microsoft COCO: common objects in context", ECCV,
from the TFDS catalogue, in the splits of Karpathy & Fei-Fei (2015). The data must be downloaded and
is large.

    kerasrnn train image_captions --mode first
    kerasrnn predict image_captions photograph.jpg

The paper's encoder was pretrained on millions of images. The small encoder here is not, so expect
captions that fit the kind of image more than its content.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from kerasrnn.recipes.base import config as options
from kerasrnn.recipes.base import search_space as space
from kerasrnn.recipes.base.card import Card
from kerasrnn.recipes.base.recipe import Data
from kerasrnn.recipes.tasks import bleu, image_to_text, text
from kerasrnn.recipes.tasks.image_to_text import END, START, ImageToText, teacher_forced

if TYPE_CHECKING:
    import numpy as np

SIDE = 64


@dataclass(frozen=True)
class Config(image_to_text.Config):
    """The recipe's options."""

    mode: str = options.option(
        "first",
        "how the image embedding enters the decoder: before the first word, at every word, or as "
        "the initial state",
        choices=("first", "every", "state"),
    )
    vocabulary: int = options.option(8_000, "vocabulary size; all other words are unknown", low=1)
    shift: int = options.option(0, "data augmentation: the largest random shift, in pixels", low=0)
    units: int = options.option(512, "units of each recurrent layer", low=1)
    embedding: int = options.option(256, "size of the word embeddings", low=1)


class ImageCaptions(ImageToText):
    """A convolutional network encodes the image; a recurrent network writes the caption."""

    name = "image_captions"
    dataset = "coco_captions"
    card = Card(
        title="Image captioning on Microsoft COCO",
        topology="one-to-many",
        result="no figures yet: the pictures have to be downloaded",
        protocol=(
            "Trained on all captions of the training images; evaluated with greedy decoding "
            "against all captions of each test image (sacreBLEU, lower case, no punctuation)."
        ),
        metrics=("test_bleu",),
    )
    Config = Config
    search_space: ClassVar = {
        **ImageToText.search_space,
        "embedding": space.powers(64, 512),
        "units": space.powers(128, 1024),
    }
    variants: ClassVar = {"GRU": {}}
    lengths: ClassVar[Sequence[int]] = (12, 16, 24)
    input_help = "photographs"

    def load(self, config: Config, data_dir: str | None = None) -> Data:
        from kerasrnn.recipes import datasets

        splits, _ = datasets.load(self.dataset, ("train", "val", "test"), data_dir)
        spoken = [
            caption
            for example in splits["train"].map(lambda x: _words(x["captions"]["text"]))
            for caption in example.numpy().astype("str")
        ]
        symbols = [END, START, *text.adapted(spoken, config.vocabulary)]
        numbers = text.vectorizer(symbols)

        def pairs(example: Mapping[str, Any]) -> Any:
            """One example for each caption of an image."""
            import tensorflow as tf

            image = _small(example["image"])
            captions = tf.data.Dataset.from_tensor_slices(_words(example["captions"]["text"]))

            def pair(caption: Any) -> Any:
                (image_, previous), target = teacher_forced(image, numbers, caption)
                most = self.lengths[-1]
                return (image_, previous[:most]), target[:most]

            return captions.map(pair)

        counted = {name: split.flat_map(pairs) for name, split in splits.items()}
        sizes = {name: sum(1 for _ in split) for name, split in counted.items()}
        return Data(
            train=counted["train"],
            test=counted["test"],
            train_size=sizes["train"],
            test_size=int(splits["test"].cardinality()),
            validation=counted["val"],
            validation_size=sizes["val"],
            metadata={"vocabulary": symbols, "shape": [SIDE, SIDE, 3]},
            raw={"test": splits["test"], "spoken": spoken},
        )

    def test_pictures(self, data: Data) -> "np.ndarray":
        import numpy as np

        images = [_small(example["image"]).numpy() for example in data.raw["test"]]
        return np.stack(images).astype("float32")

    def evaluate_predictions(
        self, predictions: Sequence[str], data: Data, folder: Path
    ) -> dict[str, float]:
        return {"test_bleu": bleu.bleu(_captions(data), predictions)}

    def baselines(self, data: Data, config: Config) -> dict[str, float]:
        import collections

        captions = _captions(data)
        ((always, _),) = collections.Counter(data.raw["spoken"]).most_common(1)
        score = bleu.bleu(captions, [always] * len(captions))
        return {"baseline_always_one_sentence_test_bleu": score}

    def parse_input(self, text: str) -> "np.ndarray":
        import numpy as np

        from kerasrnn.recipes.tasks.images import read_image

        pixels = np.asarray(read_image(text).convert("RGB"))
        return _small(pixels).numpy()

    def example(self, data: Data, index: int) -> "np.ndarray":
        return _small(next(data.raw["test"].skip(index).as_numpy_iterator())["image"]).numpy()

    def expected(self, data: Data, index: int, predict_options: options.Options) -> str:
        example = next(iter(data.raw["test"].skip(index)))
        return " | ".join(_words(example["captions"]["text"]).numpy().astype("str"))

    def tiny(self) -> Config:
        return dataclasses.replace(super().tiny(), vocabulary=50, units=8, embedding=4)


def _small(image: Any) -> Any:
    """The centre of a photograph, SIDE by SIDE."""
    import tensorflow as tf

    shape = tf.shape(image)
    side = tf.minimum(shape[0], shape[1])
    middle = tf.image.resize_with_crop_or_pad(image, side, side)
    return tf.ensure_shape(tf.image.resize(middle, (SIDE, SIDE), antialias=True), (SIDE, SIDE, 3))


def _captions(data: Data) -> list[list[str]]:
    """The captions of each test image."""
    return [
        _words(example["captions"]["text"]).numpy().astype("str").tolist()
        for example in data.raw["test"]
    ]


def _words(captions: Any) -> Any:
    """Lower the case and strip the punctuation."""
    import tensorflow as tf

    plain = tf.strings.regex_replace(tf.strings.lower(captions), r"[^a-z0-9' ]+", " ")
    return tf.strings.strip(tf.strings.regex_replace(plain, r" +", " "))


RECIPE: Any = ImageCaptions()
