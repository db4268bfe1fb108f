"""The builder on a short text: TFDS's own checks, the values, and builds that fail."""

from pathlib import Path

import pytest
import tensorflow_datasets as tfds

from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.datasets.karpathy_shakespeare import Builder
from kerasrnn.recipes.datasets.karpathy_shakespeare import (
    karpathy_shakespeare_dataset_builder as module,
)
from kerasrnn.recipes.datasets.sources import MIRROR_VARIABLE
from tests.recipes.datasets.archives import left_in, pinned_file

DUMMY_DATA = Path(__file__).parent / "karpathy_shakespeare" / "dummy_data"
CONTENT = (DUMMY_DATA / "input.txt").read_bytes()


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A function that puts a file in the place of the real one."""
    monkeypatch.setattr(module, "CHARACTERS", {"train": 38, "validation": 5})
    monkeypatch.setenv(MIRROR_VARIABLE, str(tmp_path))

    def put(content):
        source = pinned_file(content)
        (tmp_path / source.path).parent.mkdir(exist_ok=True)
        (tmp_path / source.path).write_bytes(content)
        monkeypatch.setattr(Builder, "source", source)

    return put


class TestBuilder(tfds.testing.DatasetBuilderTestCase):
    """TFDS's checks: registered, prepared, read back, reloaded, splits apart, tags valid."""

    DATASET_CLASS = Builder
    SPLITS = {"train": 1, "validation": 1}  # noqa: RUF012
    EXAMPLE_DIR = DUMMY_DATA

    @pytest.fixture(autouse=True)
    def dummy_file(self, mirror):
        mirror(CONTENT)


def load(tmp_path):
    splits = tfds.load("karpathy_shakespeare", data_dir=tmp_path / "data")
    return {
        split: [x["text"].decode("utf-8") for x in tfds.as_numpy(examples)]
        for split, examples in splits.items()
    }


def test_values(mirror, tmp_path):
    mirror(CONTENT)
    expected = {"train": ["First Citizen:\nBefore we proceed, hear"], "validation": [" me.\n"]}
    assert load(tmp_path) == expected


def test_characters_not_bytes_are_counted(mirror, tmp_path):
    mirror(("ä" * 38 + "öööö\n").encode())
    assert load(tmp_path) == {"train": ["ä" * 38], "validation": ["öööö\n"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (CONTENT[:-1], r"^vowels/all\.txt: expected 43 characters; found 42"),
        (CONTENT.replace(b"we", b"w\xe9"), "^vowels/all.txt, line 2: expected UTF-8 text; .* 0xe9"),
    ],
)
def test_another_text_is_an_error(content, message, mirror, tmp_path):
    mirror(content)
    with pytest.raises(DatasetError, match=message):
        load(tmp_path)
    assert left_in(tmp_path / "data") == []


def test_real_source_is_pinned():
    """The split of nanoGPT: the first nine tenths of all characters, and the rest."""
    characters = dict(module.CHARACTERS)
    assert Builder.source.path == "tiny_shakespeare/input.txt"
    assert sum(characters.values()) == Builder.source.size == 1_115_394
    assert characters["train"] == int(0.9 * 1_115_394)


def test_description_and_citation_come_from_the_folder():
    metadata = Builder.get_metadata()
    assert metadata.description.startswith("# Karpathy Shakespeare")
    assert "char-rnn" in metadata.citation
    assert "ml.task.language-modeling" in metadata.tags
