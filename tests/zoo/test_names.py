"""The names of the zoo's functions and files."""

import importlib
from pathlib import Path

from kerasrnn import zoo


def test_no_file_hides_a_function():
    """Importing a file would replace a function of the same name in the package."""
    files = {path.stem for path in Path(zoo.__file__).parent.glob("*.py")}
    assert not files & set(zoo.__all__)
    for name in files - {"__init__"}:
        importlib.import_module(f"kerasrnn.zoo.{name}")
    for name in zoo.__all__:
        assert callable(getattr(zoo, name))
