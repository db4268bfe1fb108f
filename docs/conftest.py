"""The examples write their files to a folder of their own."""

import pytest

# What Sphinx is given to read; its examples are those of docstrings.
collect_ignore = ["generated"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
