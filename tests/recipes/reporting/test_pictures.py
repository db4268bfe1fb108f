"""What the pictures of a run show."""

import numpy as np
import pytest

from kerasrnn.recipes.base import search_space as space
from kerasrnn.recipes.reporting import pictures
from kerasrnn.zoo import Translation


@pytest.fixture
def drawn(monkeypatch):
    """The panels of what is saved."""
    found = []
    monkeypatch.setattr(pictures, "save", lambda figure, path: found.extend(figure.axes))
    return found


def test_curves_show_mean_and_range_of_the_seeds(drawn, tmp_path):
    values = {"A": [[1.0, 4.0], [3.0, 8.0]], "B": [[2.0, 2.0]]}
    pictures.curves(values, ["short", "long"], "length", "BLEU", tmp_path / "curves.png")
    (panel,) = drawn
    first, second = panel.lines
    np.testing.assert_array_equal(first.get_ydata(), [2.0, 6.0])
    np.testing.assert_array_equal(second.get_ydata(), [2.0, 2.0])
    span = panel.collections[0].get_paths()[0].vertices
    assert {tuple(point) for point in span} == {(0, 1), (0, 3), (1, 4), (1, 8)}
    assert [line.get_label() for line in panel.lines] == ["A", "B"]


def test_japanese_has_glyphs(tmp_path):
    """Warnings are errors: a character without a glyph is one. Other pictures stay as they are."""
    import matplotlib

    before = list(matplotlib.rcParams["font.family"])
    said = Translation("彼 は", ["彼", "は"], ["he", "is"], -1.0, np.eye(3)[:, :2])
    pictures.alignments([said], tmp_path / "attention.png")
    assert list(matplotlib.rcParams["font.family"]) == before


def test_attention_names_its_axes(drawn, tmp_path):
    said = Translation("A B", ["A", "B"], ["a", "b"], -1.0, np.eye(3)[:, :2])
    pictures.alignments([said], tmp_path / "attention.png")
    (panel,) = drawn
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("source", "result")
    assert [label.get_text() for label in panel.get_xticklabels()] == ["a", "b"]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["A", "B", "end"]


def test_learning_curves_show_the_log(drawn, tmp_path):
    """A loss that falls a thousandfold can be read to its end; what stays near is not bent."""
    log = tmp_path / "log.csv"
    log.write_text(
        "epoch,accuracy,loss,val_accuracy,val_loss\n0,0.5,2.0,0.5,\n1,0.75,0.002,0.25,\n"
    )
    pictures.learning_curves(log, tmp_path / "curves.png")
    accuracy, loss = drawn
    assert (accuracy.get_title(), accuracy.get_yscale()) == ("accuracy", "linear")
    assert (loss.get_title(), loss.get_yscale()) == ("loss", "log")
    training, validation = accuracy.lines
    np.testing.assert_array_equal(training.get_xydata(), [[1, 0.5], [2, 0.75]])
    np.testing.assert_array_equal(validation.get_xydata(), [[1, 0.5], [2, 0.25]])
    assert [line.get_label() for line in loss.lines] == ["training"]  # validation was not measured


def test_trials_are_drawn_above_their_values(drawn, tmp_path):
    searched = {
        "cell": space.choice("lstm", "layer_norm_lstm"),
        "bidirectional": space.switch(),
        "units": space.powers(8, 32),
        "depth": space.integers(1, 3),
        "dropout": space.floats(0.0, 0.5),
        "clip_at": space.floats(0.1, 10.0, log=True),
    }
    first = {"cell": "layer_norm_lstm", "bidirectional": True, "units": 16, "depth": 1}
    first |= {"dropout": 0.2}  # and nothing is clipped
    second = {**first, "cell": "lstm", "units": 32, "clip_at": 0.5}
    trials = [(second, 0.4), (first, 0.9)]
    pictures.hyperparameters(trials, searched, "loss", second, tmp_path / "trials.png")
    panels = dict(zip(searched, drawn, strict=False))
    for name in searched:
        points, ring = panels[name].collections
        expected = [value for values, value in trials if name in values]
        assert points.get_offsets()[:, 1].tolist() == expected
        np.testing.assert_array_equal(ring.get_offsets()[0], points.get_offsets()[0])
    for name in ("units", "depth", "dropout"):
        places = panels[name].collections[0].get_offsets()[:, 0].tolist()
        assert places == [second[name], first[name]]
    assert panels["clip_at"].collections[0].get_offsets()[:, 0].tolist() == [0.5]
    strips = panels["cell"].collections[0].get_offsets()[:, 0].round()
    assert strips.tolist() == [0, 1]
    assert [label.get_text() for label in panels["bidirectional"].get_xticklabels()] == [
        "no",
        "yes",
    ]
    assert [label.get_text() for label in panels["units"].get_xticklabels()] == ["8", "16", "32"]
    assert [panels[name].get_xscale() for name in ("units", "dropout", "clip_at")] == [
        "log",
        "linear",
        "log",
    ]
