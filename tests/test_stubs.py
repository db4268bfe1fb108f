"""Type checkers see the constructors that are derived from what cells declare."""

from tests.stubs import CELLS, stubs


def test_the_stubs_are_what_the_classes_declare():
    """If not: python -m tests.stubs."""
    expected = stubs()
    assert {path: path.read_text(encoding="utf-8") for path in CELLS.glob("*.pyi")} == expected
