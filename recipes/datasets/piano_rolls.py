"""Piano rolls: the keys that sound in each frame of a piece.

A roll is a uint8 array (frames, 88) of zeros and ones. Column k is the key of MIDI pitch 21 + k:
the first column is A0, the piano's lowest key, and the last one C8, its highest. A frame records
what sounds, not what begins: a pitch in two consecutive frames may be held or repeated.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.datasets.pinned import PinnedBuilder

LOWEST = 21
HIGHEST = 108
KEYS = HIGHEST - LOWEST + 1


class PianoRollBuilder(PinnedBuilder, skip_registration=True):
    """A dataset of piano rolls; the targets are the frames, shifted by one step."""

    supervised_keys = ("frames", "frames")

    def features(self) -> tfds.features.FeaturesDict:
        return tfds.features.FeaturesDict(
            {
                "frames": tfds.features.Tensor(
                    shape=(None, KEYS),
                    dtype=np.uint8,
                    doc="1 where a key of the piano sounds, one row for every quarter note; "
                    "column k is MIDI pitch 21 + k",
                ),
            }
        )

    def example(self, item: np.ndarray) -> dict[str, Any]:
        return {"frames": item}


def from_pitches(frames: Sequence[Any], source: str = "frames") -> np.ndarray:
    """Create a roll from the MIDI pitches of each frame, in ascending order.

    Args:
        frames: a list of lists of integers, as read from a file; a silent frame is an empty list.
        source: the origin of the frames, for messages.

    Raises:
        DatasetError: there are no frames, or a frame is not a list of ascending integers from 21 to
            108. The message names `source` and the frame, counted from 1.

    Example:

        >>> roll = from_pitches([[60, 64, 67], [], [59, 67]])
        >>> roll.shape
        (3, 88)
        >>> to_pitches(roll)
        [[60, 64, 67], [], [59, 67]]
    """
    if not isinstance(frames, Sequence) or not frames:
        raise DatasetError(f"{source}: expected a list of frames; found {_short(frames)}")
    roll = np.zeros((len(frames), KEYS), np.uint8)
    for number, frame in enumerate(frames, start=1):
        if not (
            isinstance(frame, Sequence)
            and all(type(pitch) is int and LOWEST <= pitch <= HIGHEST for pitch in frame)
            and all(low < high for low, high in itertools.pairwise(frame))
        ):
            raise DatasetError(
                f"{source}, frame {number}: expected MIDI pitches from {LOWEST} to {HIGHEST} in "
                f"rising order; found {_short(frame)}"
            )
        roll[number - 1, np.array(frame, int) - LOWEST] = 1
    return roll


def to_pitches(roll: np.ndarray) -> list[list[int]]:
    """The MIDI pitches of each frame of a roll, in ascending order."""
    return [(np.flatnonzero(frame) + LOWEST).tolist() for frame in roll]


def transposed(roll: np.ndarray, semitones: int) -> np.ndarray:
    """Transpose a roll up by `semitones`, or down if negative.

    Raises:
        ValueError: a pitch would leave the keyboard.
    """
    moved = np.roll(roll, semitones, axis=-1)
    beyond = roll[..., KEYS - semitones :] if semitones > 0 else roll[..., :-semitones]
    if semitones and (abs(semitones) >= KEYS or beyond.any()):
        raise ValueError(
            f"semitones={semitones}: expected a transposition that keeps every pitch from {LOWEST} "
            f"to {HIGHEST}."
        )
    return moved


def semitones_to_c(roll: np.ndarray) -> int:
    """The upward transposition to C as in the official JSB chorales: 6 to 17 semitones.

    The tonic is assumed to be the lowest pitch of the last chord. This rule reproduces 341 of the
    366 official pieces that can be compared with the score in its original key.

    Raises:
        ValueError: the roll is silent.

    Example:

        >>> semitones_to_c(from_pitches([[55, 62, 71], [50, 57, 66]]))  # it ends on D
        10
    """
    sounding = np.flatnonzero(roll.any(axis=-1))
    if not sounding.size:
        raise ValueError("roll: expected at least one frame with a pitch.")
    tonic = int(np.flatnonzero(roll[sounding[-1]])[0]) + LOWEST
    return (6 - tonic) % 12 + 6


def _short(found: Any) -> str:
    text = repr(found)
    return text if len(text) <= 60 else f"{text[:57]}..."
