"""Multi30k: builder, sources and splits. README.md describes the dataset."""

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.datasets.lines import line_error, split_lines
from kerasrnn.recipes.datasets.pinned import PinnedBuilder
from kerasrnn.recipes.datasets.sources import PublishedFile
from kerasrnn.wording import counted

LANGUAGES = ("de", "en", "fr")
FILES = {"train": "train", "validation": "val", "test": "test_2016_flickr"}
"""The name of each split in the source."""
SENTENCES = {"train": 29_000, "validation": 1_014, "test": 1_000}

_PINS = {
    "train.de.gz": (
        "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6",
        637_044,
    ),
    "train.en.gz": (
        "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f",
        568_929,
    ),
    "train.fr.gz": (
        "622e75069e9f4c577425c4f277116ce66e63a2401c0a2312d90073cb12379a3c",
        604_242,
    ),
    "val.de.gz": (
        "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a",
        24_681,
    ),
    "val.en.gz": (
        "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28",
        21_650,
    ),
    "val.fr.gz": (
        "ca3106f1a72390591d25f6c45cb4cd39dec4cd3f123e099748a3ce5256c160e9",
        23_001,
    ),
    "test_2016_flickr.de.gz": (
        "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8",
        22_890,
    ),
    "test_2016_flickr.en.gz": (
        "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9",
        21_077,
    ),
    "test_2016_flickr.fr.gz": (
        "6d326e188d259fb1d04ac19eae3af956559b3a0b93d7635e56c90987c40c8b90",
        22_310,
    ),
}
SOURCES = {
    name: PublishedFile(
        url=f"https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw/{name}",
        path=f"multi30k/{name}",
        sha256=sha256,
        size=size,
        origin="https://github.com/multi30k/dataset",
        licence="none stated; made for research",
    )
    for name, (sha256, size) in _PINS.items()
}


class Builder(PinnedBuilder):
    """Descriptions of photographs in three languages; the task is to translate them."""

    RELEASE_NOTES: ClassVar = {"1.0.0": "The authors' splits; tested on test_2016_flickr."}
    source = SOURCES["train.en.gz"]
    supervised_keys = ("de", "en")

    def features(self) -> tfds.features.Translation:
        return tfds.features.Translation(LANGUAGES, doc="one sentence in each language")

    def read_splits(self, folder: Path) -> dict[str, list[tuple[str, ...]]]:
        splits = {}
        for split, name in FILES.items():
            lines = {}
            for language in LANGUAGES:
                source = SOURCES[f"{name}.{language}.gz"]
                content = source.read(source.fetch(folder))
                lines[source.path] = parse(gzip.decompress(content), source.path)
            splits[split] = aligned(lines, SENTENCES[split])
        return splits

    def example(self, item: tuple[str, ...]) -> dict[str, Any]:
        return dict(zip(LANGUAGES, item, strict=True))


def parse(content: bytes, source: str) -> list[str]:
    """Parse the lines of a file.

    Raises:
        DatasetError: the file is not UTF-8 or ends within a line, or a line is empty. The message
            names `source`, the line (counted from 1), the expected and the actual content.
    """
    lines = split_lines(content, source=source)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            raise line_error(source, number, "a sentence", repr(line))
    return lines


def aligned(lines: Mapping[str, list[str]], count: int) -> list[tuple[str, ...]]:
    """Combine the lines of several files.

    Args:
        lines: the lines of each file, by file name.
        count: expected number of lines of each file.

    Raises:
        DatasetError: a file has a different number of lines. The message names all files.
    """
    if any(len(texts) != count for texts in lines.values()):
        counts = ", ".join(f"{len(texts)} in {source}" for source, texts in lines.items())
        raise DatasetError(
            f"Sentences by language: expected {counted(count, 'line')} each; found {counts}"
        )
    return list(zip(*lines.values(), strict=True))
