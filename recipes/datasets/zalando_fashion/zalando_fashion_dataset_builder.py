"""Fashion-MNIST: builder, source and splits. README.md describes the dataset."""

import gzip
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.datasets.idx_format import parse_idx
from kerasrnn.recipes.datasets.sources import DebianPackage

SOURCE = DebianPackage(
    name="dataset-fashion-mnist",
    version="0.0~git20200523.55506a9-1",
    archive="dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb",
    sha256="39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
    size=30_900_652,
    origin="https://github.com/zalandoresearch/fashion-mnist",
    licence="MIT",
)
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


class Builder(tfds.core.GeneratorBasedBuilder):
    """Images of garments, 28 by 28 pixels; the task is to classify them into ten kinds."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "The authors' split, 60,000 and 10,000 images."}

    # TFDS would look for these files in the folder of `kerasrnn`, which has no recipes in an
    # editable install.
    code_path = tfds.core.Path(__file__)
    pkg_dir_path = code_path.parent

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(
                        shape=(SIDE, SIDE, 1), doc="light on dark: 0 is the background"
                    ),
                    "label": tfds.features.ClassLabel(names=GARMENTS),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://github.com/zalandoresearch/fashion-mnist",
            license=SOURCE.licence,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        path = SOURCE.fetch(dl_manager.download_dir)

        def parsed(member: str, *shape: int) -> np.ndarray:
            content = gzip.decompress(SOURCE.read(path, member))
            return parse_idx(content, source=member, shape=shape)

        # Parse all four files before yielding the first example, so that an error in the last one
        # is raised before anything is written.
        arrays = {}
        for split, (images, labels) in MEMBERS.items():
            count = IMAGES[split]
            arrays[split] = parsed(images, count, SIDE, SIDE), parsed(labels, count)
            if (wrong := arrays[split][1] >= len(GARMENTS)).any():
                raise DatasetError(
                    f"{labels}, label {wrong.argmax() + 1}: expected 0 to {len(GARMENTS) - 1}; "
                    f"found {arrays[split][1][wrong][0]}"
                )
        return {split: self._generate_examples(*found) for split, found in arrays.items()}

    def _generate_examples(
        self, images: np.ndarray, labels: np.ndarray
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, (image, label) in enumerate(zip(images[..., None], labels, strict=True)):
            yield number, {"image": image, "label": int(label)}
