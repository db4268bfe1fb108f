"""Ideographic description sequences (IDS): the structure of a Chinese character as text.

    好   ⿰ 女 子              女 and, right of it, 子
    想   ⿱ ⿰ 木 目 心        above: 木 and, right of it, 目; below: 心

An operator precedes the two or three parts that it arranges; a part is a component or another
sequence. This prefix notation needs no brackets, and every sequence is a tree.

The grammar is that of the Unicode Standard, section 18.2, "Ideographic Description Characters".
"""

import re
from collections.abc import Iterable, Mapping

from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.datasets.lines import line_error, split_lines

# Number of parts of each operator.
ARITY = {chr(code): 2 for code in range(0x2FF0, 0x2FFC)} | {"\u2ff2": 3, "\u2ff3": 3}

# Not ASCII, so that neither brackets nor the entities (&CDP-8B7C;) of other files count as symbols.
_DESCRIPTION = re.compile(r"([^\x00-\x7f]+)(?:\[([A-Z]+)\])?")


def well_formed(symbols: Iterable[str]) -> bool:
    """Whether the symbols form exactly one sequence: every operator has its parts.

    Anything but the twelve operators counts as a component.

    Example:
        >>> well_formed("⿱⿰木目心")
        True
        >>> well_formed("⿱⿰木目")  # the lower part is missing
        False
        >>> well_formed("木目")  # two sequences
        False
    """
    missing = 1
    for symbol in symbols:
        if not missing:
            return False
        missing += ARITY.get(symbol, 0) - 1
    return not missing


def parse_ids(content: bytes, *, source: str, region: str = "G") -> dict[str, str]:
    """Parse a file of the CJKVI database: characters with their descriptions.

    A line holds a code point, its character and one or more descriptions, separated by tabs:

        U+6B21	次	⿰冫欠[GJ]	⿰二欠[TKV]

    The letters denote the regions that use a description: G is mainland China. Of several
    descriptions, the first one with the letter of `region` is used, otherwise the first one without
    letters, otherwise the first. A character that is described by itself is a component.

    Args:
        content: the bytes of the file.
        source: the file's name, for messages.
        region: one of the file's letters.

    Raises:
        DatasetError: the file is not UTF-8 or ends within a line; or a line lacks these fields, its
            code point belongs to another character, its character occurs twice, or a description is
            not well formed. The message names `source`, the line (counted from 1), the expected and
            the actual content.
    """
    lines = split_lines(content, source=source)

    table = {}
    for number, line in enumerate(lines, start=1):
        if line.startswith("#"):
            continue
        code, _, rest = line.partition("\t")
        character, *descriptions = rest.split("\t")
        if len(character) != 1 or code != f"U+{ord(character):04X}":
            expected = "a code point, a tab and its character"
            raise line_error(source, number, expected, f"{code!r} and {character!r}")
        if character in table:
            raise line_error(source, number, "one line per character", f"{character} again")
        if not descriptions:
            raise line_error(source, number, f"a description of {character}", "none")
        alternatives = []
        for description in descriptions:
            match = _DESCRIPTION.fullmatch(description)
            if not match or not well_formed(match[1]):
                expected = "a well-formed sequence and letters in brackets"
                raise line_error(source, number, expected, repr(description))
            alternatives.append((match[1], match[2] or ""))
        table[character] = min(alternatives, key=lambda found: _rank(found[1], region))[0]
    return table


def _rank(letters: str, region: str) -> int:
    if region in letters:
        return 0
    return 1 if not letters else 2


def decompose(character: str, table: Mapping[str, str]) -> list[str]:
    """Decompose a character into operators and components.

    Every part with a description is replaced by it, recursively. A character that the table
    describes by itself, or lacks, is a component.

    Args:
        character: the character to decompose.
        table: as returned by `parse_ids`.

    Raises:
        DatasetError: a character is part of itself; the message shows the cycle.

    Example:
        >>> decompose("想", {"想": "⿱相心", "相": "⿰木目", "木": "木"})
        ['⿱', '⿰', '木', '目', '心']
    """
    return _decompose(character, table, ())


def _decompose(character: str, table: Mapping[str, str], above: tuple[str, ...]) -> list[str]:
    description = table.get(character, character)
    if description == character:
        return [character]
    above = (*above, character)
    symbols = []
    for part in description:
        if part in above:
            raise DatasetError(f"{part} is a part of itself: {' > '.join((*above, part))}")
        symbols += _decompose(part, table, above)
    return symbols
