"""The builder on a few sentences: TFDS's own checks, the values, and builds that fail."""

import dataclasses
import gzip
import hashlib
from pathlib import Path

import pytest
import tensorflow_datasets as tfds

from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.datasets.multi30k import Builder
from kerasrnn.recipes.datasets.multi30k import multi30k_dataset_builder as module
from kerasrnn.recipes.datasets.sources import MIRROR_VARIABLE, SourceError
from tests.recipes.datasets.archives import left_in

DUMMY_DATA = Path(__file__).parent / "multi30k" / "dummy_data"
COUNTS = {"train": 3, "validation": 2, "test": 1}


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A function that puts short files in the place of the real ones; some may be replaced."""
    monkeypatch.setattr(module, "SENTENCES", COUNTS)
    monkeypatch.setenv(MIRROR_VARIABLE, str(tmp_path))
    (tmp_path / "multi30k").mkdir()

    def put(**replaced):
        for name, source in list(module.SOURCES.items()):
            text = (DUMMY_DATA / name.removesuffix(".gz")).read_bytes()
            content = gzip.compress(replaced.get(name.removesuffix(".gz").replace(".", "_"), text))
            (tmp_path / source.path).write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            pinned = dataclasses.replace(source, sha256=digest, size=len(content))
            monkeypatch.setitem(module.SOURCES, name, pinned)

    return put


class TestBuilder(tfds.testing.DatasetBuilderTestCase):
    """TFDS's checks: registered, prepared, read back, reloaded, splits apart, tags valid."""

    DATASET_CLASS = Builder
    SPLITS = COUNTS
    EXAMPLE_DIR = DUMMY_DATA

    @pytest.fixture(autouse=True)
    def dummy_files(self, mirror):
        mirror()


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "data"


def test_values(mirror, data_dir):
    mirror()
    splits, info = tfds.load("multi30k", data_dir=data_dir, with_info=True)
    found = {
        split: {tuple(x[y].decode() for y in ("de", "en", "fr")) for x in tfds.as_numpy(examples)}
        for split, examples in splits.items()
    }
    assert found["train"] == {
        ("Zwei Hunde spielen.", "Two dogs are playing.", "Deux chiens jouent."),
        ("Ein Mann mit Hut ", "A man with a hat", "Un homme avec un chapeau"),
        (
            "Eine Frau\N{NO-BREAK SPACE}liest, während es regnet.",
            "A woman reads while it rains.",
            "Une femme lit pendant qu'il pleut.",
        ),
    }
    assert found["validation"] == {
        ("Ein Kind schläft.", "A child sleeps.", "Un enfant dort."),
        ("Vier Räder.", "Four wheels.", "Quatre roues."),
    }
    assert found["test"] == {("Ein Boot.", "A boat.", "Un bateau.")}
    assert info.supervised_keys == ("de", "en")
    assert info.features.languages == ["de", "en", "fr"]


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        (
            {"val_en": b"A child sleeps.\n"},
            r"expected 2 lines each; found 2 in multi30k/val\.de\.gz, 1 in multi30k/val\.en\.gz, "
            r"2 in multi30k/val\.fr\.gz$",
        ),
        (
            {f"test_2016_flickr_{language}": b"One.\nTwo.\n" for language in ("de", "en", "fr")},
            r"expected 1 line each; found 2 in multi30k/test_2016_flickr\.de\.gz, 2 in .*, 2 in ",
        ),
        (
            {"train_fr": b"Deux\nUn \xe9l\xe8ve\nUne\n"},
            r"^multi30k/train\.fr\.gz, line 2: expected UTF-8 text; found byte 0xe9$",
        ),
        (
            {"train_fr": b"Deux\n\t\nUne\n"},
            r"^multi30k/train\.fr\.gz, line 2: expected a sentence; found '\\t'$",
        ),
        (
            {"train_fr": b"Deux\nUn\nUne"},
            r"^multi30k/train\.fr\.gz, line 3: expected a line end; found the end of the file$",
        ),
    ],
    ids=["fewer", "more", "not UTF-8", "blank", "cut"],
)
def test_damaged_files_are_errors_before_an_example_is_written(
    mirror, data_dir, monkeypatch, replaced, message
):
    mirror(**replaced)
    builder = tfds.builder("multi30k", data_dir=data_dir)
    monkeypatch.setattr(builder, "_generate_examples", lambda _: pytest.fail("made examples"))
    with pytest.raises(DatasetError, match=message):
        builder.download_and_prepare()
    assert left_in(data_dir) == []


def test_another_file_in_the_mirror_is_an_error(mirror, tmp_path, data_dir):
    mirror()
    (tmp_path / "multi30k" / "val.en.gz").write_bytes(gzip.compress(b"Wheels.\n"))
    with pytest.raises(SourceError, match=r"val\.en\.gz is not the pinned file"):
        tfds.load("multi30k", data_dir=data_dir)
    assert left_in(data_dir) == []


def test_real_sources_are_pinned():
    assert len(module.SOURCES) == len({source.sha256 for source in module.SOURCES.values()}) == 9
    for name, source in module.SOURCES.items():
        assert source.path == f"multi30k/{name}"
        assert source.url.endswith(f"multi30k/dataset/master/data/task1/raw/{name}")
    assert module.SENTENCES == {"train": 29_000, "validation": 1_014, "test": 1_000}


def test_description_and_citation_come_from_the_folder():
    metadata = Builder.get_metadata()
    assert metadata.description.startswith("# Multi30k")
    assert "elliott2016multi30k" in metadata.citation
    assert "ml.task.machine-translation" in metadata.tags
