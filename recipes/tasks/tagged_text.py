"""The user's own segmented texts: words separated by spaces, with an optional tag each."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.tasks.text import read_text

TAGGED = re.compile(r"(.+)/([A-Za-z]+)")
TAG = re.compile(r"O|[BIESLUM]-\S+|[BMES]")


class Line(NamedTuple):
    """A sentence: its words, and their parts of speech, or none if unknown."""

    words: list[str]
    parts: list[str]


def read_lines(path: str, normalize: Callable[[str], str] = str) -> dict[str, list[Line]]:
    """Read sentences by split, in the order of the file: train, validation, test.

    Args:
        path: a file with one sentence per line, its words separated by spaces; if each word of the
            first sentence has a part of speech, as in word/n, every word must have one.
        normalize: applied to each word.

    Returns:
        The last tenth of the sentences as `test`, the last twentieth of the others as `validation`,
        and the remaining ones as `train`.

    Raises:
        DatasetError: the file cannot be read; a line, which the message names, is not such a
            sentence; or there are less than 20 sentences.
    """
    lines: list[Line] = []
    with_parts = False
    rows = read_text(path).split("\n")
    _check_words(path, rows)
    for number, row in enumerate(rows, start=1):
        words = row.split()
        tagged = [TAGGED.fullmatch(word) for word in words]
        if not words:
            continue
        if not lines:  # the first line determines the kind of file
            with_parts = all(tagged)
        if with_parts:
            for word, match in zip(words, tagged, strict=True):
                if not match:
                    raise DatasetError(
                        f"{path}, line {number}: expected words with their parts of speech, as in "
                        f"word/n and as in the first line; found {word!r}."
                    )
            lines.append(Line([normalize(m[1]) for m in tagged], [m[2] for m in tagged]))
        else:
            lines.append(Line([normalize(word) for word in words], []))
    test = len(lines) - len(lines) // 10
    validation = test - test // 20
    splits = {
        "train": lines[:validation],
        "validation": lines[validation:test],
        "test": lines[test:],
    }
    if not all(splits.values()):
        raise DatasetError(f"{path}: expected at least 20 sentences; found {len(lines)}.")
    return splits


def _check_words(path: str, rows: Sequence[str]) -> None:
    """Check that lines are sentences with words separated by spaces.

    Raises:
        DatasetError: the lines are columns, as in CoNLL files, or have no spaces.
    """
    expected = "expected one sentence per line, with words separated by spaces"
    for number, row in enumerate(rows, start=1):
        if "\t" in row.strip():
            raise DatasetError(f"{path}, line {number}: {expected}; found a tab, as in a table.")
    filled = [(number, row.split()) for number, row in enumerate(rows, start=1) if row.strip()]
    # In such files a line is a token, and its last column a tag.
    tagged = [number for number, words in filled if len(words) > 1 and TAG.fullmatch(words[-1])]
    if len(tagged) > len(filled) / 2:
        raise DatasetError(
            f"{path}, line {tagged[0]}: {expected}; found a token and its tag, as in CoNLL files."
        )
    if all(len(words) == 1 for _, words in filled):
        raise DatasetError(f"{path}: {expected}; no line has a space.")
