"""From a MusicXML score to the chords of its four voices, one per quarter note."""

import itertools
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

VOICES = ("Soprano", "Alto", "Tenor", "Bass")

# This many silent quarter notes in all voices are an instrumental interlude; fewer are a rest.
INTERLUDE = 4

Chord = tuple[int, ...]


def chords(path: Path) -> list[Chord] | None:
    """The MIDI pitches at the beginning of each quarter note, with repeats expanded.

    The parts are those whose names begin with Soprano, Alto, Tenor and Bass; instruments are
    dropped, and so are the bars in which they play alone. A pitch sung by two voices occurs once.
    Grace notes have no duration and are ignored.

    Args:
        path: a MusicXML file, compressed or not. Needs music21.

    Returns:
        A chord, in ascending order, for each quarter note; None if the score does not have each of
        the four voices once, or has a metre that is not counted in quarters or halves.
    """
    from music21 import converter

    # Otherwise music21 would cache a pickle of the score and read that the next time.
    score = converter.parse(path, forceSource=True, storePickle=False)
    parts = {}
    for part in score.parts:
        words = (part.partName or "").split()
        if words and words[0] in VOICES:
            if words[0] in parts:
                return None
            parts[words[0]] = part
    if len(parts) != len(VOICES):
        return None
    metres = [metre for part in parts.values() for metre in part["TimeSignature"]]
    if any(metre.denominator not in (2, 4) for metre in metres):
        return None

    frames: list[set[int]] = []
    for part in parts.values():
        if part["Repeat"]:
            part = part.expandRepeats()
        for note in part.flatten().notes:
            if note.duration.isGrace:
                continue
            # The quarter notes that begin while it sounds.
            begin, end = math.ceil(note.offset), math.ceil(note.offset + note.quarterLength)
            frames.extend(set() for _ in range(end - len(frames)))
            for quarter in range(begin, end):
                frames[quarter].update(pitch.midi for pitch in note.pitches)
    return without_interludes(tuple(sorted(chord)) for chord in frames)


def without_interludes(frames: Iterable[Chord]) -> list[Chord]:
    """Remove silences of four and more quarter notes.

    Example:

        >>> without_interludes([(60,), (), (62,), (), (), (), (), (64,)])
        [(60,), (), (62,), (64,)]
    """
    kept: list[Chord] = []
    for sounds, run in itertools.groupby(frames, key=bool):
        alike = list(run)
        if sounds or len(alike) < INTERLUDE:
            kept += alike
    return kept


def progressions(frames: Iterable[Chord]) -> Counter[tuple[Chord, Chord]]:
    """Count the chord progressions, independent of the key."""
    return Counter(
        (tuple(pitch - first[0] for pitch in first), tuple(pitch - first[0] for pitch in second))
        for first, second in itertools.pairwise(frames)
        if first and second
    )


def likeness(one: Counter, other: Counter) -> float:
    """The fraction of the shorter piece's progressions that also occur in the longer one."""
    return (one & other).total() / max(1, min(one.total(), other.total()))
