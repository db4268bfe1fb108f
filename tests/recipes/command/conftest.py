import functools
from pathlib import Path

import pytest

from kerasrnn.recipes.base import runs
from kerasrnn.zoo import saved
from tests.recipes import quick


@pytest.fixture
def there(tmp_path, monkeypatch):
    """The working directory, empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def untraced():
    with quick.untraced():
        yield


@pytest.fixture(scope="package", autouse=True)
def _trained_models_are_loaded_once():
    load, folder = runs.load_model, saved.folder("reverse").parent
    load_once = functools.cache(load)

    def of_path(path: Path):
        return load_once(path) if path.is_relative_to(folder) else load(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "load_model", of_path)
        yield
