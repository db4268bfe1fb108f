"""A font made for the tests, of bars whose pixels are known beforehand."""

import io

from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTCollection, TTFont
from fontTools.ttLib.tables.TupleVariation import TupleVariation

UNITS = 10  # of the font, in a pixel of a picture that is drawn 38 pixels to the em


def collection(characters: str) -> bytes:
    """A variable font collection of five faces, which are laid out as Noto Sans CJK's are.

    In the face with index 2, the bar of character number i stands on the baseline, is i + 1 pixels
    high, begins at the left side, and is 2 pixels wide at weight 100 and 10 at weight 900. In the
    other faces every bar is 20 pixels higher.
    """
    faces = TTCollection()
    faces.fonts = [_face(characters, 0 if index == 2 else 20) for index in range(5)]
    content = io.BytesIO()
    faces.save(content)
    return content.getvalue()


def _face(characters: str, higher: int) -> TTFont:
    names = [f"u{ord(character):X}" for character in characters]
    heights = {name: number + 1 + higher for number, name in enumerate(names)}
    builder = FontBuilder(38 * UNITS)
    builder.setupGlyphOrder([".notdef", *names])
    builder.setupCharacterMap({ord(c): name for c, name in zip(characters, names, strict=True)})
    builder.setupGlyf({".notdef": _bar(0, 0)} | {n: _bar(2, h) for n, h in heights.items()})
    builder.setupHorizontalMetrics(dict.fromkeys((".notdef", *names), (38 * UNITS, 0)))
    builder.setupHorizontalHeader(ascent=44 * UNITS, descent=-12 * UNITS)
    builder.setupNameTable({"familyName": "Bars", "styleName": "Thin"})
    builder.setupOS2()
    builder.setupPost()
    builder.setupFvar([("wght", 100, 100, 900, "Weight")], [])
    # The right side moves; the last four are the glyph's origin and advances.
    moves = [(0, 0), (0, 0), (8 * UNITS, 0), (8 * UNITS, 0), *[(0, 0)] * 4]
    builder.setupGvar({name: [TupleVariation({"wght": (0, 1, 1)}, moves)] for name in names})
    return builder.font


def _bar(width: int, height: int):
    pen = TTGlyphPen(None)
    right, top = width * UNITS, height * UNITS
    pen.moveTo((0, 0))
    for corner in ((0, top), (right, top), (right, 0)):
        pen.lineTo(corner)
    pen.closePath()
    return pen.glyph()
