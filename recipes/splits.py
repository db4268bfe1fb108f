"""Hashes that say which texts are held out.

A split by hash depends on neither the order of a file nor a seed, and texts that are equal but for
capitals, spaces and punctuation are never on two sides of it.
"""

import hashlib
import math


def fingerprint(text: str) -> str:
    """SHA-256 of the letters and digits of a text in lower case, in hexadecimal.

    Example:
        >>> fingerprint("A mess.") == fingerprint("...a MESS...")
        True
    """
    letters = "".join(character for character in text.lower() if character.isalnum())
    return hashlib.sha256(letters.encode("utf-8")).hexdigest()


def place(text: str) -> float:
    """Where the fingerprint of a text puts it between 0 and 1, 1 excluded.

    Of many texts, a fraction p has a place below p.

    Example:
        >>> round(place("A mess."), 4)
        0.2086
    """
    digits = 13  # 52 bits, which a float holds exactly
    return int(fingerprint(text)[:digits], 16) / 16**digits


def enough(fraction: float) -> int:
    """So many texts nearly always have some whose place falls into a part; in tens.

    Once in ten thousand times they have none.

    Example:
        >>> enough(0.1), enough(0.2)
        (90, 50)
    """
    return 10 * math.ceil(math.log(1e-4) / math.log(1 - fraction) / 10)
