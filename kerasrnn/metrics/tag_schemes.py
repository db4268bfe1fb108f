"""Tagging schemes: how the tags of single steps mark spans, such as names of persons in a text.

    tokens   Anna  Maria  Berg  lives  in  Bergen
    BIO      B-PER I-PER  I-PER O      O   B-LOC
    BIOES    B-PER I-PER  E-PER O      O   S-LOC

A tag is a letter, a hyphen and a type, or a letter alone if all spans have one type.

- BIO, also called IOB2: B at the first step of a span, I at the others, O outside of spans.
- IOB1: I at every step of a span; B only at the first step of a span that directly follows another
  one of its type (Ramshaw & Marcus 1995, "Text chunking using transformation-based learning").
- BIOES, also called IOBES: E at the last step of a span, S for a span of one step. BILOU has L and
  U in place of E and S, and BMES has M in place of I.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from kerasrnn.validation import ArgumentError

SchemeName = Literal["BIO", "IOB1", "BIOES", "BILOU", "BMES"]
Role = Literal["B", "I", "E", "S", "O"]

LETTERS: dict[str, dict[str, Role]] = {
    "BIO": {"B": "B", "I": "I", "O": "O"},
    "IOB1": {"B": "B", "I": "I", "O": "O"},
    "BIOES": {"B": "B", "I": "I", "O": "O", "E": "E", "S": "S"},
    "BILOU": {"B": "B", "I": "I", "O": "O", "L": "E", "U": "S"},
    "BMES": {"B": "B", "M": "I", "O": "O", "E": "E", "S": "S"},
}
"""The letters of each scheme, and what they are called in BIOES."""


SCHEMES = tuple(LETTERS)


class Tag(NamedTuple):
    """One tag: its letter in BIOES, and the type of the span; "" outside of spans."""

    role: Role
    type: str


OUTSIDE = Tag("O", "")


class Tags:
    """The tags of a model, by id, with their scheme.

    Args:
        names: the name of each tag.
        scheme: the scheme.

    Raises:
        ValueError: a name is not one of the scheme.
    """

    def __init__(self, names: Sequence[str], scheme: SchemeName) -> None:
        self.scheme = scheme
        self.tags = [_parsed(n, name, scheme) for n, name in enumerate(names)]
        self.types = sorted({tag.type for tag in self.tags if tag.role != "O"})

    def boundaries(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """How a tag continues or ends a span, given the tag before it; both by id.

        Returns:
            Whether it begins a span, and whether it continues one, `(before, tag)`, where the last
            row is the start of the sequence; and whether a span may end after a tag, `(tags,)`.
        """
        rows = [*self.tags, OUTSIDE]
        starts = np.array([[_starts(a, b, self.scheme) for b in self.tags] for a in rows])
        continues = np.array([[_continues(a, b) for b in self.tags] for a in rows])
        closed = self.scheme in ("BIO", "IOB1")
        ends = np.array(
            [tag.role in ("E", "S") or (closed and tag.role != "O") for tag in self.tags]
        )
        return starts, continues, ends

    def allowed(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which tags may be the first, follow which, `(before, tag)`, and be the last."""
        starts, continues, ends = self.boundaries()
        outside = np.array([tag.role == "O" for tag in self.tags])
        # A tag is outside, or begins a span, or continues one. A span that ends must be complete.
        begins = starts | outside
        complete = np.append(ends | outside, True)
        follows = (begins & complete[:, None]) | continues
        return follows[-1], follows[:-1], ends | outside

    def type_ids(self) -> np.ndarray:
        """The number of each tag's type in `types`; 0 outside of spans."""
        return np.array([self.types.index(t.type) if t.role != "O" else 0 for t in self.tags])


def _parsed(n: int, name: str, scheme: str) -> Tag:
    letter, hyphen, kind = name.partition("-")
    letters = LETTERS[scheme]
    role = letters.get(letter)
    if role is None or bool(hyphen) != bool(kind) or (role == "O" and kind):
        inside = [x for x in letters if x != "O"]
        raise ArgumentError(
            f"tags[{n}]", name, "'O'", f"{', '.join(inside)} before '-' and a type, in {scheme}"
        )
    return Tag(role, kind)


def _starts(before: Tag, tag: Tag, scheme: str) -> bool:
    """Whether a tag begins a span."""
    if scheme != "IOB1":
        return tag.role in ("B", "S")
    after_its_type = before.role in ("B", "I") and before.type == tag.type
    return (tag.role == "I" and not after_its_type) or (tag.role == "B" and after_its_type)


def _continues(before: Tag, tag: Tag) -> bool:
    """Whether a tag continues the span of the tag before it, if that is in one."""
    return before.role in ("B", "I") and tag.role in ("I", "E") and before.type == tag.type
