"""Small scores for the tests, written as MusicXML."""

import io
import zipfile
from collections.abc import Mapping

DIVISIONS = 4  # of a quarter


def score(parts: Mapping[str, str], metre: str = "4/4", repeat: bool = False) -> bytes:
    """A score of parts by name, their notes as in "C5:1 r:0.5 F#4:0 | E4:4".

    A note is a pitch, or r for a rest, and its length in quarters; a length of 0 is a grace note.
    Bars are separated by |. With `repeat`, the whole piece is played twice.
    """
    names = "".join(
        f'<score-part id="P{n}"><part-name>{name}</part-name></score-part>'
        for n, name in enumerate(parts)
    )
    music = "".join(
        f'<part id="P{n}">{_measures(bars.split("|"), metre, repeat)}</part>'
        for n, bars in enumerate(parts.values())
    )
    text = (
        f'<?xml version="1.0" encoding="UTF-8"?><score-partwise version="3.1"><part-list>{names}'
        f"</part-list>{music}</score-partwise>"
    )
    return text.encode()


def compressed(content: bytes) -> bytes:
    """A score as an `.mxl` file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(
            "META-INF/container.xml",
            '<?xml version="1.0"?><container><rootfiles><rootfile full-path="score.xml"/>'
            "</rootfiles></container>",
        )
        archive.writestr("score.xml", content)
    return file.getvalue()


def _measures(bars: list[str], metre: str, repeat: bool) -> str:
    beats, beat_type = metre.split("/")
    written = []
    for number, bar in enumerate(bars):
        content = "".join(_note(*word.split(":")) for word in bar.split())
        if number == 0:
            content = (
                f"<attributes><divisions>{DIVISIONS}</divisions><time><beats>{beats}</beats>"
                f"<beat-type>{beat_type}</beat-type></time></attributes>{content}"
            )
        if repeat and number == len(bars) - 1:
            content += '<barline location="right"><repeat direction="backward"/></barline>'
        written.append(f'<measure number="{number + 1}">{content}</measure>')
    return "".join(written)


def _note(pitch: str, length: str) -> str:
    duration = f"<duration>{int(float(length) * DIVISIONS)}</duration>"
    if pitch == "r":
        return f"<note><rest/>{duration}</note>"
    step, alter, octave = pitch[0], pitch.count("#") - pitch.count("b"), pitch[-1]
    sound = f"<pitch><step>{step}</step><alter>{alter}</alter><octave>{octave}</octave></pitch>"
    if float(length) == 0:
        return f"<note><grace/>{sound}<type>eighth</type></note>"
    return f"<note>{sound}{duration}</note>"
