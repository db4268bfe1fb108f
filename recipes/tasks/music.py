"""Input and output of piano rolls: chords from text, MIDI files, plots.

`kerasrnn.recipes.datasets.piano_rolls` defines piano rolls; here a frame is a quarter note.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kerasrnn.files import replacing
from kerasrnn.recipes.base.config import ConfigError
from kerasrnn.recipes.datasets.piano_rolls import HIGHEST, LOWEST
from kerasrnn.recipes.reporting.pictures import save

NAMES = ("C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B")
_SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_NAME = re.compile(r"([A-Ga-g])([#♯]{1,2}|[b♭]{1,2}|)(-?\d)")

BLACK = (1, 3, 6, 8, 10)
"""The black keys of an octave, with C as 0."""
NAMED = (0, 4, 7)
"""The keys that are labelled in a plot: C, E and G."""
LINE = 64
"""Quarter notes in a line of a plot."""
GIVEN, GIVEN_SHADE, COMPOSED = "#d98a16", "#fdecd0", "#2b5f9e"
INK, STRONG, FAINT, SHADE = "#4a5360", "#c3cad3", "#e3e7ec", "#f1f3f6"

ORGAN = 19
"""The church organ in General MIDI, counted from 0."""


class MidiError(RuntimeError):
    """music21, which writes MIDI files, is not installed."""


class Note(NamedTuple):
    """A pitch held from the frame `begin` until the frame `end`."""

    pitch: int
    begin: int
    end: int


def notes(roll: np.ndarray) -> list[Note]:
    """The notes of a roll (frames, 88): equal pitches in neighbouring frames are one held note.

    Example:

        >>> from kerasrnn.recipes.datasets.piano_rolls import from_pitches
        >>> for note in notes(from_pitches([[60, 64], [60, 65]])):
        ...     print(note)
        Note(pitch=60, begin=0, end=2)
        Note(pitch=64, begin=0, end=1)
        Note(pitch=65, begin=1, end=2)
    """
    silence = np.zeros((1, roll.shape[1]), np.int8)
    changes = np.diff(np.concatenate([silence, (roll > 0).astype(np.int8), silence]), axis=0).T
    # Both are ordered by key, then time, so that they pair.
    begins, ends = np.argwhere(changes > 0), np.argwhere(changes < 0)
    return sorted(
        (
            Note(int(key) + LOWEST, int(begin), int(end))
            for (key, begin), (_, end) in zip(begins, ends, strict=True)
        ),
        key=lambda note: (note.begin, note.pitch),
    )


def pitch_name(pitch: int) -> str:
    """The usual name of a MIDI pitch, with the octave in which C4 is middle C, MIDI pitch 60.

    Example:

        >>> pitch_name(60), pitch_name(70), pitch_name(21)
        ('C4', 'B♭4', 'A0')
    """
    return f"{NAMES[pitch % 12]}{pitch // 12 - 1}"


def read_chord(text: str) -> list[int]:
    """The MIDI pitches of a chord written as names, as numbers, or both, separated by spaces or
    commas.

    A name is a letter, sharps (`#`, `♯`) or flats (`b`, `♭`), and an octave; C4 is middle C, 60.

    Returns:
        The pitches in ascending order, without duplicates.

    Raises:
        ConfigError: the text is empty, or a word is not a pitch of the piano, A0 (21) to C8 (108).

    Example:

        >>> read_chord("C4 E4 G4 C5")
        [60, 64, 67, 72]
        >>> read_chord("72, Bb3, 64")
        [58, 64, 72]
    """
    pitches = set()
    for word in text.replace(",", " ").split():
        if named := _NAME.fullmatch(word):
            letter, signs, octave = named.groups()
            alteration = len(signs) if signs[:1] in ("#", "♯") else -len(signs)
            pitch = _SEMITONES[letter.upper()] + alteration + 12 * (int(octave) + 1)
        elif re.fullmatch(r"\d{1,3}", word, re.ASCII):
            pitch = int(word)
        else:
            raise ConfigError(
                f"chord={text!r}: expected pitches such as C4, F#3, Bb4 or 60; found {word!r}."
            )
        if not LOWEST <= pitch <= HIGHEST:
            raise ConfigError(
                f"chord={text!r}: expected pitches of the piano, {pitch_name(LOWEST)} ({LOWEST}) "
                f"to {pitch_name(HIGHEST)} ({HIGHEST}); found {word!r}, which is {pitch}."
            )
        pitches.add(pitch)
    if not pitches:
        raise ConfigError(f"chord={text!r}: expected at least one pitch, such as C4 or 60.")
    return sorted(pitches)


def written(roll: np.ndarray) -> str:
    """The chords of a roll (frames, 88) as `read_chord` reads them, with commas between them.

    Example:

        >>> from kerasrnn.recipes.datasets.piano_rolls import from_pitches
        >>> written(from_pitches([[48, 55, 64], [], [58]]))
        'C3 G3 E4, (silence), B♭3'
    """
    chords = [[pitch_name(int(key) + LOWEST) for key in np.flatnonzero(frame)] for frame in roll]
    return ", ".join(" ".join(chord) or "(silence)" for chord in chords)


def write_midi(roll: np.ndarray, path: Path, tempo: int = 80) -> None:
    """Write a roll (frames, 88) as a MIDI file for organ, one quarter note per frame.

    Equal pitches in neighbouring frames become one held note, since a roll does not record repeated
    strikes. Needs music21.

    Args:
        roll: the piano roll.
        path: the output file; it is written atomically.
        tempo: quarter notes per minute.

    Raises:
        ValueError: `tempo` is not positive, or the roll is silent.
        MidiError: music21 is not installed.
    """
    if tempo < 1:
        raise ValueError(f"tempo={tempo}: expected at least one quarter note per minute.")
    if not (played := notes(roll)):
        raise ValueError("roll: expected at least one pitch; found silence.")
    try:
        from music21 import instrument, note, stream
        from music21.midi.translate import streamToMidiFile
        from music21.tempo import MetronomeMark
    except ModuleNotFoundError as error:
        raise MidiError(
            f"MIDI files need music21, which cannot be imported ({error}): install it "
            "with `pip install 'kerasrnn[music]'`."
        ) from error

    organ = instrument.Instrument()
    organ.midiProgram = ORGAN
    part = stream.Part([organ, MetronomeMark(number=tempo)])
    for pitch, begin, end in played:
        part.insert(begin, note.Note(pitch, quarterLength=end - begin))
    with replacing(path) as scratch:
        scratch.write_bytes(streamToMidiFile(part).writestr())


def draw(roll: np.ndarray, path: Path, title: str, seed: int = 0, bar: int = 4) -> None:
    """Plot a roll (frames, 88): time in quarter notes to the right, pitch upwards.

    A long piece is broken into lines, as in sheet music.

    Args:
        roll: the piano roll.
        path: the output file; its suffix selects the format.
        title: the title of the plot.
        seed: number of frames at the beginning that were given; they are highlighted.
        bar: number of quarter notes between two bar lines.

    Raises:
        ValueError: the roll is silent.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyBboxPatch, Patch, Rectangle

    if not (played := notes(roll)):
        raise ValueError("roll: expected at least one pitch; found silence.")
    low = min(note.pitch for note in played) - 2
    high = max(note.pitch for note in played) + 2
    named = [pitch for pitch in range(low, high + 1) if pitch % 12 in NAMED]
    # Lines of about the same length; of whole bars if there are several.
    width = -(-len(roll) // -(-len(roll) // LINE))
    if width < len(roll):
        width = min(-(-width // bar) * bar, LINE)
    lines = -(-len(roll) // width)
    figure = Figure(
        figsize=(1.0 + 0.19 * max(width, 16), 0.75 + lines * (0.35 + 0.085 * (high - low))),
        layout="constrained",
    )
    panels = figure.subplots(lines, 1, squeeze=False)[:, 0]
    for line, panel in enumerate(panels):
        begin = line * width
        end = min(begin + width, len(roll))
        panel.set(xlim=(begin, begin + width), ylim=(low - 0.5, high + 0.5))
        for pitch in range(low, high + 1):
            if pitch % 12 in BLACK:
                key = Rectangle((begin, pitch - 0.5), end - begin, 1, color=SHADE, lw=0, zorder=0)
                panel.add_patch(key)
            elif pitch % 12 == 0:
                panel.hlines(pitch - 0.5, begin, end, color=STRONG, lw=0.6, zorder=1)
        for quarter in range(begin, end + 1):
            color, weight = (STRONG, 0.8) if quarter % bar == 0 else (FAINT, 0.5)
            panel.axvline(quarter, color=color, lw=weight, zorder=1)
        if begin < seed:
            panel.axvspan(begin, min(seed, end), color=GIVEN_SHADE, lw=0, zorder=0.5)
        for pitch, first, last in played:
            # A note that continues in the next line is drawn in parts.
            first, last = max(first, begin), min(last, end)
            if first >= last:
                continue
            for color, since, until in ((GIVEN, begin, seed), (COMPOSED, seed, end)):
                shape = FancyBboxPatch(
                    (first + 0.06, pitch - 0.42),
                    last - first - 0.12,
                    0.84,
                    boxstyle="round,pad=0,rounding_size=0.25",
                    mutation_aspect=2.2,
                    color=color,
                    lw=0,
                    zorder=2,
                )
                panel.add_patch(shape)
                # A note that begins in the seed and continues after it has both colours.
                frame = Rectangle((since, low - 1), max(0, until - since), high - low + 2)
                shape.set_clip_path(frame.get_path(), frame.get_patch_transform() + panel.transData)
        panel.set_yticks(named, [pitch_name(pitch) for pitch in named])
        panel.set_xticks(range(begin, end + 1, bar))
        panel.tick_params(length=0, labelsize=7, labelcolor=INK)
        panel.spines[:].set_visible(False)
    panels[0].set_title(title, loc="left", fontsize=11)
    panels[-1].set_xlabel("quarter notes", fontsize=8, color=INK)
    if seed:
        panels[0].legend(
            handles=[Patch(color=GIVEN, label="given"), Patch(color=COMPOSED, label="composed")],
            loc="lower right",
            bbox_to_anchor=(1, 1),
            ncols=2,
            frameon=False,
            fontsize=8,
            labelcolor=INK,
            handlelength=1.2,
            handleheight=0.6,
        )
    save(figure, path)
