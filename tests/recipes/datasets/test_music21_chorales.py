"""The builder on made-up scores: what sounds at each quarter, what is left out, failing builds."""

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.datasets.music21_chorales import Builder, scores
from kerasrnn.recipes.datasets.music21_chorales import music21_chorales_dataset_builder as module
from kerasrnn.recipes.datasets.piano_rolls import to_pitches
from kerasrnn.recipes.datasets.sources import SourceError
from tests.recipes.datasets.archives import left_in
from tests.recipes.datasets.musicxml import compressed, score

ONE = {
    "Horn 1": "C6:1 | C6:4 | C6:4",
    "Soprano": "G4:1 | A4:2 B4:0 G4:2 | C5:4",
    "Alto": "E4:1 | F4:0.5 E4:1 D4:0.5 E4:1 F4:1 | E4:4",
    "Tenor Viola": "C4:1 | C4:1 r:1 C4:1.5 B3:0.5 | C4:4",
    "Bass": "C3:1 | F3:1 A2:1 E4:2 | C3:4",
}
# The upbeat; then the alto is off the beat, the tenor rests, and alto and bass meet on E4.
CHORDS_OF_ONE = [
    (48, 60, 64, 67),
    (53, 60, 65, 69),
    (45, 64, 69),
    (60, 64, 67),
    (60, 64, 65, 67),
    *[(48, 60, 64, 72)] * 4,
]
SATB = ("Soprano", "Alto", "Tenor", "Bass")


def voices(*bars):
    return dict(zip(SATB, bars, strict=True))


TWO = voices("D5:1 C5:2", "A4:1 G4:2", "F4:1 E4:2", "D4:1 C4:2")
TWO_MINOR_THIRD_UP = voices("F5:1 Eb5:2", "C5:1 Bb4:2", "Ab4:1 G4:2", "F4:1 Eb4:2")


@pytest.fixture
def chords(tmp_path):
    """A function that gives the chords of a score."""

    def of(content, name="score.xml"):
        (tmp_path / name).write_bytes(content)
        return scores.chords(tmp_path / name)

    return of


def test_frames_sound_at_the_start_of_each_quarter(chords):
    assert chords(score(ONE)) == CHORDS_OF_ONE
    assert chords(compressed(score(ONE)), "score.mxl") == CHORDS_OF_ONE


def test_repeats_are_played(chords):
    once = [(62, 65, 69, 74), (60, 64, 67, 72), (60, 64, 67, 72)]
    assert chords(score(TWO, "3/4")) == once
    assert chords(score(TWO, "3/4", repeat=True)) == once * 2


def test_interludes_are_skipped(chords):
    silent = {name: bars + " | r:3 | r:3 | " + bars for name, bars in TWO.items()}
    horn = {"Horn": "C5:3 | C5:3 | C5:3 | C5:3"}
    assert chords(score(horn | silent, "3/4")) == chords(score(TWO, "3/4")) * 2


@pytest.mark.parametrize(
    ("parts", "metre"),
    [
        (TWO, "6/8"),
        ({name: TWO[name] for name in SATB[:3]}, "3/4"),
        (TWO | {"Soprano 2": TWO["Soprano"]}, "3/4"),
        ({name.replace("Tenor", "Baritone"): bars for name, bars in TWO.items()}, "3/4"),
    ],
    ids=["dotted", "three", "five", "another"],
)
def test_other_voices_and_metres_are_skipped(parts, metre, chords):
    assert chords(score(parts, metre)) is None


def test_similarity_ignores_the_key():
    one = scores.progressions([(60, 64), (62, 65), (60, 64), (62, 65)])
    up = scores.progressions([(63, 67), (65, 68), (63, 67), (65, 68)])
    assert one == {((0, 4), (2, 5)): 2, ((0, 3), (-2, 2)): 1}
    assert scores.likeness(one, up) == 1.0
    half = scores.progressions([(60, 64), (62, 65), (), (60,), (62,)])
    assert half == {((0, 4), (2, 5)): 1, ((0,), (2,)): 1}
    assert scores.likeness(one, half) == scores.likeness(half, one) == 0.5
    assert scores.likeness(one, scores.progressions([(60,)])) == 0.0


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """A music21 with a corpus of six scores, of which the third is a version of the second."""
    import music21

    folder = tmp_path / "music21" / "corpus" / "bach"
    folder.mkdir(parents=True)
    files = {
        "bwv1.xml": score(ONE),
        "bwv2-a.mxl": compressed(score(TWO, "3/4")),
        "bwv2.xml": score(TWO_MINOR_THIRD_UP, "3/4"),
        "bwv3.xml": score(TWO, "6/8"),
        "bwv5.xml": score(voices("G4:2 A4:2", "D4:2 E4:2", "B3:2 C4:2", "G3:2 A3:2")),
        "bwv4.xml": score(voices("G4:3 D4:1", "D4:3 D4:1", "B3:3 D4:1", "G3:3 D4:1")),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    lines = [f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files)]
    monkeypatch.setattr(music21, "__file__", str(tmp_path / "music21" / "__init__.py"))
    monkeypatch.setattr(module, "FILES", len(files))
    monkeypatch.setattr(module, "SHA256", hashlib.sha256("".join(lines).encode()).hexdigest())
    monkeypatch.setattr(module, "CHORALES", {"train": 1, "validation": 1, "test": 2})
    fifths = {"bwv1": "test", "bwv2-a": "train", "bwv5": "validation", "bwv4": "test"}
    monkeypatch.setattr(module, "split_of", fifths.__getitem__)
    return folder


