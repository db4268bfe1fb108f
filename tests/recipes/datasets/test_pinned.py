"""The base of all builders: what a builder declares, and what follows from it."""

import importlib.util
import sys
from pathlib import Path

import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core.registered import skip_registration

from kerasrnn.recipes import datasets
from kerasrnn.recipes.datasets.pinned import PinnedBuilder
from kerasrnn.recipes.datasets.sources import MIRROR_VARIABLE
from tests.recipes.datasets.archives import left_in, wheel

pytestmark = pytest.mark.tensorflow

BUILDER = '''
"""Words with their number of letters."""

import numpy as np
import tensorflow_datasets as tfds

from kerasrnn.recipes.datasets.lines import split_lines
from kerasrnn.recipes.datasets.pinned import PinnedBuilder
from tests.recipes.datasets.archives import pinned

CONTENT = {content!r}


class Builder(PinnedBuilder):
    """Words with their number of letters."""

    RELEASE_NOTES = {{"1.0.0": "Four words.", "1.1.0": "In two splits."}}
    source = pinned(CONTENT)
    supervised_keys = ("word", "letters")
    {more}

    def features(self):
        return tfds.features.FeaturesDict({{"word": tfds.features.Text(), "letters": np.int32}})

    def read_splits(self, folder):
        words = split_lines(self.source.read(self.source.fetch(folder), "w.txt"), source="w.txt")
        return {{"train": words[:3], "test": words[3:]}}

    def example(self, item):
        return {{"word": item, "letters": len(item)}}
'''


@pytest.fixture
def builder(tmp_path, monkeypatch):
    """A function that writes the folder of a dataset, imports it, and returns its builder."""

    def write(words=b"one\ntwo\nthree\nfour\n", more=""):
        folder, mirror = tmp_path / "words", tmp_path / "mirror"
        folder.mkdir()
        mirror.mkdir()
        content = wheel({"w.txt": words})
        path = folder / "words_dataset_builder.py"
        path.write_text(BUILDER.format(content=content, more=more))
        (folder / "README.md").write_text("# Words\n\nOf a test.\n")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, path.stem, module)
        with skip_registration():
            spec.loader.exec_module(module)
        (mirror / module.Builder.source.archive).write_bytes(content)
        monkeypatch.setenv(MIRROR_VARIABLE, str(mirror))
        return module.Builder(data_dir=tmp_path / "data")

    return write


def test_a_builder_describes_the_dataset(builder, tmp_path):
    made = builder()
    info = made.info
    assert (str(info.version), info.supervised_keys) == ("1.1.0", ("word", "letters"))
    assert (info.homepage, str(info.redistribution_info.license)) == ("the tests", "none")
    assert info.description == "# Words\n\nOf a test."
    assert made.code_path.parent.parent == tmp_path
    made.download_and_prepare()
    found = {
        split: [(x["word"].decode(), int(x["letters"])) for x in tfds.as_numpy(examples)]
        for split, examples in made.as_dataset().items()
    }
    assert sorted(found["train"]) == [("one", 3), ("three", 5), ("two", 3)]
    assert found["test"] == [("four", 4)]


def test_homepage_licence_and_order_may_be_declared(builder):
    more = 'homepage, licence, shuffles = "https://words.example", "MIT", False'
    made = builder(more=more)
    info = made.info
    assert (info.homepage, str(info.redistribution_info.license)) == (
        "https://words.example",
        "MIT",
    )
    assert info.disable_shuffling
    made.download_and_prepare()
    words = [x["word"].decode() for x in tfds.as_numpy(made.as_dataset(split="train"))]
    assert words == ["one", "two", "three"]


def test_a_damaged_line_leaves_no_files(builder, tmp_path):
    made = builder(words=b"one\ntwo")
    with pytest.raises(ValueError, match=r"w\.txt, line 2: expected a line end"):
        made.download_and_prepare()
    assert left_in(tmp_path / "data") == []


def test_datasets_are_found_by_folder():
    folder = Path(datasets.__file__).parent
    folders = sorted(path.parent.name for path in folder.glob("*/TAGS.txt"))
    assert list(datasets.NAMES) == folders
    for name in datasets.NAMES:
        cls = tfds.builder_cls(name)
        assert issubclass(cls, PinnedBuilder)
        assert cls.pkg_dir_path == tfds.core.Path(folder / name)
