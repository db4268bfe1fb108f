"""Pictures of a user's own, of every kind that files hold."""

import numpy as np
import pytest
from PIL import Image

from kerasrnn import recipes
from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.tasks.images import read_image

PIXELS = np.arange(28 * 28, dtype="uint8").reshape(28, 28)


def test_sixteen_bits_are_the_upper_eight(tmp_path):
    for name, pixels in (("8.png", PIXELS), ("16.png", PIXELS.astype("uint16") * 257)):
        Image.fromarray(pixels).save(tmp_path / name)
        np.testing.assert_array_equal(np.asarray(read_image(tmp_path / name)), PIXELS)
        read = recipes.load("fashion_mnist").parse_input(str(tmp_path / name))
        np.testing.assert_array_equal(read[..., 0], PIXELS)


def test_files_that_are_not_pictures(tmp_path):
    numbers = np.zeros((28, 28), "float32")
    Image.fromarray(numbers).save(tmp_path / "f.tiff")
    numbers[4, 9] = np.nan
    Image.fromarray(numbers).save(tmp_path / "nan.tiff")
    Image.fromarray(PIXELS).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:-30])
    (tmp_path / "text.png").write_text("no picture")
    for name, message in (
        ("f.tiff", "f.tiff: expected pixels of 8 or 16 bits; found numbers of 32 bits"),
        ("nan.tiff", "nan.tiff, row 5, column 10: expected pixels of 8 or 16 bits; found nan"),
        ("cut.png", "cut.png cannot be read: "),
        ("text.png", "text.png cannot be read as an image"),
        ("none.png", "none.png cannot be read: No such file or directory"),
        (".", "cannot be read: Is a directory"),
    ):
        for recipe in ("fashion_mnist", "hanzi_structure", "image_captions"):
            with pytest.raises(DatasetError, match=message):
                recipes.load(recipe).parse_input(str(tmp_path / name))