class TestBuilder(tfds.testing.DatasetBuilderTestCase):
    """TFDS's checks: registered, prepared, read back, reloaded, splits apart, tags valid."""

    DATASET_CLASS = Builder
    SPLITS = {"train": 1, "validation": 1, "test": 2}  # noqa: RUF012
    EXAMPLE_DIR = Path(__file__).parent

    @pytest.fixture(autouse=True)
    def dummy_corpus(self, corpus):
        pass


def test_values(corpus, tmp_path):
    splits = tfds.load("music21_chorales", data_dir=tmp_path / "data")
    found = {
        split: sorted(to_pitches(x["frames"]) for x in tfds.as_numpy(examples))
        for split, examples in splits.items()
    }
    assert found == {
        "train": [[[62, 65, 69, 74], [60, 64, 67, 72], [60, 64, 67, 72]]],
        "validation": [[[55, 59, 62, 67]] * 2 + [[57, 60, 64, 69]] * 2],
        "test": [
            [list(chord) for chord in CHORDS_OF_ONE],
            [[55, 59, 62, 67]] * 3 + [[62]],
        ],
    }
    assert splits["train"].element_spec["frames"].dtype == np.uint8


def test_the_split_depends_only_on_the_name():
    """Against the remainder by 5 of the last hexadecimal digits: 16 is 1 more than a multiple."""
    names = [f"bwv{number}" for number in range(250, 439)]
    found = [module.split_of(name) for name in names]
    for name, split in zip(names, found, strict=True):
        fifth = sum(int(digit, 16) for digit in hashlib.sha256(name.encode()).hexdigest()) % 5
        assert split == ("train", "train", "train", "validation", "test")[fifth]
    # The first ten, for ever.
    assert " ".join(split[:2] for split in found[:10]) == "va tr te va va tr tr va te tr"


def refused(tmp_path, error, message):
    with pytest.raises(error, match=message):
        tfds.load("music21_chorales", data_dir=tmp_path / "data")
    assert left_in(tmp_path / "data") == []


def test_changed_scores_are_an_error(corpus, tmp_path):
    (corpus / "bwv3.xml").write_bytes(score(TWO, "3/4"))
    refused(tmp_path, SourceError, "is not the corpus of music21 10.5.1: expected 6 scores with")
    (corpus / "bwv3.xml").unlink()
    refused(tmp_path, SourceError, "found 5 with [0-9a-f]{64}. Reinstall music21")


def test_another_version_of_music21_is_an_error(corpus, tmp_path, monkeypatch):
    import music21

    monkeypatch.setattr(music21, "__version__", "9.1.0")
    refused(
        tmp_path, SourceError, r"music21 10\.5\.1; found 9\.1\.0.*pip install music21==10\.5\.1"
    )


def test_a_missing_music21_names_the_extra(corpus, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "music21", None)
    refused(tmp_path, SourceError, r"pip install 'kerasrnn\[music\]'")


def test_chorales_are_counted(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHORALES", {"train": 2, "validation": 1, "test": 1})
    refused(tmp_path, DatasetError, "expected .*'train': 2.*; found .*'train': 1.*'test': 2")


def test_the_installed_corpus_is_the_pinned_one():
    assert len(module.corpus()) == 410


def test_description_and_citation_come_from_the_folder():
    metadata = Builder.get_metadata()
    assert metadata.description.startswith("# Music21 Chorales")
    assert "identical to the official JSB chorales" in metadata.description
    assert "music21" in metadata.citation
    assert "content.subject.music" in metadata.tags
