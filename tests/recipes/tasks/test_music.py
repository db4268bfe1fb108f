"""Chords from text, MIDI files read back byte by byte, and what stands in a picture."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasrnn.recipes.base.config import ConfigError
from kerasrnn.recipes.datasets.piano_rolls import from_pitches
from kerasrnn.recipes.tasks import music

PHRASE = from_pitches([[48, 60, 64, 67], [48, 60, 65, 69], [], [43, 59, 62, 67], [43, 67]])
# Pitch, first frame, frame after the last: by hand.
NOTES = [
    (48, 0, 2),
    (60, 0, 2),
    (64, 0, 1),
    (67, 0, 1),
    (65, 1, 2),
    (69, 1, 2),
    (43, 3, 5),
    (59, 3, 4),
    (62, 3, 4),
    (67, 3, 5),
]


def test_adjacent_equal_pitches_are_one_note():
    assert music.notes(PHRASE) == NOTES


@given(st.lists(st.sets(st.integers(21, 108), max_size=5).map(sorted), min_size=1, max_size=8))
def test_notes_are_those_of_the_roll(frames):
    roll = np.zeros((len(frames), 88), int)
    for pitch, begin, end in music.notes(from_pitches(frames)):
        roll[begin:end, pitch - 21] += 1
    np.testing.assert_array_equal(roll, from_pitches(frames))


@pytest.mark.parametrize(
    ("text", "pitches"),
    [
        ("C4 E4 G4 C5", [60, 64, 67, 72]),
        ("60 64 67 72", [60, 64, 67, 72]),
        (" c4,E4 , 67", [60, 64, 67]),
        ("A0 C8", [21, 108]),
        ("C#4 D♭4 F##3 Bbb3 B♯3 Cb4", [55, 57, 59, 60, 61]),
        ("b3 bb3", [58, 59]),
        ("C4 C4 60", [60]),
    ],
)
def test_chords(text, pitches):
    assert music.read_chord(text) == pitches


@given(st.integers(21, 108))
def test_names_are_read_back(pitch):
    assert music.read_chord(music.pitch_name(pitch)) == [pitch]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "^chord='': expected at least one pitch"),
        (" , ", "expected at least one pitch"),
        ("C4 H4", "^chord='C4 H4': expected pitches such as C4, F#3, Bb4 or 60; found 'H4'"),
        ("C", "found 'C'"),
        ("C4E4", "found 'C4E4'"),
        ("C#b4", "found 'C#b4'"),
        ("60.5", r"found '60\.5'"),
        ("-60", "found '-60'"),
        ("G0 G#0", r"of the piano, A0 \(21\) to C8 \(108\); found 'G0', which is 19"),
        ("109", "found '109', which is 109"),
        ("C-1", "found 'C-1', which is 0"),
    ],
)
def test_invalid_chords_are_errors(text, message):
    with pytest.raises(ConfigError, match=message):
        music.read_chord(text)


def midi_events(content):
    """(time in ticks, status, data) of every track of a standard MIDI file, and ticks a quarter."""
    assert content[:8] == b"MThd\x00\x00\x00\x06"
    tracks, ticks = int.from_bytes(content[10:12]), int.from_bytes(content[12:14])
    place, found = 14, []

    def number():
        nonlocal place
        value = 0
        while True:
            byte = content[place]
            place += 1
            value = value << 7 | byte & 127
            if byte < 128:
                return value

    for _ in range(tracks):
        assert content[place : place + 4] == b"MTrk"
        end = place + 8 + int.from_bytes(content[place + 4 : place + 8])
        place, time = place + 8, 0
        while place < end:
            time += number()
            status = content[place]
            assert status >= 128  # music21 repeats the status byte
            place += 1
            if status == 0xFF:
                status = 0xFF00 | content[place]
                place += 1
                size = number()
            else:
                size = 1 if status >> 4 in (0xC, 0xD) else 2
            found.append((time, status, content[place : place + size]))
            place += size
    assert place == len(content)
    return found, ticks


def test_midi(tmp_path):
    """Read back by the format's own rules: tempo, instrument, and when each note sounds."""
    music.write_midi(PHRASE, tmp_path / "phrase.mid", tempo=96)
    events, ticks = midi_events((tmp_path / "phrase.mid").read_bytes())
    assert [int.from_bytes(data) for _, status, data in events if status == 0xFF51] == [625_000]
    programs = {data for _, status, data in events if status >> 4 == 0xC}
    assert programs == {bytes([19])}

    begun, found = {}, []
    for time, status, (pitch, velocity) in ((t, s, d) for t, s, d in events if s >> 4 in (8, 9)):
        if status >> 4 == 9 and velocity:
            assert pitch not in begun
            begun[pitch] = time
        else:
            found.append((pitch, begun.pop(pitch) / ticks, time / ticks))
    assert not begun
    assert sorted(found) == sorted(NOTES)
    assert [path.name for path in tmp_path.iterdir()] == ["phrase.mid"]


