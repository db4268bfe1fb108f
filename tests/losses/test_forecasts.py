"""Losses of forecasts: masks, weights, precision, and targets that are impossible."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

from kerasrnn.distributions import Mixture, NegativeBinomial, Normal, Point, Quantiles
from kerasrnn.keras_internals import set_keras_mask
from kerasrnn.losses import NegativeLogLikelihood, QuantileLoss, StandardizedSquaredError
from kerasrnn.metrics import CRPS
from tests.losses.test_ctc import gradient

MASK = np.array([[1, 1, 1], [0, 1, 0], [0, 0, 0], [1, 0, 1]], bool)
RANDOM = np.random.default_rng(0)
P = np.stack([RANDOM.normal(size=MASK.shape), RANDOM.uniform(0.5, 2, MASK.shape)], axis=-1)
Y = RANDOM.normal(size=MASK.shape)
LOSSES = -stats.norm.logpdf(Y, P[..., 0], P[..., 1])
WEIGHTS = np.array([1.0, 2.0, 3.0, 0.0])


def masked(x, mask=MASK):
    x = ops.convert_to_tensor(x, "float32")
    set_keras_mask(x, ops.convert_to_tensor(mask))
    return x


@pytest.mark.torch_backend
@pytest.mark.gradients
def test_masked_steps_have_no_influence():
    """Nor steps of weight 0: not even NaN, in predictions or targets; their gradient is 0."""
    loss = NegativeLogLikelihood(Normal())
    used = MASK & (WEIGHTS[:, None] > 0)
    p, y = np.where(used[..., None], P, np.nan), np.where(used, Y, np.nan)
    assert float(loss(Y, masked(P))) == pytest.approx(LOSSES[MASK].mean(), rel=1e-5)
    expected = (LOSSES * MASK * WEIGHTS[:, None]).sum() / MASK.sum()
    for weights in (WEIGHTS, WEIGHTS[:, None], np.tile(WEIGHTS[:, None], 3)):
        assert float(loss(y, masked(p), weights)) == pytest.approx(expected, rel=1e-5)
    slopes = gradient(lambda x: loss(y, masked(x), WEIGHTS), p.astype("float32"))
    assert (slopes[~used] == 0).all()
    z = (Y - P[..., 0]) / P[..., 1]
    d_mean = -(z / P[..., 1]) * WEIGHTS[:, None] / MASK.sum()
    np.testing.assert_allclose(slopes[..., 0][used], d_mean[used], rtol=1e-4)


def test_reductions_and_shapes():
    rows = NegativeLogLikelihood(Normal(), reduction=None)(Y[..., None], P)
    np.testing.assert_allclose(rows, LOSSES, rtol=1e-5)
    of_rows = NegativeLogLikelihood(Normal(), reduction="sum")(Y[:, 0], P[:, 0])
    assert float(of_rows) == pytest.approx(LOSSES[:, 0].sum(), rel=1e-5)


def test_weights_and_masks_of_rows_and_steps_with_further_axes():
    """Two rows of two steps, with a forecast of each horizon: rows are not steps."""
    p, y = np.stack([P, P[::-1]])[:, :2], np.stack([Y, Y[::-1]])[:, :2]
    losses = -stats.norm.logpdf(y, p[..., 0], p[..., 1])
    loss = NegativeLogLikelihood(Normal())
    metric = CRPS(Normal())
    scores = ops.convert_to_numpy(Normal().crps(p, y[..., None]))[..., 0]
    for weights in (np.array([2.0, 1.0]), np.array([[2.0], [1.0]]), np.array([[2.0, 1], [0, 3]])):
        all_weights = weights.reshape(2, -1, 1) + 0 * losses
        assert float(loss(y, p, weights)) == pytest.approx((losses * all_weights).mean(), rel=1e-5)
        metric.reset_state()
        metric.update_state(y, p, weights)
        expected = (scores * all_weights).sum() / all_weights.sum()
        assert float(metric.result()) == pytest.approx(expected, rel=1e-5)
    mask = np.array([[True, False], [True, True]])
    assert float(loss(y, masked(p, mask))) == pytest.approx(losses[mask].mean(), rel=1e-5)
    metric.reset_state()
    metric.update_state(y, masked(p, mask))
    assert float(metric.result()) == pytest.approx(scores[mask].mean(), rel=1e-5)
    for wrong in (np.ones(3), np.ones((2, 3)), np.ones(()), np.ones(1)):
        for use in (loss, metric.update_state):
            with pytest.raises(ValueError, match=r"sample_weight of the shape .*: expected that"):
                use(y, p, wrong)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_computed_in_full(dtype):
    p = ops.cast(P, dtype)
    loss = NegativeLogLikelihood(Normal())
    expected = loss(Y, ops.cast(p, "float32"))
    found = loss(Y, p)
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    assert float(found) == float(expected)


def test_of_quantiles_and_of_numbers():
    levels, q = np.array([0.1, 0.5, 0.9]), np.sort(RANDOM.normal(size=(5, 2, 3)), axis=-1)
    y, std = RANDOM.normal(size=(5, 2)), np.array([2.0, 3.0])
    error = y[..., None] - q
    pinball = np.where(error > 0, levels * error, (levels - 1) * error).mean(axis=-1)
    loss = QuantileLoss(Quantiles(tuple(levels), 2, std=std.tolist()))
    found = loss(y, q.reshape(5, 6).astype("float32"))
    assert float(found) == pytest.approx((pinball / std).mean(), rel=1e-5)
    squared = StandardizedSquaredError(Point(2, std=std.tolist()))
    found = squared(y, q[..., 0].astype("float32"))
    assert float(found) == pytest.approx((((y - q[..., 0]) / std) ** 2).mean(), rel=1e-5)


@pytest.mark.parametrize(
    ("forecast", "y", "message"),
    [
        (NegativeBinomial(), [[1], [-2]], r"y_true\[1, 0\]=-2.0: expected counts, integers of at"),
        (NegativeBinomial(), [[0.5], [1]], r"y_true\[0, 0\]=0.5: expected counts"),
        (Normal(), [[1], [np.nan]], r"y_true\[1, 0\]=nan: expected finite numbers"),
        (Mixture(Normal(), 1, 1), [[1, 0.5]] * 2, r"=0.5: expected .* last 1 are 0 or 1"),
        (Normal(2), [[1], [1]], r"y_true of the shape \(2, 1\): expected \(2, 2\)"),
    ],
)
def test_impossible_targets(forecast, y, message):
    p = forecast.parameters(np.zeros((2, forecast.count), "float32"))
    loss = NegativeLogLikelihood(forecast)
    with pytest.raises(ValueError, match=message):
        loss(np.array(y), p)


@pytest.mark.tensorflow
@pytest.mark.parametrize("jit_compile", [False, True])
def test_in_graphs_impossible_targets_are_nan(jit_compile):
    import tensorflow as tf

    loss = NegativeLogLikelihood(NegativeBinomial())
    graph = tf.function(lambda y, p: loss(y, p), jit_compile=jit_compile, autograph=False)
    p = np.array([[2.0, 0.5], [1.0, 0.1]], "float32")
    counts = np.array([[3.0], [0.0]], "float32")
    assert float(graph(counts, p)) == pytest.approx(float(loss(counts, p)), rel=1e-5)
    assert np.isnan(graph(-counts, p))


def test_arguments():
    with pytest.raises(ValueError, match=r"forecast=Point.*: expected a distribution of kerasrnn"):
        NegativeLogLikelihood(Point())
    with pytest.raises(ValueError, match=r"forecast=Normal.*: expected a Quantiles of kerasrnn"):
        QuantileLoss(Normal())
    with pytest.raises(
        ValueError, match=r"y_pred of the shape \(2, 3\): expected .* 2\) for Normal"
    ):
        NegativeLogLikelihood(Normal())(np.zeros(2), np.ones((2, 3)))
    for loss in (NegativeLogLikelihood(Normal(2, 1.0)), QuantileLoss(Quantiles((0.5,)), "sum")):
        again = keras.losses.deserialize(keras.losses.serialize(loss))
        assert again.get_config() == loss.get_config()
        assert again.forecast == loss.forecast
