"""Chorales from music21's corpus: builder, source and splits. README.md describes the dataset."""

import hashlib
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from tensorflow_datasets.core.utils import tqdm_utils

from kerasrnn.recipes.base.errors import DatasetError, SourceError
from kerasrnn.recipes.datasets import piano_rolls
from kerasrnn.recipes.datasets.music21_chorales import scores

MUSIC21 = "10.5.1"
"""The version of music21 that defines the scores and their parsing."""
FILES = 410
SHA256 = "2326751ce118d04a1e6eec03989f0823c8ad77b056e854566edad6b691e4013f"
"""SHA-256 of the output of `sha256sum *.mxl *.xml` in the corpus's folder, sorted by name."""
CHORALES = {"train": 233, "validation": 86, "test": 69}

# Above this similarity, two pieces are versions of one chorale. See README.md.
VERSIONS = 0.8


class Builder(piano_rolls.PianoRollBuilder):
    """Bach chorales as piano rolls, a frame per quarter note; the task is to predict the next."""

    RELEASE_NOTES: ClassVar = {"1.0.0": "The scores of music21 10.5.1, in our own split."}
    homepage = "https://www.music21.org"
    licence = "Bach's music: public domain; the encodings: see music21/corpus/license.txt"

    def read_splits(self, folder: Path) -> dict[str, list[tuple[str, np.ndarray]]]:
        splits: dict[str, list[tuple[str, np.ndarray]]] = {split: [] for split in CHORALES}
        for name, roll in rolls(corpus()).items():
            splits[split_of(name)].append((name, roll))
        counts = {split: len(pieces) for split, pieces in splits.items()}
        if counts != CHORALES:
            raise DatasetError(f"music21's corpus: expected {CHORALES} chorales; found {counts}")
        return splits

    def key(self, number: int, item: tuple[str, np.ndarray]) -> str:
        return item[0]

    def example(self, item: tuple[str, np.ndarray]) -> dict[str, Any]:
        return super().example(item[1])


def corpus() -> list[Path]:
    """The scores by Bach in music21's corpus, sorted by name.

    Raises:
        SourceError: music21 is not installed, has another version, or its scores were modified.
    """
    try:
        import music21
    except ModuleNotFoundError as error:
        raise SourceError(
            f"music21_chorales is made from the scores in music21, which cannot be imported "
            f"({error}): install it with `pip install 'kerasrnn[music]'`."
        ) from error
    if music21.__version__ != MUSIC21:
        raise SourceError(
            f"music21_chorales is made from music21 {MUSIC21}; found {music21.__version__}. "
            f"Install it with `pip install music21=={MUSIC21}`."
        )
    folder = Path(music21.__file__).parent / "corpus" / "bach"
    paths = sorted([*folder.glob("*.mxl"), *folder.glob("*.xml")], key=lambda path: path.name)
    digest = hashlib.sha256()
    for path in paths:
        line = f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        digest.update(line.encode())
    if (len(paths), digest.hexdigest()) != (FILES, SHA256):
        raise SourceError(
            f"{folder} is not the corpus of music21 {MUSIC21}: expected {FILES} scores with sha256 "
            f"{SHA256}, found {len(paths)} with {digest.hexdigest()}. Reinstall music21."
        )
    return paths


def rolls(paths: list[Path]) -> dict[str, np.ndarray]:
    """The piano roll of each chorale by file name, one version of each.

    Raises:
        DatasetError: a pitch is outside the piano's range.
    """
    by_name: dict[str, np.ndarray] = {}
    kept: list[Any] = []
    for path in tqdm_utils.tqdm(paths, desc="Reading scores", unit=" scores", leave=False):
        if not (chords := scores.chords(path)):
            continue
        progressions = scores.progressions(chords)
        if all(scores.likeness(progressions, other) < VERSIONS for other in kept):
            kept.append(progressions)
            by_name[path.stem] = piano_rolls.from_pitches(chords, path.name)
    return by_name


def split_of(name: str) -> str:
    """Three chorales in five are used for training, one for validation, one for testing.

    The split depends only on the name, so it is the same everywhere.
    """
    fifth = int(hashlib.sha256(name.encode()).hexdigest(), 16) % 5
    return {3: "validation", 4: "test"}.get(fifth, "train")
