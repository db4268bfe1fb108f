"""What is in the picture? A sentence about a photograph.

Paper: Vinyals, Toshev, Bengio & Erhan (2015), "Show and tell: a neural image caption generator",
CVPR, arXiv 1411.4555. Data: Lin et al. (2014), "Microsoft COCO: common objects in context", ECCV,
of TFDS's catalogue, in the splits of Karpathy & Fei-Fei (2015). It needs a network and room.

    kerasrnn train image_captions --mode first
    kerasrnn predict image_captions photograph.jpg

The paper's encoder was trained on millions of pictures; the small one here is not, so that what is
said of a picture is to be expected to fit its kind more than its content.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from kerasrnn.recipes import config as options
from kerasrnn.recipes import hanzi_structure, space, text
from kerasrnn.recipes.hanzi_structure import END, START, HanziStructure, teacher_forced
from kerasrnn.recipes.recipe import Data

if TYPE_CHECKING:
    import numpy as np

SIDE = 64


@dataclass(frozen=True)
class Config(hanzi_structure.Config):
    """What varies."""

    mode: str = options.option(
        "first",
        "how the picture's vector enters: before the first word, at every one, as the state",
        choices=("first", "every", "state"),
    )
    vocabulary: int = options.option(
        8_000, "words that have a vector of their own; the others share one", low=1
    )
    shift: int = options.option(
        0, "pixels that a picture is moved at most, at random, in training", low=0
    )
    units: int = options.option(512, "width of a state", low=1)
    embedding: int = options.option(256, "width of a word's vector", low=1)


class ImageCaptions(HanziStructure):
    """A convolutional network sees the picture, a recurrent one says what is in it."""

    name = "image_captions"
    title = "What is in the picture? A sentence about a photograph"
    dataset = "coco_captions"
    result = "no figures yet: the pictures have to be downloaded"
    protocol = (
        "Trained on every caption of the training pictures, judged by all captions of each test "
        "picture at once (BLEU of sacreBLEU, in lower case, without punctuation), said greedily."
    )
    Config = Config
    searched: ClassVar = {
        **HanziStructure.searched,
        "embedding": space.powers(64, 512),
        "units": space.powers(128, 1024),
    }
    variants: ClassVar = {"GRU": {}}
    kept = ""
    limits = ""
    metrics = ("test_bleu",)
    lengths: ClassVar[Sequence[int]] = (12, 16, 24)
    asks = "photographs"

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
            """One for each caption of a picture."""
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
            facts={"vocabulary": symbols, "shape": [SIDE, SIDE, 3]},
            raw={"test": splits["test"], "spoken": spoken},
        )

    def test_pictures(self, data: Data) -> "np.ndarray":
        import numpy as np

        images = [_small(example["image"]).numpy() for example in data.raw["test"]]
        return np.stack(images).astype("float32")

    def judge_said(self, said: Sequence[str], data: Data, folder: Path) -> dict[str, float]:
        return {"test_bleu": _bleu(said, _captions(data))}

    def baselines(self, data: Data, config: Config) -> dict[str, float]:
        import collections

        captions = _captions(data)
        ((always, _),) = collections.Counter(data.raw["spoken"]).most_common(1)
        score = _bleu([always] * len(captions), captions)
        return {"baseline_always_one_sentence_test_bleu": score}

    def read(self, text: str) -> "np.ndarray":
        import numpy as np

        from kerasrnn.recipes.images import read_image

        pixels = np.asarray(read_image(text).convert("RGB"))
        return _small(pixels).numpy()

    def example(self, data: Data, index: int) -> "np.ndarray":
        return _small(next(data.raw["test"].skip(index).as_numpy_iterator())["image"]).numpy()

    def tiny(self) -> Config:
        return dataclasses.replace(super().tiny(), vocabulary=50, units=8, embedding=4)


def _small(image: Any) -> Any:
    """The middle of a photograph, SIDE by SIDE."""
    import tensorflow as tf

    shape = tf.shape(image)
    side = tf.minimum(shape[0], shape[1])
    middle = tf.image.resize_with_crop_or_pad(image, side, side)
    return tf.ensure_shape(tf.image.resize(middle, (SIDE, SIDE), antialias=True), (SIDE, SIDE, 3))


def _captions(data: Data) -> list[list[str]]:
    """Those of each test picture."""
    return [
        _words(example["captions"]["text"]).numpy().astype("str").tolist()
        for example in data.raw["test"]
    ]


def _words(captions: Any) -> Any:
    """In lower case, without punctuation."""
    import tensorflow as tf

    plain = tf.strings.regex_replace(tf.strings.lower(captions), r"[^a-z0-9' ]+", " ")
    return tf.strings.strip(tf.strings.regex_replace(plain, r" +", " "))


def _bleu(said: Sequence[str], captions: Sequence[Sequence[str]]) -> float:
    import itertools

    from sacrebleu.metrics import BLEU

    # sacreBLEU wants the first references of all, the second ones of all, ...; None where none is.
    references = [list(column) for column in itertools.zip_longest(*captions)]
    return BLEU().corpus_score(list(said), references).score


RECIPE: Any = ImageCaptions()
