"""The builder on ten molecules: TFDS's own checks, the values, and builds that fail."""

import gzip
from pathlib import Path

import pytest
import tensorflow_datasets as tfds

from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.datasets.moses import Builder
from kerasrnn.recipes.datasets.moses import moses_dataset_builder as module
from kerasrnn.recipes.datasets.sources import MIRROR_VARIABLE, SourceError
from tests.recipes.datasets.archives import left_in, pinned, wheel

DUMMY_DATA = Path(__file__).parent / "moses" / "dummy_data"
CONTENT = {split: (DUMMY_DATA / f"{split}.csv").read_bytes() for split in module.MOLECULES}
MEMBERS = {split: f"moses/dataset/data/{split}.csv.gz" for split in CONTENT}


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A function that puts a wheel with these files in the place of the real one."""
    monkeypatch.setattr(module, "MOLECULES", {"train": 5, "test": 3, "test_scaffolds": 2})
    monkeypatch.setenv(MIRROR_VARIABLE, str(tmp_path))

    def put(**changed):
        files = {name: gzip.compress(CONTENT[split]) for split, name in MEMBERS.items()}
        for split, content in changed.items():
            files[MEMBERS[split]] = content
        files = {name: content for name, content in files.items() if content is not None}
        content = wheel(files)
        source = pinned(content)
        (tmp_path / source.archive).write_bytes(content)
        monkeypatch.setattr(Builder, "source", source)

    return put


class TestBuilder(tfds.testing.DatasetBuilderTestCase):
    """TFDS's checks: registered, prepared, read back, reloaded, splits apart, tags valid."""

    DATASET_CLASS = Builder
    SPLITS = {"train": 5, "test": 3, "test_scaffolds": 2}  # noqa: RUF012 (as TFDS declares it)
    EXAMPLE_DIR = DUMMY_DATA

    @pytest.fixture(autouse=True)
    def dummy_archive(self, mirror):
        mirror()


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "data"


def test_values(mirror, data_dir):
    mirror()
    splits, info = tfds.load("moses", data_dir=data_dir, with_info=True)
    found = {
        split: [x["smiles"].decode() for x in tfds.as_numpy(examples)]
        for split, examples in splits.items()
    }
    # In the order that `printf %s CCO | sha256sum` and so on give.
    assert found == {
        "train": [
            "O=S(=O)(F)C1CC2CC1C2",
            "CC(=O)Oc1ccccc1C(=O)O",
            "CCO",
            "N#Cc1ccc(Br)s1",
            "c1ccc2[nH]ccc2c1",
        ],
        "test": ["C1CC1", "c1cnoc1", "CC(C)Cl"],
        "test_scaffolds": ["C12C3C4C1C5C2C3C45", "OCC#N"],
    }
    assert info.supervised_keys is None


TRAIN = CONTENT["train"]


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (TRAIN.replace(b"CCO\n", b"CC\xc3\xb6\n"), 2, "expected ASCII text; found byte 0xc3"),
        (TRAIN.removesuffix(b"\n"), 6, "expected a line end; found the end of the file"),
        (TRAIN.replace(b"SMILES", b"smiles"), 1, "expected the header 'SMILES'; found 'smiles'"),
        (b"", 1, "expected the header 'SMILES'; found ''"),
        (TRAIN.replace(b"CCO", b"CCO,1"), 2, "expected a SMILES string; found 'CCO,1'"),
        (TRAIN.replace(b"CCO", b""), 2, "expected a SMILES string; found ''"),
        (TRAIN.replace(b"CCO\n", b""), 5, "expected 5 molecules; found 4"),
    ],
)
def test_a_malformed_line_is_an_error_before_an_example_is_written(
    mirror, data_dir, monkeypatch, content, line, message
):
    assert content != TRAIN
    mirror(train=gzip.compress(content))
    builder = tfds.builder("moses", data_dir=data_dir)
    monkeypatch.setattr(builder, "_generate_examples", lambda _: pytest.fail("made examples"))
    with pytest.raises(DatasetError) as error:
        builder.download_and_prepare()
    assert str(error.value) == f"{MEMBERS['train']}, line {line}: {message}"
    assert left_in(data_dir) == []


@pytest.mark.parametrize("content", [TRAIN, gzip.compress(TRAIN)[:-20]], ids=["plain", "cut"])
def test_a_file_that_is_no_gzip_file_is_an_error(mirror, data_dir, content):
    mirror(train=content)
    with pytest.raises(DatasetError, match=r"^moses/\S+train.csv.gz: expected a gzip file; "):
        tfds.load("moses", data_dir=data_dir)
    assert left_in(data_dir) == []


def test_missing_file_is_an_error(mirror, data_dir):
    mirror(test=None)
    with pytest.raises(SourceError, match=r"contains no file 'moses/dataset/data/test.csv.gz'"):
        tfds.load("moses", data_dir=data_dir)
    assert left_in(data_dir) == []


def test_description_and_citation_come_from_the_folder():
    metadata = Builder.get_metadata()
    assert metadata.description.startswith("# MOSES")
    assert "polykovskiy2020moses" in metadata.citation
    assert metadata.tags


def test_real_source_is_pinned():
    assert Builder.source.archive == f"molsets-{Builder.source.version}-py3-none-any.whl"
    assert sum(module.MOLECULES.values()) == 1_936_962  # of the benchmark's README
