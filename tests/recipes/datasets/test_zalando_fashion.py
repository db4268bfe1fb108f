"""The builder on made-up images: TFDS's own checks, the values, and builds that fail."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.datasets.sources import MIRROR_VARIABLE, SourceError
from kerasrnn.recipes.datasets.zalando_fashion import Builder
from kerasrnn.recipes.datasets.zalando_fashion import zalando_fashion_dataset_builder as module
from tests.recipes.datasets.archives import deb, left_in, pinned_deb

DUMMY_DATA = Path(__file__).parent / "zalando_fashion" / "dummy_data"
COUNTS = {"train": 12, "test": 3}


@pytest.fixture
def members():
    """The dummy files under their names in the package."""
    names = [name for pair in module.MEMBERS.values() for name in pair]
    return {name: (DUMMY_DATA / Path(name).name).read_bytes() for name in names}


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A function that puts a package of some members in the place of the real one."""
    monkeypatch.setattr(module, "IMAGES", COUNTS)
    monkeypatch.setenv(MIRROR_VARIABLE, str(tmp_path))

    def put(members):
        content = deb(members)
        source = pinned_deb(content)
        (tmp_path / source.archive).write_bytes(content)
        monkeypatch.setattr(Builder, "source", source)

    return put


class TestBuilder(tfds.testing.DatasetBuilderTestCase):
    """TFDS's checks: registered, prepared, read back, reloaded, splits apart, tags valid."""

    DATASET_CLASS = Builder
    SPLITS = COUNTS
    EXAMPLE_DIR = DUMMY_DATA

    @pytest.fixture(autouse=True)
    def dummy_archive(self, members, mirror):
        mirror(members)


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "data"


def test_values(members, mirror, data_dir):
    mirror(members)
    splits, info = tfds.load("zalando_fashion", data_dir=data_dir, with_info=True)
    # The files are made so that image k has row k lit with 200 + k, and k once more in its last
    # row. The labels count on from 0 in train and from 5 in test.
    for split, first in [("train", 0), ("test", 5)]:
        found = {int(x["image"][27, 3, 0]): x for x in splits[split].as_numpy_iterator()}
        assert set(found) == set(range(COUNTS[split]))
        for number, example in found.items():
            expected = np.zeros((28, 28, 1), "uint8")
            expected[number], expected[27, 3] = 200 + number, number
            np.testing.assert_array_equal(example["image"], expected)
            assert example["image"].dtype == np.uint8
            assert example["label"] == (first + number) % 10
    assert info.features["label"].int2str(9) == "Ankle boot"


def test_features_are_those_of_the_catalogue(members, mirror, data_dir):
    mirror(members)
    ours, catalogues = (
        tfds.builder(name, data_dir=data_dir).info for name in ("zalando_fashion", "fashion_mnist")
    )
    assert ours.features["label"].names == catalogues.features["label"].names
    assert ours.features.get_tensor_info() == catalogues.features.get_tensor_info()
    assert ours.supervised_keys == catalogues.supervised_keys


def test_description_and_citation_come_from_the_folder():
    metadata = Builder.get_metadata()
    assert metadata.description.startswith("# Zalando Fashion")
    assert "1708.07747" in metadata.citation
    assert metadata.tags


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(
    ("which", "change", "message"),
    [
        (0, lambda content: content[:-1], r": expected \d+ values; found \d+$"),
        (1, lambda content: b"\1" + content[1:], ": expected the magic number 00 00 08 01"),
        (1, lambda content: content[:-1] + b"\n", r", label (12|3): expected 0 to 9; found 10$"),
    ],
)
def test_a_malformed_file_is_an_error_before_an_example_is_written(
    members, mirror, data_dir, monkeypatch, split, which, change, message
):
    name = module.MEMBERS[split][which]
    mirror(members | {name: gzip.compress(change(gzip.decompress(members[name])))})
    builder = tfds.builder("zalando_fashion", data_dir=data_dir)
    monkeypatch.setattr(builder, "_generate_examples", lambda *_: pytest.fail("made examples"))
    with pytest.raises(DatasetError, match=rf"^{name}{message}"):
        builder.download_and_prepare()
    assert left_in(data_dir) == []


def test_missing_file_is_an_error(members, mirror, data_dir):
    del members[module.MEMBERS["test"][1]]
    mirror(members)
    with pytest.raises(SourceError, match=r"contains no file '.*t10k-labels-idx1-ubyte\.gz'"):
        tfds.load("zalando_fashion", data_dir=data_dir)
    assert left_in(data_dir) == []


def test_real_source_is_pinned():
    source = Builder.source
    assert source.archive == f"{source.name}_{source.version}_all.deb"
    assert module.IMAGES == {"train": 60_000, "test": 10_000}
    assert module.MEMBERS.keys() == module.IMAGES.keys()
