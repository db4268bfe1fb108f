"""From a score in MusicXML to the chords that its four voices sing, a quarter note apart."""

import itertools
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

VOICES = ("Soprano", "Alto", "Tenor", "Bass")

# As many silent quarters in all voices are an interlude of the instruments; fewer are a rest.
INTERLUDE = 4

Chord = tuple[int, ...]


def chords(path: Path) -> list[Chord] | None:
    """The MIDI pitches that sound as each quarter note begins, with the repeats that are written.

    The parts taken are those whose names begin with Soprano, Alto, Tenor and Bass; instruments are
    left out, and so are the bars in which they play alone. A pitch that two voices sing is there
    once. Grace notes take no time and do not sound.

    Args:
        path: a MusicXML file, compressed or not. Needs music21.

    Returns:
        A chord, in rising order, for each quarter; None if the score has not each of the four
        voices once, or a metre that is not counted in quarters or halves.
    """
    from music21 import converter

    # music21 would otherwise keep a pickle of the score, and read that the next time.
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

    found: list[set[int]] = []
    for part in parts.values():
        if part["Repeat"]:
            part = part.expandRepeats()
        for note in part.flatten().notes:
            if note.duration.isGrace:
                continue
            # The quarters that begin while it sounds.
            begin, end = math.ceil(note.offset), math.ceil(note.offset + note.quarterLength)
            found.extend(set() for _ in range(end - len(found)))
            for quarter in range(begin, end):
                found[quarter].update(pitch.midi for pitch in note.pitches)
    return without_interludes(tuple(sorted(chord)) for chord in found)


def without_interludes(frames: Iterable[Chord]) -> list[Chord]:
    """The chords without the silences of four quarters and more.

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
    """How often each pair of chords follows each other, whatever the key they are written in."""
    return Counter(
        (tuple(pitch - first[0] for pitch in first), tuple(pitch - first[0] for pitch in second))
        for first, second in itertools.pairwise(frames)
        if first and second
    )


def likeness(one: Counter, other: Counter) -> float:
    """Which share of the shorter piece's progressions the longer one has too."""
    return (one & other).total() / max(1, min(one.total(), other.total()))
