"""The Japanese Vowels dataset: builder, source and splits. README.md describes the dataset."""

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from kerasrnn.recipes.datasets.sources import PackageArchive
from kerasrnn.recipes.datasets.ts_format import Series, parse_ts

SOURCE = PackageArchive(
    name="sktime",
    version="1.2.0",
    archive="sktime-1.2.0-py3-none-any.whl",
    sha256="dbffc6731d2d683b668dceb5e2bbc5804bebc8446b4c580803a281684d90e4ae",
    size=8_201_107,
    origin="https://doi.org/10.24432/C5NS47",
    licence="CC BY 4.0 (the package: BSD-3-Clause)",
)
MEMBERS = {
    "train": "sktime/datasets/data/JapaneseVowels/JapaneseVowels_TRAIN.ts",
    "test": "sktime/datasets/data/JapaneseVowels/JapaneseVowels_TEST.ts",
}
UTTERANCES = {"train": 270, "test": 370}
COEFFICIENTS = 12
SPEAKERS = tuple("123456789")


class Builder(tfds.core.GeneratorBasedBuilder):
    """Utterances of /ae/ by nine men, as LPC cepstra; the task is to identify the speaker."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "The authors' split, 270 and 370 utterances."}

    # TFDS would look for these files in the folder of `kerasrnn`, which has no recipes in an
    # editable install.
    code_path = tfds.core.Path(__file__)
    pkg_dir_path = code_path.parent

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "frames": tfds.features.Tensor(
                        shape=(None, COEFFICIENTS),
                        dtype=np.float32,
                        doc="LPC cepstrum coefficients, one row for every 6.4 ms",
                    ),
                    "speaker": tfds.features.ClassLabel(names=[f"speaker_{s}" for s in SPEAKERS]),
                }
            ),
            supervised_keys=("frames", "speaker"),
            homepage="https://archive.ics.uci.edu/dataset/128/japanese+vowels",
            license=SOURCE.licence,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        path = SOURCE.fetch(dl_manager.download_dir)
        # Parse both files before yielding the first example, so that an error in the second one is
        # raised before anything is written.
        series = {
            split: parse_ts(
                SOURCE.read(path, member),
                source=member,
                dimensions=COEFFICIENTS,
                labels=SPEAKERS,
                count=UTTERANCES[split],
            )
            for split, member in MEMBERS.items()
        }
        return {split: self._generate_examples(found) for split, found in series.items()}

    def _generate_examples(self, series: Iterable[Series]) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, (values, label) in enumerate(series):
            yield number, {"frames": values, "speaker": f"speaker_{label}"}
