"""Karpathy's tiny Shakespeare: builder, source and splits. README.md describes the dataset."""

from collections.abc import Iterator
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.datasets.sources import PublishedFile

SOURCE = PublishedFile(
    url="https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
    path="tiny_shakespeare/input.txt",
    sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    size=1_115_394,
    origin="https://github.com/karpathy/char-rnn",
    licence="public domain",
)
CHARACTERS = {"train": 1_003_854, "validation": 111_540}


class Builder(tfds.core.GeneratorBasedBuilder):
    """Plays by Shakespeare as one text; the task is the next character."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "The split of nanoGPT: nine tenths, and the last tenth."}

    # TFDS would look for these files in the folder of `kerasrnn`, which has no recipes in an
    # editable install.
    code_path = tfds.core.Path(__file__)
    pkg_dir_path = code_path.parent

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {"text": tfds.features.Text(doc="the characters of the split, in their order")}
            ),
            # What is predicted of the text is the text, one character on.
            supervised_keys=("text", "text"),
            homepage=SOURCE.origin,
            license=SOURCE.licence,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        texts = cut(SOURCE.read(SOURCE.fetch(dl_manager.download_dir)), SOURCE.path)
        return {split: self._generate_examples(text) for split, text in texts.items()}

    def _generate_examples(self, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
        yield 0, {"text": text}


def cut(content: bytes, source: str) -> dict[str, str]:
    """The text of each split, in the order of the file.

    Raises:
        DatasetError: the file is not UTF-8, or has more or fewer characters than the splits.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = f"byte {content[error.start]:#04x}"
        raise DatasetError(f"{source}, line {line}: expected UTF-8; found {found}") from None
    if len(text) != (expected := sum(CHARACTERS.values())):
        raise DatasetError(f"{source}: expected {expected} characters; found {len(text)}")
    texts = {}
    for split, characters in CHARACTERS.items():
        texts[split], text = text[:characters], text[characters:]
    return texts
