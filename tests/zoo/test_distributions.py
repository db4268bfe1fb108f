"""Outputs that are distributions: trained, saved, decoded, sampled and exported."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasrnn
from kerasrnn import zoo
from tests.measure import op_by_op, randomize
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
    # A decoder reads 100,000, which float16 does not have.
    model = zoo.next_step(zoo.Normal(1, 1e5, 100.0), "gru", 4)
    prompt = np.array([[[1e5], [100_050.0]], [[1e5], [99_900.0]]])
    found = ops.convert_to_numpy(zoo.generator(model, max_length=1)(prompt))
    expected = ops.convert_to_numpy(model(prompt))[:, -1:, :1]
    assert found.dtype == expected.dtype == "float32"
    np.testing.assert_allclose(found, expected, atol=1)
    assert 1 < np.abs(expected - 1e5).max() < 1000


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


# Decoders, which read their own outputs.

UNITS = {"mean": [100.0, -5.0], "std": [20.0, 0.5]}
MEAN, STD = np.array(UNITS["mean"]), np.array(UNITS["std"])
FRAMES = np.random.default_rng(0).normal(size=(2, 3, 2))


def test_values_in_their_units_equal_standardized_ones(tmp_path):
    """The same network, in other units: its outputs, its loss, and what it generates."""
    plain = zoo.next_step(zoo.Values(2), "gru", 4, skip=True)
    scaled = zoo.next_step(zoo.Values(2, **UNITS), "gru", 4, skip=True)
    scaled.set_weights(plain.get_weights())
    given = MEAN + STD * FRAMES
    np.testing.assert_allclose(scaled(given), MEAN + STD * plain(FRAMES), rtol=1e-5)
    for model in (plain, scaled):
        compiled(model)
    y = np.roll(FRAMES, -1, axis=1)
    expected = plain.evaluate(FRAMES, y, verbose=0)
    again = loaded(scaled, tmp_path)
    assert again.output_type == zoo.Values(2, **UNITS)
    assert again.evaluate(given, MEAN + STD * y, verbose=0) == pytest.approx(expected, rel=1e-4)
    found = zoo.generator(again, max_length=3)(given)
    np.testing.assert_allclose(found, MEAN + STD * zoo.generator(plain, max_length=3)(FRAMES), 1e-4)
    step = zoo.encoder_and_step(again).step
    states = [np.zeros((2, *x.shape[1:])) for x in step.inputs[1:]]
    np.testing.assert_allclose(step([given[:, 0], *states])[0], scaled(given)[:, 0], rtol=1e-5)


def test_feedback_and_vectors_in_their_units():
    """What is fed back is standardized."""
    for feedback in (True, False):
        make = lambda output, f=feedback: zoo.many_to_many(  # noqa: E731
            zoo.Vectors(3, padding=None), output, "gru", 4, feedback=f
        )
        plain, scaled = make(zoo.Values(2)), make(zoo.Values(2, **UNITS))
        scaled.set_weights(plain.get_weights())
        np.testing.assert_allclose(scaled(X), MEAN + STD * plain(X), rtol=1e-5)
        assert scaled.output_names == ["values"]


@op_by_op()
def test_medians(tmp_path):
    """As the point forecast of a model, after loading, too: those of scipy."""
    counts = zoo.NegativeBinomial(1, mean=7.0, point_of="median")
    mixture = zoo.Mixture(zoo.Normal(1, 3.0, 2.0), 2, flags=1, point_of="median")
    for outputs in (counts, mixture):
        model = zoo.many_to_one(zoo.Vectors(3), outputs, "gru", 4)
        randomize(model)
        decoder = zoo.decoded(model)
        p = np.asarray(model(X), "float64")
        found = np.asarray(decoder(X))
        decoder.save(tmp_path / "median.keras")
        again = keras.saving.load_model(tmp_path / "median.keras")
        np.testing.assert_array_equal(again(X), found)
        for row, point in zip(p, found, strict=True):
            if outputs is counts:
                mean, r = row[0], 1 / row[1]
                assert point[0] == stats.nbinom.median(r, r / (r + mean))
                continue
            w, at, std = row[:2], row[2:6:2], row[3:6:2]
            below = (w * stats.norm.cdf(point[0], at, std)).sum()
            np.testing.assert_allclose(below, 0.5, atol=1e-4)
            np.testing.assert_allclose(point[1], row[6], rtol=1e-5)
    with pytest.raises(ValueError, match="point_of='mode': expected"):
        zoo.NegativeBinomial(1, point_of="mode")


@pytest.mark.parametrize(
    "outputs", [zoo.Normal(2, **UNITS), zoo.Mixture(zoo.Normal(1, 3.0, 2.0), 2, flags=1)], ids=repr
)
def test_generators_read_their_samples(outputs, tmp_path):
    """Their log-likelihood is that of the model that reads the same frames."""
    model = zoo.next_step(outputs, "gru", 4)
    prompt = FRAMES if isinstance(outputs, zoo.Mixture) else MEAN + STD * FRAMES
    options = {"max_length": 4, "seed": 1, "return_log_probabilities": True}
    writer = zoo.generator(model, kerasrnn.decoding.Draw(), **options)
    y, log_p = map(ops.convert_to_numpy, writer(prompt))
    read = np.concatenate([prompt, y[:, :-1]], axis=1)
    p = ops.convert_to_numpy(model(read))[:, 2:]
    if isinstance(outputs, zoo.Normal):
        expected = stats.norm.logpdf(y, p[..., :2], p[..., 2:]).sum(axis=-1)
        assert np.abs((y - p[..., :2]) / p[..., 2:]).max() < 6
    else:
        w, mean, std, q = p[..., :2], p[..., 2:6:2], p[..., 3:6:2], p[..., 6]
        assert set(np.unique(y[..., 1])) <= {0, 1}
        density = (w * stats.norm.pdf(y[..., :1], mean, std)).sum(axis=-1)
        expected = np.log(density) + np.log(np.where(y[..., 1] == 1, q, 1 - q))
    np.testing.assert_allclose(log_p, expected, rtol=1e-3, atol=1e-4)
    writer.save(tmp_path / "writer.keras")
    again = keras.saving.load_model(tmp_path / "writer.keras", safe_mode=True)
    np.testing.assert_array_equal(again(prompt)[0].shape, y.shape)
    forecast = ops.convert_to_numpy(zoo.generator(model, max_length=2)(prompt))
    read = np.concatenate([prompt, forecast[:, :1]], axis=1)
    points = ops.convert_to_numpy(outputs.forecast.point(model(read)))[:, 2:]
    np.testing.assert_allclose(forecast, points, rtol=1e-4, atol=1e-5)


def test_one_to_many_and_encoder_decoder(tmp_path):
    """Trained, loaded, and read with attention."""
    normal = zoo.Normal(1, mean=50.0, std=3.0)
    previous, y = np.full((4, 2, 1), 50.0), np.full((4, 2, 1), 52.0)
    for model, x in (
        (zoo.one_to_many(zoo.Vectors(3), normal, "every", "gru", 4), X[:, 0]),
        (zoo.encoder_decoder(zoo.Vectors(3), normal, "both", "gru", 4, attention="luong"), X),
    ):
        compiled(model)
        losses = model.fit([x, previous], y, epochs=3, verbose=0).history["loss"]
        assert losses[-1] < losses[0]
        writer = zoo.generator(model, max_length=2, start=50.0)
        found = ops.convert_to_numpy(writer(x))
        read = np.concatenate([previous[:, :1], found[:, :1]], axis=1)
        expected = ops.convert_to_numpy(model([x, read]))[..., :1]
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_decoders_refuse_what_does_not_fit():
    normal = kerasrnn.distributions.Normal()
    for arguments, message in (
        ({"size": 2, "kind": "values"}, r"forecast=Normal.*: expected a forecast of .* of size 2"),
        ({"size": 1, "kind": "flags"}, r"forecast=Normal.*: expected None with kind='flags'"),
    ):
        with pytest.raises(ValueError, match=message):
            kerasrnn.Decoder(layers=[kerasrnn.GRU(2)], forecast=normal, **arguments)
    model = zoo.next_step(zoo.Values(1, mean=3.0), "gru", 2)
    with pytest.raises(ValueError, match=r"sampler=Draw.*: the decoder predicts no distribution"):
        zoo.generator(model, kerasrnn.decoding.Draw())
