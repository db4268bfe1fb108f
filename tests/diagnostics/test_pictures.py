"""Gradients that vanish, explode or are preserved, and their pictures."""

import sys

import keras
import numpy as np
import pytest
from keras import ops

import kerasrnn
from kerasrnn.diagnostics import compare, diagnose

pytestmark = [pytest.mark.tensorflow, pytest.mark.traced]

STEPS = 200
UNITS = 32


def adding(batch=8):
    """The adding problem: the sum of two marked values, one in each half."""
    random = np.random.default_rng(0)
    values, marks = random.random((batch, STEPS)), np.zeros((batch, STEPS))
    for row in marks:
        row[random.integers(STEPS // 2)] = row[random.integers(STEPS // 2, STEPS)] = 1
    x = np.stack([values, marks], axis=-1).astype("float32")
    return x, (values * marks).sum(axis=1, keepdims=True).astype("float32")


X, Y = adding()


def chrono(units):
    """Biases of gates that remember from 1 to T steps: Tallec & Ollivier (2018), section 2.3."""
    times = np.random.default_rng(1).uniform(1, STEPS - 1, units)
    return np.log(times).astype("float32")


def adder(layer):
    model = keras.Sequential([keras.Input((None, 2)), layer, keras.layers.Dense(1)])
    keep = chrono(UNITS)
    if isinstance(layer, kerasrnn.LSTM):
        rest = np.zeros(2 * UNITS, "float32")
        layer.cell.bias.assign(np.concatenate([-keep, keep, rest]))  # i, f; c and o
    if isinstance(layer, kerasrnn.GRU):
        layer.cell.bias.assign(np.stack([np.pad(keep, (0, 2 * UNITS)), np.zeros(3 * UNITS)]))
    return model


def simple_rnn(gain):
    start = keras.initializers.Orthogonal(gain)
    return kerasrnn.SimpleRNN(UNITS, recurrent_initializer=start, jit_compile=False)


LAYERS = {
    "SimpleRNN, radius 0.8": lambda: simple_rnn(0.8),
    "SimpleRNN, radius 2.2": lambda: simple_rnn(2.2),
    "LSTM": lambda: kerasrnn.LSTM(UNITS),
    "GRU": lambda: kerasrnn.GRU(UNITS),
}


@pytest.fixture(scope="module")
def diagnoses():
    found = {}
    for label, layer in LAYERS.items():
        keras.utils.set_random_seed(0)
        found[label] = diagnose(adder(layer()), X, Y, "mse")
    return found


def only(diagnosis):
    (layer,) = diagnosis.layers.values()
    return layer


def reach(diagnosis, state="h", distance=100):
    norms = only(diagnosis).states[state].gradient_norms
    assert len(norms) == STEPS
    return norms[distance] / norms[0]


# With initial weights.


def test_the_gradient_of_small_recurrent_weights_vanishes(diagnoses):
    diagnosis = diagnoses["SimpleRNN, radius 0.8"]
    assert only(diagnosis).kernels["h"].largest_singular_value == pytest.approx(0.8, rel=1e-5)
    assert reach(diagnosis) < 0.8**100 < 1e-6  # the bound of Pascanu et al., and below it
    assert only(diagnosis).memory < 5


def test_the_gradient_of_large_recurrent_weights_explodes(diagnoses):
    diagnosis = diagnoses["SimpleRNN, radius 2.2"]
    assert only(diagnosis).kernels["h"].spectral_radius == pytest.approx(2.2, rel=1e-5)
    assert reach(diagnosis) > 1e6
    assert only(diagnosis).memory == np.inf
    assert diagnosis.weight_gradient_norm > 1e12
    assert diagnosis.loss < 100  # the states are bounded


def test_lstm_and_gru_preserve_the_gradient(diagnoses):
    lstm, gru = diagnoses["LSTM"], diagnoses["GRU"]
    assert reach(lstm, "c") > 0.1
    assert reach(gru) > 0.1
    for diagnosis, state in ((lstm, "c"), (gru, "h")):
        layer = only(diagnosis)
        assert 50 < layer.memory < STEPS
        constants = layer.states[state].time_constants
        # The times that the biases were set to.
        np.testing.assert_allclose(constants, np.exp(chrono(UNITS)) + 0.5, rtol=0.25)


def test_with_the_usual_biases_lstm_and_gru_forget_sooner():
    """A step carries over sigmoid(1) = 0.73 of c in LSTM, and 0.5 of h in GRU."""
    for layer, keep in ((kerasrnn.LSTM(UNITS), 1.0), (kerasrnn.GRU(UNITS), 0.0)):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((None, 2)), layer, keras.layers.Dense(1)])
        found = only(diagnose(model, X[:, :50], Y, "mse"))
        constant = np.log1p(np.exp(-keep)) ** -1
        *_, state = found.states.values()
        np.testing.assert_allclose(np.median(state.time_constants), constant, rtol=0.2)
        assert found.memory < 10


