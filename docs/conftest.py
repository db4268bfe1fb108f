"""Runs the examples of the guides in a temporary folder."""

import pytest

# Generated pages, whose examples are those of docstrings.
collect_ignore = ["generated"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
