"""Outputs that are distributions: trained, saved, decoded, sampled and exported."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasrnn
from kerasrnn import zoo
from tests.zoo.models import assert_exports, assert_saves
from tests.zoo.test_outputs import VALID, X, compiled, loaded

PEN = zoo.Mixture(zoo.Normal(2, mean=[1.0, 2.0], std=3.0, correlated=True), 2, flags=1)
COUNTS = np.array([0, 3, 40, 2])
NUMBERS = np.array([310.0, 290.0, 305.0, 295.0])


@pytest.mark.parametrize(
    ("outputs", "y"),
    [
        (zoo.Normal(1, mean=300.0, std=10.0), NUMBERS),
        (zoo.StudentT(2), np.stack([NUMBERS, COUNTS], axis=1) / 10),
        (zoo.NegativeBinomial(mean=5.0), COUNTS),
        (PEN, np.array([[1.0, 2.0, 0], [3.0, -1.0, 1], [0.0, 0.0, 0], [5.0, 2.0, 1]])),
        (zoo.Quantiles((0.1, 0.5, 0.9), mean=300.0, std=10.0), NUMBERS),
    ],
    ids=lambda x: type(x).__name__,
)
def test_outputs_are_trained_loaded_and_decoded(outputs, y, tmp_path):
    model = compiled(zoo.many_to_one(zoo.Vectors(3), outputs, "gru", 4))
    p = model.predict(X, verbose=0)
    forecast = outputs.forecast
    rows = y if y.ndim == 2 else y[:, None]
    if isinstance(outputs, zoo.Quantiles):
        expected = ops.convert_to_numpy(forecast.pinball(p, rows)).mean() / 10
    else:
        expected = -ops.convert_to_numpy(forecast.log_prob(p, rows)).mean()
    first = model.evaluate(X, y, verbose=0, return_dict=True)
    assert first["loss"] == pytest.approx(expected, rel=1e-5)
    if "crps" in first:
        score = ops.convert_to_numpy(forecast.crps(p, rows)).mean()
        assert first["crps"] == pytest.approx(score, rel=1e-5)
    again = loaded(model, tmp_path)
    assert again.output_type == outputs
    for each in (model, again):
        losses = each.fit(X, y, epochs=8, verbose=0).history["loss"]
        assert losses[-1] < losses[0] == pytest.approx(expected, rel=1e-5)
    p = again.predict(X, verbose=0)
    answers = zoo.decoded(again)
    np.testing.assert_allclose(answers.predict(X, verbose=0), forecast.point(p), rtol=1e-5)
    assert_saves(answers, X, tmp_path)


def test_the_loss_in_the_units_of_the_targets():
    """Each number of a sequence, where it is not padding, by SciPy."""
    normal = zoo.Normal(2, mean=[100.0, -5.0], std=[20.0, 0.5])
    model = compiled(zoo.many_to_many(zoo.Vectors(3), normal, "gru", 4))
    y = np.random.default_rng(0).normal([100, -5], [20, 0.5], (4, 5, 2))
    p = model.predict(X, verbose=0)
    expected = -stats.norm.logpdf(y, p[..., :2], p[..., 2:]).sum(axis=-1)
    found = model.evaluate(X, y, verbose=0)[0]
    assert found == pytest.approx(expected[VALID].mean(), rel=1e-5)
    samples = normal.sample(p, n=3, seed=0)
    np.testing.assert_allclose(np.mean(samples, axis=(0, 1, 2)), [100, -5], rtol=0.2)
    weights = np.array([1.0, 0.0, 2.0, 1.0])
    found = model.evaluate(X, y, sample_weight=weights, verbose=0)[0]
    total = (expected * VALID * weights[:, None]).sum() / VALID.sum()
    assert found == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize(
    ("outputs", "y", "message"),
    [
        (zoo.NegativeBinomial(), [0, 1, -1, 2], r"y\[2, 0\]=-1: expected counts, integers of at"),
        (zoo.NegativeBinomial(), [0.5, 1, 1, 2], r"y\[0, 0\]=0.5: expected counts"),
        (PEN, [[0, 0, 2]] * 4, r"y\[0, 2\]=2: expected finite numbers, of which the last 1 are 0"),
        (zoo.Normal(), [np.nan, 0, 0, 0], r"y\[0\]=nan: expected a number that is finite"),
        (zoo.Normal(2), np.ones((4, 3)), r"y has the shape \(4, 3\): expected \(batch, 2\)"),
    ],
)
def test_impossible_targets(outputs, y, message):
    model = compiled(zoo.many_to_one(zoo.Vectors(3), outputs, "gru", 4))
    with pytest.raises(ValueError, match=message):
        model.fit(X, np.array(y), verbose=0)


def test_arguments():
    with pytest.raises(ValueError, match=r"component=3: expected a zoo\.Normal"):
        zoo.Mixture(3, 2)
    with pytest.raises(ValueError, match="is no distribution to sample from"):
        zoo.Quantiles((0.5,)).sample(np.ones((2, 1)))
    with pytest.raises(ValueError, match="forecast=3: expected a forecast of kerasrnn"):
        kerasrnn.ForecastParameters(3)
    with pytest.raises(ValueError, match=r"inputs of the shape \(None, 3\); expected .* 2\), the"):
        kerasrnn.ForecastParameters(kerasrnn.distributions.Normal())(keras.Input((3,)))


@pytest.mark.parametrize("policy", ["mixed_float16"])
def test_half_precision(policy):
    keras.config.set_dtype_policy(policy)
    model = compiled(zoo.many_to_one(zoo.Vectors(3), zoo.Normal(1, 1e5, 100.0), "gru", 4))
    y = 1e5 + np.arange(4.0)
    losses = model.fit(X, y, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert model.predict(X, verbose=0).dtype == "float32"


@pytest.mark.tensorflow
@pytest.mark.traced
def test_exports(tmp_path):
    """Parameters and points of several kinds, in one file; the median is bisected in a loop."""
    (x,) = zoo.many_to_many(zoo.Vectors(3), PEN, "simple_rnn", 4).inputs
    outputs = {}
    for name, output in (
        ("mixture", PEN),
        ("quantiles", zoo.Quantiles((0.1, 0.5, 0.9), mean=3.0, std=2.0)),
        ("counts", zoo.NegativeBinomial(mean=3.0)),
    ):
        model = zoo.many_to_many(zoo.Vectors(3), output, "simple_rnn", 4, name=name)
        outputs[name], outputs[f"{name}_decoded"] = model(x), zoo.decoded(model)(x)
    model = keras.Model(x, outputs)
    assert_exports(model, [X, X[:1, :2]], tmp_path, (["sequence"], sorted(outputs)))
