"""Piano rolls: where each pitch stands, and what is no roll."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.datasets.piano_rolls import (
    from_pitches,
    semitones_to_c,
    to_pitches,
    transposed,
)

CHORDS = st.sets(st.integers(21, 108), max_size=6).map(sorted)


def test_each_pitch_has_its_column():
    roll = from_pitches([[21, 60, 108], [], [22]])
    assert roll.shape == (3, 88)
    assert roll.dtype == np.uint8
    assert np.argwhere(roll).tolist() == [[0, 0], [0, 39], [0, 87], [2, 1]]


@given(st.lists(CHORDS, min_size=1, max_size=5))
def test_round_trip_of_pieces(frames):
    assert to_pitches(from_pitches(frames)) == frames


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], r"^here: expected a list of frames; found \[\]"),
        (None, "^here: expected a list of frames; found None"),
        ([[60], [20]], r"^here, frame 2: expected MIDI pitches from 21 to 108 .*; found \[20\]"),
        ([[109]], r"^here, frame 1: .*found \[109\]"),
        ([[64, 60]], r"in rising order; found \[64, 60\]"),
        ([[60, 60]], r"in rising order; found \[60, 60\]"),
        ([[60.0]], r"found \[60\.0\]"),
        ([[True]], r"found \[True\]"),
        ([60], "^here, frame 1: .*found 60"),
        ([["C4"]], r"found \['C4'\]"),
        ([list(range(108, 21, -1))], r"found \[108, 107, .*\.\.\.$"),
    ],
)
def test_invalid_rolls_are_errors(frames, message):
    with pytest.raises(DatasetError, match=message):
        from_pitches(frames, "here")


@given(st.lists(CHORDS, min_size=1, max_size=5), st.integers(-95, 95))
def test_transposed(frames, semitones):
    moved = [[pitch + semitones for pitch in frame] for frame in frames]
    roll = from_pitches(frames)
    if all(21 <= pitch <= 108 for frame in moved for pitch in frame) and abs(semitones) < 88:
        assert to_pitches(transposed(roll, semitones)) == moved
    else:
        with pytest.raises(ValueError, match=f"^semitones={semitones}: expected"):
            transposed(roll, semitones)
    assert to_pitches(roll) == frames


def test_the_transposition_of_the_official_chorales():
    """From every key, by the distances that were measured on them: F sharp 6 ... G 17."""
    names = ["F♯", "F", "E", "E♭", "D", "D♭", "C", "B", "B♭", "A", "A♭", "G"]
    tonics = [54, 53, 52, 51, 50, 49, 48, 47, 46, 45, 44, 43]
    found = {
        name: semitones_to_c(from_pitches([[40], [tonic, 80], []]))
        for name, tonic in zip(names, tonics, strict=True)
    }
    assert found == dict(zip(names, range(6, 18), strict=True))
    with pytest.raises(ValueError, match=r"^roll: expected at least one frame"):
        semitones_to_c(from_pitches([[], []]))
