"""The Japanese Vowels dataset: builder, source and splits. README.md describes the dataset."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from kerasrnn.recipes.datasets.pinned import PinnedBuilder
from kerasrnn.recipes.datasets.sources import PackageArchive
from kerasrnn.recipes.datasets.ts_format import Series, parse_ts

MEMBERS = {
    "train": "sktime/datasets/data/JapaneseVowels/JapaneseVowels_TRAIN.ts",
    "test": "sktime/datasets/data/JapaneseVowels/JapaneseVowels_TEST.ts",
}
UTTERANCES = {"train": 270, "test": 370}
COEFFICIENTS = 12
SPEAKERS = tuple("123456789")


class Builder(PinnedBuilder):
    """Utterances of /ae/ by nine men, as LPC cepstra; the task is to identify the speaker."""

    RELEASE_NOTES: ClassVar = {"1.0.0": "The authors' split, 270 and 370 utterances."}
    source = PackageArchive(
        name="sktime",
        version="1.2.0",
        archive="sktime-1.2.0-py3-none-any.whl",
        sha256="dbffc6731d2d683b668dceb5e2bbc5804bebc8446b4c580803a281684d90e4ae",
        size=8_201_107,
        origin="https://doi.org/10.24432/C5NS47",
        licence="CC BY 4.0 (the package: BSD-3-Clause)",
    )
    homepage = "https://archive.ics.uci.edu/dataset/128/japanese+vowels"
    supervised_keys = ("frames", "speaker")

    def features(self) -> tfds.features.FeaturesDict:
        return tfds.features.FeaturesDict(
            {
                "frames": tfds.features.Tensor(
                    shape=(None, COEFFICIENTS),
                    dtype=np.float32,
                    doc="LPC cepstrum coefficients, one row for every 6.4 ms",
                ),
                "speaker": tfds.features.ClassLabel(names=[f"speaker_{s}" for s in SPEAKERS]),
            }
        )

    def read_splits(self, folder: Path) -> dict[str, list[Series]]:
        path = self.source.fetch(folder)
        return {
            split: parse_ts(
                self.source.read(path, member),
                source=member,
                dimensions=COEFFICIENTS,
                labels=SPEAKERS,
                count=UTTERANCES[split],
            )
            for split, member in MEMBERS.items()
        }

    def example(self, item: Series) -> dict[str, Any]:
        return {"frames": item.values, "speaker": f"speaker_{item.label}"}