def test_midi_needs_notes_and_a_tempo(tmp_path):
    with pytest.raises(ValueError, match=r"^roll: expected at least one pitch; found silence"):
        music.write_midi(from_pitches([[]]), tmp_path / "phrase.mid")
    with pytest.raises(
        ValueError, match=r"^tempo=0: expected at least one quarter note per minute"
    ):
        music.write_midi(PHRASE, tmp_path / "phrase.mid", tempo=0)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_music21_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "music21", None)
    with pytest.raises(music.MidiError, match=r"pip install 'kerasrnn\[music\]'"):
        music.write_midi(PHRASE, tmp_path / "phrase.mid")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """A function that draws, and gives the figure instead of a file."""
    figures = []
    monkeypatch.setattr(music, "save", lambda figure, path: figures.append(figure))

    def draw(*arguments, **keywords):
        music.draw(*arguments[:1], tmp_path / "roll.png", *arguments[1:], **keywords)
        return figures.pop()

    return draw


def shapes(panel):
    """The notes drawn in a panel: colour, rounded left, right and pitch, by what is visible."""
    from matplotlib.colors import to_hex
    from matplotlib.patches import FancyBboxPatch

    found = set()
    for patch in panel.patches:
        if not isinstance(patch, FancyBboxPatch):
            continue
        clip = patch.get_clip_path().get_fully_transformed_path().get_extents()
        left, right = panel.transData.inverted().transform([clip.p0, clip.p1])[:, 0]
        begin, end = patch.get_x(), patch.get_x() + patch.get_width()
        if (begin := max(begin, left)) < (end := min(end, right)) - 1e-6:
            middle = patch.get_y() + patch.get_height() / 2
            found.add((to_hex(patch.get_facecolor()), round(begin), round(end), round(middle)))
    return found


def test_picture(drawn):
    (panel,) = drawn(PHRASE, "A phrase", seed=1).axes
    given_notes = {(music.GIVEN, 0, 1, pitch) for pitch in (48, 60, 64, 67)}
    composed = {(music.COMPOSED, max(1, b), e, p) for p, b, e in NOTES if e > 1}
    assert shapes(panel) == given_notes | composed
    assert panel.get_title(loc="left") == "A phrase"
    assert panel.get_xlabel() == "quarter notes"
    assert panel.get_xticks().tolist() == [0, 4]
    # All C, E and G from two semitones below the lowest pitch to two above the highest.
    names = dict(zip(panel.get_yticks(), panel.get_yticklabels(), strict=True))
    assert {pitch: label.get_text() for pitch, label in names.items()} == {
        43: "G2",
        48: "C3",
        52: "E3",
        55: "G3",
        60: "C4",
        64: "E4",
        67: "G4",
    }
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["given", "composed"]


@pytest.mark.parametrize(
    ("length", "ends"),
    [(64, [64]), (65, [36, 65]), (128, [64, 128]), (129, [44, 88, 129]), (7, [7])],
)
def test_lines_have_similar_lengths(drawn, length, ends):
    """Of whole bars, of four quarters."""
    panels = drawn(from_pitches([[60]] * length), "Long").axes
    assert [max(end for _, _, end, _ in shapes(panel)) for panel in panels] == ends


def test_a_long_piece_has_several_lines(drawn):
    """Nothing is lost at the breaks, and a note that goes on is in both lines."""
    long = from_pitches([[60]] * 63 + [[62]] * 2 + [[64]] * 70)
    panels = drawn(long, "Long").axes
    assert [shapes(panel) for panel in panels] == [
        {(music.COMPOSED, 0, 48, 60)},
        {
            (music.COMPOSED, 48, 63, 60),
            (music.COMPOSED, 63, 65, 62),
            (music.COMPOSED, 65, 96, 64),
        },
        {(music.COMPOSED, 96, 135, 64)},
    ]
    assert panels[0].get_legend() is None


def test_the_picture_is_a_file(tmp_path):
    music.draw(PHRASE, tmp_path / "roll.png", "A phrase", seed=1)
    assert (tmp_path / "roll.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert [path.name for path in tmp_path.iterdir()] == ["roll.png"]
    with pytest.raises(ValueError, match=r"^roll: expected at least one pitch; found silence"):
        music.draw(from_pitches([[], []]), tmp_path / "roll.png", "Silence")
