"""The builder on made-up snippets: TFDS's own checks, the values, and builds that fail."""

import random
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.datasets.movie_snippets import Builder
from kerasrnn.recipes.datasets.movie_snippets import movie_snippets_dataset_builder as module
from kerasrnn.recipes.datasets.movie_snippets.movie_snippets_dataset_builder import (
    Snippet,
    halves,
    parse_snippets,
)
from kerasrnn.recipes.datasets.sources import MIRROR_VARIABLE, SourceError
from tests.recipes.datasets.archives import left_in, pinned, tar

DUMMY_DATA = Path(__file__).parent / "movie_snippets" / "dummy_data"
CONTENT = (DUMMY_DATA / "movieReviewSnippets_GroundTruth.txt").read_bytes()


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A function that puts an archive with a file of snippets in the place of the real one."""
    monkeypatch.setattr(module, "SNIPPETS", 10)
    monkeypatch.setenv(MIRROR_VARIABLE, str(tmp_path))

    def put(snippets=CONTENT, member=module.MEMBER):
        content = tar({module.RESOURCES: tar({member: snippets})})
        source = pinned(content, "vowels-1.0.tar.gz")
        (tmp_path / source.archive).write_bytes(content)
        monkeypatch.setattr(Builder, "source", source)

    return put


class TestBuilder(tfds.testing.DatasetBuilderTestCase):
    """TFDS's checks: registered, prepared, read back, reloaded, splits apart, tags valid."""

    DATASET_CLASS = Builder
    SPLITS = {"train": 5, "test": 5}  # noqa: RUF012 (as TFDS declares it)
    EXAMPLE_DIR = DUMMY_DATA

    @pytest.fixture(autouse=True)
    def dummy_archive(self, mirror):
        mirror()


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "data"


def test_values(mirror, data_dir):
    mirror()
    splits, info = tfds.load("movie_snippets", data_dir=data_dir, with_info=True)
    found = {
        split: {x["text"].decode(): (x["rating"], int(x["label"])) for x in tfds.as_numpy(examples)}
        for split, examples in splits.items()
    }
    # Of each class the smaller half by `printf %s amess | sha256sum` and so on.
    assert found["train"] == {
        "A mess.": (-3.5, 0),
        "...a mess...": (-1.25, 0),
        "It is a film, and it was shown.": (0.0, 1),
        "A small film with a large heart.": (np.float32(2.26666666667), 2),
        "''Splendid'' says nobody; I do.": (np.float32(3.4), 2),
    }
    assert found["test"] == {
        "Long, loud and over at last.": (np.float32(-0.6), 0),
        "Dreary &amp; dull.": (-4.0, 0),
        "Neither this nor that – café talk.": (0.0, 1),
        "Fine.": (np.float32(0.4), 2),
        "The film of the year.": (4.0, 2),
    }
    assert info.features["label"].names == ["negative", "neutral", "positive"]
    assert info.supervised_keys == ("text", "label")


class TestHalves:
    # Pairs of texts, even number and odd, that differ in an exclamation mark.
    SNIPPETS = tuple(
        Snippet(number, f"Film {number // 2}{'!' * (number % 2)}", 0.0, label)
        for number, label in enumerate(["negative"] * 400 + ["neutral"] * 20, start=2)
    )

    def test_each_class_is_split_in_halves(self):
        train, test = halves(self.SNIPPETS)
        assert sorted(train + test) == list(self.SNIPPETS)
        for label, count in [("negative", 200), ("neutral", 10)]:
            for side in train, test:
                assert sum(snippet.label == label for snippet in side) == count

    def test_equal_texts_stay_together(self):
        train, _ = halves(self.SNIPPETS)
        numbers = {snippet.number for snippet in train}
        assert all(number ^ 1 in numbers for number in numbers)

    def test_the_order_does_not_matter(self):
        shuffled = random.Random(0).sample(self.SNIPPETS, len(self.SNIPPETS))
        assert [sorted(side) for side in halves(shuffled)] == [
            sorted(side) for side in halves(self.SNIPPETS)
        ]


def test_the_last_line_may_end_with_a_newline():
    snippets = [parse_snippets(x, source="s", count=10) for x in (CONTENT, CONTENT + b"\r\n")]
    assert snippets[0] == snippets[1]
    assert snippets[0][6] == Snippet(7, "Neither this nor that – café talk.", 0.0, "neutral")


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        (b"\xc3\xa9", b"\xe9", 7, "expected UTF-8 text; found byte 0xe9"),
        (b"\r\n10\t4\tThe film of the year.", b"", 9, "expected 10 lines; found 9"),
        (b"\tFine.", b" Fine.", 8, "expected a number, a rating and a text, .*; found 2 fields"),
        (b"\tFine.", b"\tFine\t.", 8, "expected a number, a rating and a text, .*found 4 fields"),
        (b"\n8\t", b"\n9\t", 8, "expected the number 8; found '9'"),
        (b"\t0.4\t", b"\tnan\t", 8, "expected a rating from -4.0 to 4.0; found 'nan'"),
        (b"\t0.4\t", b"\t4.01\t", 8, "expected a rating from -4.0 to 4.0; found '4.01'"),
        (b"\tFine.", b"\t ", 8, "expected a text; found ' '"),
    ],
)
def test_a_malformed_line_is_an_error_before_an_example_is_written(
    mirror, data_dir, monkeypatch, old, new, line, message
):
    assert CONTENT.count(old) == 1
    mirror(CONTENT.replace(old, new))
    builder = tfds.builder("movie_snippets", data_dir=data_dir)
    monkeypatch.setattr(builder, "_generate_examples", lambda _: pytest.fail("made examples"))
    with pytest.raises(DatasetError, match=rf"^{module.MEMBER}, line {line}: {message}$"):
        builder.download_and_prepare()
    assert left_in(data_dir) == []


def test_missing_file_is_an_error(mirror, data_dir):
    mirror(member="hutto_ICWSM_2014/tweets_GroundTruth.txt")
    with pytest.raises(
        SourceError, match=r"contains no file '.*movieReviewSnippets_GroundTruth.txt'"
    ):
        tfds.load("movie_snippets", data_dir=data_dir)
    assert left_in(data_dir) == []


def test_description_and_citation_come_from_the_folder():
    metadata = Builder.get_metadata()
    assert metadata.description.startswith("# Movie Snippets")
    assert "hutto2014vader" in metadata.citation
    assert metadata.tags


def test_real_source_is_pinned():
    assert Builder.source.archive == f"vaderSentiment-{Builder.source.version}.tar.gz"
    assert module.RESOURCES.startswith(Builder.source.archive.removesuffix(".tar.gz"))