def test_clipping_limits_the_steps_of_training():
    """A step of gradient descent moves the weights by at most rate times clipnorm."""
    moved = {}
    for clipnorm in (None, 1.0):
        keras.utils.set_random_seed(0)
        model = adder(simple_rnn(2.2))
        optimizer = keras.optimizers.SGD(0.1, global_clipnorm=clipnorm)
        model.compile(optimizer, "mse", jit_compile=False)
        before = model.get_weights()
        model.train_on_batch(X, Y)
        pairs = zip(model.get_weights(), before, strict=True)
        moved[clipnorm] = np.sqrt(sum(np.sum((a - b).astype("float64") ** 2) for a, b in pairs))
    assert moved[None] > 1e10
    assert moved[1.0] == pytest.approx(0.1, rel=1e-3)


# The pictures.


def test_the_picture_of_a_comparison(diagnoses):
    figure = compare(diagnoses, clipnorm=1.0)
    curves, clipping = figure.axes
    assert curves.get_yscale() == clipping.get_xscale() == "log"
    drawn = {"LSTM": "c"}
    for line, (label, diagnosis) in zip(curves.lines, diagnoses.items(), strict=True):
        norms = only(diagnosis).states[drawn.get(label, "h")].gradient_norms
        np.testing.assert_array_equal(line.get_xdata(), np.arange(STEPS))
        np.testing.assert_array_equal(line.get_ydata(), norms)
    texts = {text.get_text(): text for text in curves.texts}
    names = [label if label != "LSTM" else "LSTM (dL/dc)" for label in LAYERS]
    assert set(names) <= set(texts)
    for name, line in zip(names, curves.lines, strict=True):
        assert texts[name].get_color() == line.get_color()
    heights = sorted(texts[name].xy[1] for name in names)
    assert np.diff(heights).min() > 0.03  # no label on another
    full = [line.get_xdata()[0] for line in clipping.lines if line.get_marker() == "o"][1::2]
    assert full == [diagnosis.weight_gradient_norm for diagnosis in diagnoses.values()]
    open_ = [line.get_xdata()[0] for line in clipping.lines if line.get_marker() == "o"][::2]
    assert open_ == [min(norm, 1.0) for norm in full]


def test_the_picture_of_a_diagnosis(diagnoses, tmp_path):
    diagnosis = diagnoses["LSTM"]
    curves, gates = diagnosis.figure().axes
    assert [text.get_text() for text in curves.texts][:2] == ["dh", "dc"]
    for line, state in zip(curves.lines, only(diagnosis).states.values(), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), state.gradient_norms)
    assert [label.get_text() for label in gates.get_yticklabels()] == ["i", "f", "o", "candidate"]
    widths = [bar.get_width() for bar in gates.patches]
    f = only(diagnosis).gates["f"]
    assert widths[3:6] == [1, f.low.mean(), f.high.mean()]
    diagnosis.draw(tmp_path / "lstm.svg")
    assert "<svg" in (tmp_path / "lstm.svg").read_text()


