"""Fashion-MNIST: builder, source and splits. README.md describes the dataset."""

import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.datasets.idx_format import parse_idx
from kerasrnn.recipes.datasets.pinned import PinnedBuilder
from kerasrnn.recipes.datasets.sources import DebianPackage

FOLDER = "usr/share/datasets/fashion-mnist"
# By split: the images, then their labels.
MEMBERS = {
    "train": (f"{FOLDER}/train-images-idx3-ubyte.gz", f"{FOLDER}/train-labels-idx1-ubyte.gz"),
    "test": (f"{FOLDER}/t10k-images-idx3-ubyte.gz", f"{FOLDER}/t10k-labels-idx1-ubyte.gz"),
}
IMAGES = {"train": 60_000, "test": 10_000}
SIDE = 28
# As in the TFDS catalogue.
GARMENTS = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


class Builder(PinnedBuilder):
    """Images of garments, 28 by 28 pixels; the task is to classify them into ten kinds."""

    RELEASE_NOTES: ClassVar = {"1.0.0": "The authors' split, 60,000 and 10,000 images."}
    source = DebianPackage(
        name="dataset-fashion-mnist",
        version="0.0~git20200523.55506a9-1",
        archive="dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb",
        sha256="39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
        size=30_900_652,
        origin="https://github.com/zalandoresearch/fashion-mnist",
        licence="MIT",
    )
    supervised_keys = ("image", "label")

    def features(self) -> tfds.features.FeaturesDict:
        return tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(
                    shape=(SIDE, SIDE, 1), doc="light on dark: 0 is the background"
                ),
                "label": tfds.features.ClassLabel(names=GARMENTS),
            }
        )

    def read_splits(self, folder: Path) -> dict[str, Iterable[tuple[np.ndarray, int]]]:
        path = self.source.fetch(folder)

        def parsed(member: str, *shape: int) -> np.ndarray:
            content = gzip.decompress(self.source.read(path, member))
            return parse_idx(content, source=member, shape=shape)

        splits = {}
        for split, (image_file, label_file) in MEMBERS.items():
            images = parsed(image_file, IMAGES[split], SIDE, SIDE)
            labels = parsed(label_file, IMAGES[split])
            if (wrong := labels >= len(GARMENTS)).any():
                raise DatasetError(
                    f"{label_file}, label {wrong.argmax() + 1}: expected 0 to "
                    f"{len(GARMENTS) - 1}; found {labels[wrong][0]}"
                )
            splits[split] = zip(images[..., None], labels, strict=True)
        return splits

    def example(self, item: tuple[np.ndarray, int]) -> dict[str, Any]:
        image, label = item
        return {"image": image, "label": int(label)}
