"""Karpathy's tiny Shakespeare: builder, source and splits. README.md describes the dataset."""

from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.datasets.lines import decode
from kerasrnn.recipes.datasets.pinned import PinnedBuilder
from kerasrnn.recipes.datasets.sources import PublishedFile

CHARACTERS = {"train": 1_003_854, "validation": 111_540}


class Builder(PinnedBuilder):
    """Plays by Shakespeare as one text; the task is the next character."""

    RELEASE_NOTES: ClassVar = {"1.0.0": "The split of nanoGPT: nine tenths, and the last tenth."}
    source = PublishedFile(
        url="https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        path="tiny_shakespeare/input.txt",
        sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        size=1_115_394,
        origin="https://github.com/karpathy/char-rnn",
        licence="public domain",
    )
    # The targets are the characters, shifted by one step.
    supervised_keys = ("text", "text")

    def features(self) -> tfds.features.FeaturesDict:
        return tfds.features.FeaturesDict(
            {"text": tfds.features.Text(doc="the characters of the split, in their order")}
        )

    def read_splits(self, folder: Path) -> dict[str, list[str]]:
        texts = cut(self.source.read(self.source.fetch(folder)), self.source.path)
        return {split: [text] for split, text in texts.items()}

    def example(self, item: str) -> dict[str, Any]:
        return {"text": item}


def cut(content: bytes, source: str) -> dict[str, str]:
    """The text of each split, in the order of the file.

    Raises:
        DatasetError: the file is not UTF-8, or has more or fewer characters than the splits.
    """
    text = decode(content, source=source)
    if len(text) != (expected := sum(CHARACTERS.values())):
        raise DatasetError(f"{source}: expected {expected} characters; found {len(text)}")
    texts = {}
    for split, characters in CHARACTERS.items():
        texts[split], text = text[:characters], text[characters:]
    return texts
