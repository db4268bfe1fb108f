"""The builder on made-up utterances: TFDS's own checks, the values, and builds that fail."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.datasets.japanese_vowels import Builder
from kerasrnn.recipes.datasets.japanese_vowels import japanese_vowels_dataset_builder as module
from kerasrnn.recipes.datasets.sources import MIRROR_VARIABLE, SourceError
from tests.recipes.datasets.archives import pinned, wheel

DUMMY_DATA = Path(__file__).parent / "japanese_vowels" / "dummy_data"
COUNTS = {"train": 3, "test": 2}


@pytest.fixture
def members():
    """The dummy files under their names in the archive."""
    return {name: (DUMMY_DATA / Path(name).name).read_bytes() for name in module.MEMBERS.values()}


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A function that puts an archive of some members in the place of the real one."""
    monkeypatch.setattr(module, "UTTERANCES", COUNTS)
    monkeypatch.setenv(MIRROR_VARIABLE, str(tmp_path))

    def put(members):
        content = wheel(members)
        source = pinned(content)
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
    train, test = tfds.load("japanese_vowels", split=["train", "test"], data_dir=data_dir)
    found = {int(example["speaker"]): example["frames"] for example in tfds.as_numpy(train)}
    assert set(found) == {0, 8, 2}

    # The files are made so that coefficient k begins with k; the tenths count the frames.
    coefficients = np.arange(1.0, 13.0)
    expected = {
        0: [coefficients + 0.0, coefficients + 0.1],
        8: [-coefficients - 0.0, -coefficients - 0.1, -coefficients - 0.2],
        2: [coefficients + 0.5],
    }
    for speaker, frames in expected.items():
        np.testing.assert_array_equal(found[speaker], np.array(frames, "float32"))
        assert found[speaker].dtype == np.float32

    assert sorted(int(example["speaker"]) for example in test) == [1, 8]


def test_supervised_pair_and_class_names(members, mirror, data_dir):
    mirror(members)
    train, info = tfds.load(
        "japanese_vowels", split="train", data_dir=data_dir, as_supervised=True, with_info=True
    )
    frames, speaker = train.element_spec
    assert frames.shape.as_list() == [None, 12]
    assert speaker.shape.as_list() == []
    assert info.features["speaker"].names == [f"speaker_{number}" for number in range(1, 10)]


def test_description_and_citation_come_from_the_folder():
    metadata = Builder.get_metadata()
    assert metadata.description.startswith("# Japanese Vowels")
    assert "10.24432/C5NS47" in metadata.citation
    assert metadata.tags
    assert Builder.code_path.is_file()


def left_in(folder):
    return [path.name for path in folder.rglob("*") if path.is_file() or "incomplete" in path.name]


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_malformed_file_is_an_error_before_an_example_is_written(
    members, mirror, data_dir, split, monkeypatch
):
    name = module.MEMBERS[split]
    good = members[name]
    mirror(members | {name: good[: good.rindex(b":")] + b"\n"})
    builder = tfds.builder("japanese_vowels", data_dir=data_dir)
    with monkeypatch.context() as patch:
        patch.setattr(builder, "_generate_examples", lambda _: pytest.fail("examples were made"))
        with pytest.raises(DatasetError, match=rf"^{name}, line \d+: expected 12 dimensions"):
            builder.download_and_prepare()
    assert left_in(data_dir) == []

    mirror(members)
    builder.download_and_prepare()
    assert builder.info.splits["test"].num_examples == COUNTS["test"]


def test_missing_file_is_an_error(members, mirror, data_dir):
    del members[module.MEMBERS["test"]]
    mirror(members)
    with pytest.raises(SourceError, match=r"contains no file '.*JapaneseVowels_TEST\.ts'"):
        tfds.load("japanese_vowels", data_dir=data_dir)
    assert left_in(data_dir) == []


def test_a_failed_write_leaves_no_file(members, mirror, data_dir, monkeypatch):
    mirror(members)
    builder = tfds.builder("japanese_vowels", data_dir=data_dir)

    def fails_late(series):
        yield 0, {"frames": series[0].values, "speaker": 0}
        raise OSError("the disk is full")

    monkeypatch.setattr(builder, "_generate_examples", fails_late)
    with pytest.raises(OSError, match="the disk is full"):
        builder.download_and_prepare()
    assert left_in(data_dir) == []


def test_real_source_is_pinned():
    assert Builder.source.archive == f"sktime-{Builder.source.version}-py3-none-any.whl"
    assert module.UTTERANCES.keys() == module.MEMBERS.keys() == {"train", "test"}


def test_recipes_do_not_import_tfds():
    code = "import sys, kerasrnn.recipes; sys.exit('tensorflow_datasets' in sys.modules)"
    subprocess.run([sys.executable, "-P", "-c", code], check=True)
