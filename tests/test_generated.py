"""Type checkers and readers of the README see what the code declares."""

from tests.generated import PACKAGE, files


def test_generated_files_are_current():
    """If not: python -m tests.generated."""
    expected = files()
    for path, text in expected.items():
        assert path.read_text(encoding="utf-8") == text, path.name
    assert {path for path in expected if path.suffix == ".pyi"} == set(PACKAGE.rglob("*.pyi"))
