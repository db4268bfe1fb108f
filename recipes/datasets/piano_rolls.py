"""Piano rolls: which keys of a piano sound in each frame of a piece.

A roll is a uint8 array (frames, 88) of zeros and ones. Column k is the key of MIDI pitch 21 + k, so
that the first column is A0, the piano's lowest key, and the last one C8, its highest. A frame says
what sounds, not what begins: a pitch in two frames that follow each other may be held or repeated.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from kerasrnn.recipes.errors import DatasetError

LOWEST = 21
HIGHEST = 108
KEYS = HIGHEST - LOWEST + 1


def from_pitches(frames: Sequence[Any], source: str = "frames") -> np.ndarray:
    """A roll from the MIDI pitches of each frame, each frame's in rising order.

    Args:
        frames: a list of lists of integers, as read from a file; a silent frame is an empty list.
        source: where they come from, for the messages.

    Raises:
        DatasetError: there are no frames, or a frame is not a list of integers from 21 to 108 that
            rise. The message names `source` and the frame, counted from 1.

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
    """The MIDI pitches of each frame of a roll, in rising order."""
    return [(np.flatnonzero(frame) + LOWEST).tolist() for frame in roll]


def transposed(roll: np.ndarray, semitones: int) -> np.ndarray:
    """A roll moved up by `semitones`, or down if they are negative.

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
    """How far the official JSB chorales would move this piece up so that its tonic is C: 6 to 17.

    The tonic is taken to be the lowest pitch of the last chord. Where a piece of theirs can be
    compared with the score in its own key, they moved it so far in 341 cases out of 366.

    Raises:
        ValueError: nothing sounds in the roll.

    Example:

        >>> semitones_to_c(from_pitches([[55, 62, 71], [50, 57, 66]]))  # it ends on D
        10
    """
    sounding = np.flatnonzero(roll.any(axis=-1))
    if not sounding.size:
        raise ValueError("roll: expected at least one frame that sounds.")
    tonic = int(np.flatnonzero(roll[sounding[-1]])[0]) + LOWEST
    return (6 - tonic) % 12 + 6


def _short(found: Any) -> str:
    text = repr(found)
    return text if len(text) <= 60 else f"{text[:57]}..."
