"""Splits by hash: which texts are held out.

A split by hash depends neither on the order of a file nor on a seed, and texts that differ only in
case, spaces and punctuation are always in the same split.
"""

import hashlib
import math
from collections.abc import Collection, Mapping
from typing import Any

from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.wording import counted


def fingerprint(text: str) -> str:
    """SHA-256 of a text's letters and digits in lower case, in hexadecimal.

    Example:
        >>> fingerprint("A mess.") == fingerprint("...a MESS...")
        True
    """
    letters = "".join(character for character in text.lower() if character.isalnum())
    return hashlib.sha256(letters.encode("utf-8")).hexdigest()


def place(text: str) -> float:
    """Map the fingerprint of a text to [0, 1).

    About a fraction p of many texts has a place below p.

    Example:
        >>> round(place("A mess."), 4)
        0.2086
    """
    digits = 13  # 52 bits, which a float represents exactly
    return int(fingerprint(text)[:digits], 16) / 16**digits


def enough(fraction: float) -> int:
    """The number of texts, in tens, for which a fraction nearly always contains at least one.

    The probability of having none is one in ten thousand.

    Example:
        >>> enough(0.1), enough(0.2)
        (90, 50)
    """
    return 10 * math.ceil(math.log(1e-4) / math.log(1 - fraction) / 10)


def check_parts(
    path: str, parts: Mapping[str, Collection[Any]], fraction: float, noun: str
) -> None:
    """Check that no part of the user's own texts is empty.

    Args:
        path: the file of the texts.
        parts: the texts by purpose, such as "training".
        fraction: the fraction of the smallest part.
        noun: the noun for one text, such as "molecule".

    Raises:
        DatasetError: a part is empty.
    """
    total = sum(map(len, parts.values()))
    for purpose, part in parts.items():
        if not part:
            raise DatasetError(
                f"{path}: expected {noun}s for {purpose}; found none among its "
                f"{counted(total, noun)}. {enough(fraction)} different ones nearly always suffice."
            )
