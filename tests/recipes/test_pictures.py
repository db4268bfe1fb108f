"""What the pictures of a run show."""

import numpy as np
import pytest

from kerasrnn.recipes import pictures


@pytest.fixture
def drawn(monkeypatch):
    """The panels of what is saved."""
    found = []
    monkeypatch.setattr(pictures, "save", lambda figure, path: found.extend(figure.axes))
    return found


def test_learning_curves_hold_the_log(drawn, tmp_path):
    """A loss that falls a thousandfold can be read to its end; what stays near is not bent."""
    log = tmp_path / "log.csv"
    log.write_text(
        "epoch,accuracy,loss,val_accuracy,val_loss\n0,0.5,2.0,0.5,NA\n1,0.75,0.002,0.25,NA\n"
    )
    pictures.learning_curves(log, tmp_path / "curves.png")
    accuracy, loss = drawn
    assert (accuracy.get_title(), accuracy.get_yscale()) == ("accuracy", "linear")
    assert (loss.get_title(), loss.get_yscale()) == ("loss", "log")
    training, validation = accuracy.lines
    np.testing.assert_array_equal(training.get_xydata(), [[1, 0.5], [2, 0.75]])
    np.testing.assert_array_equal(validation.get_xydata(), [[1, 0.5], [2, 0.25]])
    assert [line.get_label() for line in loss.lines] == ["training"]  # validation was not measured
