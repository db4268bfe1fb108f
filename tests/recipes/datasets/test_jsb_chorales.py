"""The builder on made-up chorales: TFDS's own checks, the values, and builds that fail."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.datasets.jsb_chorales import Builder
from kerasrnn.recipes.datasets.jsb_chorales import jsb_chorales_dataset_builder as module
from kerasrnn.recipes.datasets.sources import MIRROR_VARIABLE
from tests.recipes.datasets.archives import left_in, pinned_file

DUMMY_DATA = Path(__file__).parent / "jsb_chorales" / "dummy_data"
CONTENT = (DUMMY_DATA / "jsb-chorales-quarter.json").read_bytes()
CHORALES = {"train": 2, "validation": 1, "test": 1}
FRAMES = {"train": 4, "validation": 2, "test": 3}


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A function that puts a file in the place of the real one."""
    monkeypatch.setattr(module, "CHORALES", CHORALES)
    monkeypatch.setattr(module, "FRAMES", FRAMES)
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
    SPLITS = CHORALES
    EXAMPLE_DIR = DUMMY_DATA

    @pytest.fixture(autouse=True)
    def dummy_file(self, mirror):
        mirror(CONTENT)


def test_values(mirror, tmp_path):
    mirror(CONTENT)
    splits = tfds.load("jsb_chorales", data_dir=tmp_path / "data")
    found = {
        split: sorted(np.argwhere(x["frames"]).tolist() for x in tfds.as_numpy(examples))
        for split, examples in splits.items()
    }
    # Frame and column, which is the pitch less 21.
    assert found == {
        "train": [
            [[0, 0], [0, 87]],
            [[0, 27], [0, 39], [0, 43], [0, 46], [2, 34], [2, 38], [2, 41]],
        ],
        "validation": [[[0, 39], [1, 41]]],
        "test": [[[0, 39], [0, 43], [1, 39], [1, 44], [2, 38], [2, 46]]],
    }
    pairs = tfds.load("jsb_chorales", split="test", data_dir=tmp_path / "data", as_supervised=True)
    ((frames, target),) = tfds.as_numpy(pairs)
    assert frames.dtype == np.uint8
    np.testing.assert_array_equal(frames, target)


def test_description_and_citation_come_from_the_folder():
    metadata = Builder.get_metadata()
    assert metadata.description.startswith("# JSB Chorales")
    assert "Temporal Dependencies" in metadata.citation
    assert "content.subject.music" in metadata.tags


GOOD = json.loads(CONTENT)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff", r"^vowels/all\.txt: expected JSON; found .*utf-8"),
        (CONTENT[:-3], r"^vowels/all\.txt: expected JSON; found .* line 3 "),
        (b"[]", "expected an object with test, train, valid; found list"),
        (b"{}", "expected an object with test, train, valid; found $"),
        ({"extra": []}, "expected an object with test, train, valid; found extra, test, train"),
        ({"test": {}}, "^vowels/all.txt, test: expected a list of chorales; found dict"),
        ({"test": []}, "^vowels/all.txt, test: expected 1 chorales; found 0"),
        ({"train": [[[60]]] * 3}, "^vowels/all.txt, train: expected 2 chorales; found 3"),
        ({"valid": [[[60]]]}, "^vowels/all.txt, valid: expected 2 frames; found 1"),
        (
            {"train": [[[60]], [[60], [62], [300]]]},
            r"^vowels/all.txt, train, chorale 2, frame 3: expected MIDI pitches .*found \[300\]",
        ),
        ({"train": [[[60]], []]}, r"^vowels/all.txt, train, chorale 2: expected a list of frames"),
    ],
)
def test_a_malformed_file_is_an_error_before_an_example_is_written(
    content, message, mirror, tmp_path
):
    if isinstance(content, dict):
        content = json.dumps(GOOD | content).encode()
    mirror(content)
    with pytest.raises(DatasetError, match=message):
        tfds.load("jsb_chorales", data_dir=tmp_path / "data")
    assert left_in(tmp_path / "data") == []


def test_real_source_is_pinned():
    assert Builder.source.path == "jsb_chorales/jsb-chorales-quarter.json"
    assert Builder.source.url.startswith("https://raw.githubusercontent.com/czhuang/")
    assert sum(module.CHORALES.values()) == 382
    assert sum(module.FRAMES.values()) == 23_134
