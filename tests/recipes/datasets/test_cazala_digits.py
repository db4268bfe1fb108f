"""The builder on made-up digits: TFDS's own checks, the values, and builds that fail."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.datasets.cazala_digits import Builder
from kerasrnn.recipes.datasets.cazala_digits import cazala_digits_dataset_builder as module
from kerasrnn.recipes.datasets.sources import MIRROR_VARIABLE
from tests.recipes.datasets.archives import left_in, pinned_node, tar

DUMMY_DATA = Path(__file__).parent / "cazala_digits" / "dummy_data"
MEMBERS = {
    module.MEMBER.format(digit=digit): (DUMMY_DATA / f"{digit}.json").read_bytes()
    for digit in range(10)
}
COUNTS = {"train": 40, "test": 10}
SEVEN = module.MEMBER.format(digit=7)


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A function that puts a package of some members in the place of the real one."""
    monkeypatch.setattr(module, "IMAGES", (5,) * 10)
    monkeypatch.setenv(MIRROR_VARIABLE, str(tmp_path))

    def put(members):
        content = tar(members)
        source = pinned_node(content)
        (tmp_path / source.archive).write_bytes(content)
        monkeypatch.setattr(Builder, "source", source)

    return put


class TestBuilder(tfds.testing.DatasetBuilderTestCase):
    """TFDS's checks: registered, prepared, read back, reloaded, splits apart, tags valid."""

    DATASET_CLASS = Builder
    SPLITS = COUNTS
    EXAMPLE_DIR = DUMMY_DATA

    @pytest.fixture(autouse=True)
    def dummy_archive(self, mirror):
        mirror(MEMBERS)


def test_values(mirror, tmp_path):
    mirror(MEMBERS)
    splits = tfds.load("cazala_digits", data_dir=tmp_path / "data")
    # The files are made so that image n of a digit has the row digit + n lit with 50 n, and a
    # pixel of the last row with digit + 1.
    for split, numbers in (("train", (1, 2, 3, 4)), ("test", (5,))):
        found = list(splits[split].as_numpy_iterator())
        assert len(found) == 10 * len(numbers)
        seen = set()
        for example in found:
            digit, number = int(example["label"]), int(example["image"].max()) // 50
            expected = np.zeros((28, 28, 1), "uint8")
            expected[digit + number], expected[27, 3] = 50 * number, digit + 1
            np.testing.assert_array_equal(example["image"], expected)
            seen.add((digit, number))
        assert seen == {(digit, number) for digit in range(10) for number in numbers}


def test_features_are_those_of_the_catalogue(mirror, tmp_path):
    mirror(MEMBERS)
    ours, catalogues = (
        tfds.builder(name, data_dir=tmp_path / "data").info for name in ("cazala_digits", "mnist")
    )
    assert ours.features["label"].names == catalogues.features["label"].names
    assert ours.features.get_tensor_info() == catalogues.features.get_tensor_info()


def changed(**changes):
    data = json.loads(MEMBERS[SEVEN])["data"]
    for place, value in changes.items():
        data[int(place[1:])] = value
    return json.dumps({"data": data}).encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", ": expected JSON; found "),
        (b"\xff", ": expected JSON; found "),
        (b"[1]", ": expected an object with data, a list of numbers"),
        (b'{"data": ["x"]}', ": expected an object with data, a list of numbers"),
        (b'{"data": []}', ": expected a flat list of 784 numbers for each image; found .*(0,)"),
        (b'{"data": [0, 1]}', ": expected a flat list of 784 numbers for each image; found .*(2,)"),
        (changed(_784=1.5), ", image 2, pixel 1: expected a number from 0 to 1; found 1.5"),
        (changed(_3=float("nan")), ", image 1, pixel 4: expected a number from 0 to 1; found nan"),
        (json.dumps({"data": [0] * 784}).encode(), ": expected 5 images; found 1"),
    ],
)
def test_a_malformed_file_is_an_error_before_an_example_is_written(
    mirror, tmp_path, content, message
):
    mirror(MEMBERS | {SEVEN: content})
    with pytest.raises(DatasetError, match=rf"^{SEVEN}{message}"):
        tfds.load("cazala_digits", data_dir=tmp_path / "data")
    assert left_in(tmp_path / "data") == []


def test_real_source_is_pinned():
    source = Builder.source
    assert source.archive == f"{source.name}-{source.version}.tgz"
    assert sum(module.IMAGES) == 10_000
