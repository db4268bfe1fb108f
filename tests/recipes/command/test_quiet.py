"""TensorFlow's remarks are held back, and shown where they may explain what failed."""

import os
import sys

import pytest

from kerasrnn.recipes.command.quiet import quietly_import_tensorflow


@pytest.mark.parametrize(("error", "shown"), [(ImportError, "a remark"), (KeyboardInterrupt, "")])
def test_remarks_are_shown_if_the_import_fails_and_not_after_ctrl_c(
    error, shown, monkeypatch, capfd
):
    class Finder:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "tensorflow":
                os.write(2, b"a remark")
                raise error

    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    with pytest.raises(error):
        quietly_import_tensorflow()
    assert capfd.readouterr().err == shown
