"""The JSB chorales: builder, source and splits. README.md describes the dataset."""

import json
from pathlib import Path
from typing import ClassVar

import numpy as np

from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.datasets import piano_rolls
from kerasrnn.recipes.datasets.sources import PublishedFile

KEYS = {"train": "train", "validation": "valid", "test": "test"}
"""The name of each split in the file."""
CHORALES = {"train": 229, "validation": 76, "test": 77}
FRAMES = {"train": 13_807, "validation": 4_602, "test": 4_725}


class Builder(piano_rolls.PianoRollBuilder):
    """Bach chorales as piano rolls, a frame per quarter note; the task is to predict the next."""

    RELEASE_NOTES: ClassVar = {"1.0.0": "The split of Boulanger-Lewandowski: 229, 76, 77 chorales."}
    source = PublishedFile(
        url="https://raw.githubusercontent.com/czhuang/JSB-Chorales-dataset/master/"
        "jsb-chorales-quarter.json",
        path="jsb_chorales/jsb-chorales-quarter.json",
        sha256="2db9329f1881a1d3f49703ec556bf1d6f84b4f6c1d702c156536e93cf31e1c91",
        size=407_200,
        origin="https://github.com/czhuang/JSB-Chorales-dataset",
        licence="none stated; Bach's music is in the public domain",
    )

    def read_splits(self, folder: Path) -> dict[str, list[np.ndarray]]:
        return parse(self.source.read(self.source.fetch(folder)), self.source.path)


def parse(content: bytes, source: str) -> dict[str, list[np.ndarray]]:
    """Parse the piano rolls of each split, and check their number.

    Args:
        content: the bytes of the file: a JSON object with the lists `train`, `valid` and `test`; a
            chorale is a list of frames, and a frame is a list of MIDI pitches.
        source: the file's name, for messages.

    Raises:
        DatasetError: the file is not such JSON, a frame is not what `piano_rolls.from_pitches`
            expects, or a split has more or fewer chorales or frames than the published one. The
            message names `source`, split, chorale and frame, counted from 1.
    """
    try:
        pieces = json.loads(content)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DatasetError(f"{source}: expected JSON; found {error}") from None
    if not isinstance(pieces, dict) or set(pieces) != set(KEYS.values()):
        found = ", ".join(sorted(pieces)) if isinstance(pieces, dict) else type(pieces).__name__
        expected = ", ".join(sorted(KEYS.values()))
        raise DatasetError(f"{source}: expected an object with {expected}; found {found}")

    rolls = {}
    for split, key in KEYS.items():
        where = f"{source}, {key}"
        if not isinstance(pieces[key], list):
            found = type(pieces[key]).__name__
            raise DatasetError(f"{where}: expected a list of chorales; found {found}")
        if (count := len(pieces[key])) != CHORALES[split]:
            raise DatasetError(f"{where}: expected {CHORALES[split]} chorales; found {count}")
        rolls[split] = [
            piano_rolls.from_pitches(frames, f"{where}, chorale {number}")
            for number, frames in enumerate(pieces[key], start=1)
        ]
        if (count := sum(map(len, rolls[split]))) != FRAMES[split]:
            raise DatasetError(f"{where}: expected {FRAMES[split]} frames; found {count}")
    return rolls