def test_the_table(diagnoses):
    lines = diagnoses["SimpleRNN, radius 2.2"].summary().splitlines()
    layer = only(diagnoses["SimpleRNN, radius 2.2"])
    norms = layer.states["h"].gradient_norms
    assert lines[2] == f"{layer.name} (SimpleRNNCell)"
    assert " ".join(lines[3].split()) == "state distance 0 distance 100 distance 199 memory"
    assert lines[4].split() == ["h", *(f"{norms[d]:.2e}" for d in (0, 100, 199)), ">", "199"]
    assert lines[6].split() == ["h", "2.2", "2.2"]
    assert lines[7] == f"  |candidate| > 0.95: {layer.saturated.mean():.2f}"
    lines = diagnoses["LSTM"].summary().splitlines()
    layer = only(diagnoses["LSTM"])
    c, f = layer.states["c"], layer.gates["f"]
    assert lines[5].split()[-2:] == [f"{c.memory:.3g}", f"{np.median(c.time_constants):.3g}"]
    assert lines[8].split()[:4] == ["f", *(f"{v.mean():.2f}" for v in (f.mean, f.low, f.high))]


def test_zeros_and_overflows_are_not_drawn():
    """A logarithmic axis has no place for them."""
    layer = kerasrnn.SimpleRNN(2, activation=None, truncate_every=3, name="cut")
    model = keras.Sequential([keras.Input((None, 2)), layer])
    diagnosis = diagnose(model, X[:2, :6], loss=ops.sum)
    (line,) = diagnosis.figure().axes[0].lines
    np.testing.assert_array_equal(np.isnan(line.get_ydata()), [False] * 3 + [True] * 3)

    layer = kerasrnn.SimpleRNN(2, activation=None, recurrent_initializer="ones")
    model = keras.Sequential([keras.Input((None, 2)), layer])
    overflown = diagnose(model, X[:2], loss=lambda h: ops.sum(h**2))
    figure = compare({"too much": overflown}, clipnorm=1.0)
    assert np.isnan(figure.axes[0].lines[0].get_ydata()).any()
    assert "not finite" in [text.get_text() for text in figure.axes[1].texts]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": "lstm"}, r"layer='lstm': expected one of .*simple_rnn"),
        ({"state": "c"}, "state='c': expected one of h"),
        ({"clipnorm": 0.0}, r"clipnorm=0\.0: expected a positive number"),
    ],
)
def test_invalid_comparisons(diagnoses, options, message):
    with pytest.raises(ValueError, match=message):
        compare(diagnoses, **options)


def test_comparisons_of_other_things():
    model = keras.Sequential(
        [keras.Input((None, 2)), kerasrnn.Bidirectional(kerasrnn.GRU(2, return_sequences=True))]
    )
    by_step, two = (diagnose(model, X[:2, :5], loss=ops.sum, steps=s) for s in ("all", "last"))
    with pytest.raises(ValueError, match="expected a dictionary of diagnoses"):
        compare({})
    with pytest.raises(ValueError, match=r"measured by step; expected diagnose\(steps="):
        compare({"GRU": by_step})
    with pytest.raises(ValueError, match=r"GRU: layer=None: expected one of .*backward_gru"):
        compare({"GRU": two})
    name = [*two.layers][1]
    (line,) = compare({"GRU": two}, layer=name).axes[0].lines
    np.testing.assert_array_equal(line.get_ydata(), two.layers[name].states["h"].gradient_norms)


def test_without_matplotlib(diagnoses, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for draw in (diagnoses["GRU"].figure, lambda: compare(diagnoses)):
        with pytest.raises(ImportError, match=r"matplotlib.*kerasrnn\[recipes\]"):
            draw()
