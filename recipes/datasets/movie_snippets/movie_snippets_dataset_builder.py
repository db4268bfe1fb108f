"""Rated snippets of film reviews: builder, source and splits. README.md describes the dataset."""

import io
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from kerasrnn.recipes.base.errors import SourceError
from kerasrnn.recipes.base.splits import fingerprint
from kerasrnn.recipes.datasets.lines import decode, line_error
from kerasrnn.recipes.datasets.pinned import PinnedBuilder
from kerasrnn.recipes.datasets.sources import PackageArchive
from kerasrnn.wording import counted

# An archive in the archive, and its file.
RESOURCES = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
MEMBER = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
SNIPPETS = 10_605
LABELS = ("negative", "neutral", "positive")
# Ratings range from -4 to 4.
EXTREME = 4.0

_NUMBER = re.compile(r"-?\d+(\.\d+)?", re.ASCII)


class Snippet(NamedTuple):
    """A text, the mean of its ratings, and the resulting class."""

    number: int
    text: str
    rating: float
    label: str


class Builder(PinnedBuilder):
    """Snippets of film reviews with mean human ratings; the task is to predict the sign."""

    RELEASE_NOTES: ClassVar = {"1.0.0": "Half of each class for training, chosen by hash."}
    source = PackageArchive(
        name="vaderSentiment",
        version="3.3.2",
        archive="vaderSentiment-3.3.2.tar.gz",
        sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
        size=2_466_783,
        origin="https://github.com/cjhutto/vaderSentiment",
        licence="MIT",
    )
    supervised_keys = ("text", "label")

    def features(self) -> tfds.features.FeaturesDict:
        return tfds.features.FeaturesDict(
            {
                "text": tfds.features.Text(doc="one snippet, as it is in the source"),
                "rating": tfds.features.Scalar(np.float32, doc="mean of the ratings, from -4 to 4"),
                "label": tfds.features.ClassLabel(names=LABELS, doc="the sign of the rating"),
            }
        )

    def read_splits(self, folder: Path) -> dict[str, list[Snippet]]:
        resources = self.source.read(self.source.fetch(folder), RESOURCES)
        with tarfile.open(fileobj=io.BytesIO(resources)) as archive:
            try:
                content = archive.extractfile(MEMBER).read()
            except KeyError:
                raise SourceError(f"{RESOURCES} contains no file {MEMBER!r}") from None
        train, test = halves(parse_snippets(content, source=MEMBER, count=SNIPPETS))
        return {"train": train, "test": test}

    def key(self, number: int, item: Snippet) -> int:
        return item.number

    def example(self, item: Snippet) -> dict[str, Any]:
        return {"text": item.text, "rating": item.rating, "label": item.label}


def parse_snippets(content: bytes, *, source: str, count: int) -> list[Snippet]:
    """Parse lines of number, mean rating and text, separated by tabs and numbered from 1 to
    `count`.

    Raises:
        DatasetError: the file is not UTF-8 or has a different number of lines; or a line does not
            have three fields, or has a wrong number, a rating outside -4 to 4, or no text. The
            message names `source`, the line, what was expected and what was found.
    """
    # The last line need not end. Split only here: str.splitlines splits at other characters, too.
    lines = decode(content, source=source).removesuffix("\r\n").split("\r\n")
    if len(lines) != count:
        raise line_error(source, len(lines), f"{count} lines", f"{len(lines)}")
    snippets = []
    for number, line in enumerate(lines, start=1):
        fields = line.split("\t")
        if len(fields) != 3:
            expected = "a number, a rating and a text, separated by tabs"
            raise line_error(source, number, expected, counted(len(fields), "field"))
        found, mean, text = fields
        if found != str(number):
            raise line_error(source, number, f"the number {number}", repr(found))
        if not _NUMBER.fullmatch(mean) or abs(rating := float(mean)) > EXTREME:
            raise line_error(source, number, f"a rating from {-EXTREME} to {EXTREME}", repr(mean))
        if not text.strip():
            raise line_error(source, number, "a text", repr(text))
        label = LABELS[1 + (rating > 0) - (rating < 0)]
        snippets.append(Snippet(number, text, rating, label))
    return snippets


def halves(snippets: Sequence[Snippet]) -> tuple[list[Snippet], list[Snippet]]:
    """Split each class at the median of its texts' hashes; the lower half is for training.

    The hash is `fingerprint`, so snippets of one class with equal letters and digits are in the
    same split.
    """
    hashes = {snippet.number: fingerprint(snippet.text) for snippet in snippets}
    train, test = [], []
    for label in LABELS:
        members = [snippet for snippet in snippets if snippet.label == label]
        ordered = sorted(hashes[snippet.number] for snippet in members)
        for snippet in members:
            side = train if hashes[snippet.number] < ordered[len(ordered) // 2] else test
            side.append(snippet)
    return train, test
