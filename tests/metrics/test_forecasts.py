"""Coverage, calibration and CRPS, compared with NumPy and with forecasts that are right."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

from kerasrnn.distributions import Mixture, NegativeBinomial, Normal, Point, Quantiles
from kerasrnn.metrics import CRPS, CalibrationError, Coverage
from tests.losses.test_forecasts import MASK, P, Y, masked


@pytest.mark.torch_backend
def test_masks_and_weights():
    """Of two batches, with NaN at masked steps."""
    p, y = np.where(MASK[..., None], P, np.nan), np.where(MASK, Y, np.nan)
    weights = np.array([1.0, 0.0, 2.0, 3.0])
    u = stats.norm.cdf(Y, P[..., 0], P[..., 1])
    total = np.concatenate([MASK * weights[:, None], MASK], axis=None)
    scores = {
        Coverage(Normal(), 0.4): (u > 0.3) & (u <= 0.7),
        CRPS(Normal()): ops.convert_to_numpy(Normal().crps(P, Y[..., None]))[..., 0],
        CalibrationError(Normal(), [0.3]): u <= 0.3,
    }
    for metric, values in scores.items():
        metric.update_state(y, masked(p), weights)
        metric.update_state(y[..., None], masked(p))
        expected = (np.concatenate([values, values], axis=None) * total).sum() / total.sum()
        if isinstance(metric, CalibrationError):
            assert metric.by_level()[0.3] == pytest.approx(expected, rel=1e-5)
            expected = abs(expected - 0.3)
        assert float(metric.result()) == pytest.approx(expected, rel=1e-5)
        metric.reset_state()
        assert float(metric.result()) == 0


def test_right_forecasts_are_calibrated():
    """Of counts, too, which jump over the levels; a forecast that is too narrow is not."""
    random = np.random.default_rng(0)
    ones = np.ones((4000, 1), "float32")
    counts = random.negative_binomial(2, 0.4, (4000, 1))
    flags = np.concatenate([random.normal(size=(4000, 1)), random.random((4000, 1)) < 0.2], axis=1)
    for forecast, p, y in (
        (NegativeBinomial(), np.array([[3.0, 0.5]], "float32") * ones, counts),
        (Mixture(Normal(), 1, 1), np.array([[1.0, 0.0, 1.0, 0.2]], "float32") * ones, flags),
    ):
        coverage, error = Coverage(forecast, 0.8), CalibrationError(forecast)
        coverage.update_state(y, p)
        error.update_state(y, p)
        assert float(coverage.result()) == pytest.approx(0.8, abs=0.02)
        assert float(error.result()) < 0.015
    narrow = Coverage(Normal(), 0.8)
    narrow.update_state(flags[:, :1], np.array([[0.0, 0.5]], "float32") * ones)
    expected = 1 - 2 * stats.norm.cdf(-0.5 * stats.norm.ppf(0.9))
    assert float(narrow.result()) == pytest.approx(expected, abs=0.02)


def test_quantiles_are_read_at_their_levels():
    quantiles = Quantiles((0.1, 0.5, 0.9))
    q = np.array([[-1.0, 0.0, 1.0]] * 4, "float32")
    y = np.array([-2.0, -0.5, 0.5, 3.0])
    coverage, error = Coverage(quantiles, 0.8), CalibrationError(quantiles)
    coverage.update_state(y, q)
    error.update_state(y, q)
    assert float(coverage.result()) == 0.5
    assert error.by_level() == {0.1: 0.25, 0.5: 0.5, 0.9: 0.75}
    assert float(error.result()) == pytest.approx(0.1)
    with pytest.raises(ValueError, match=r"level\) / 2=0.25: expected one of the levels \[0.1"):
        Coverage(quantiles, 0.5)
    with pytest.raises(ValueError, match=r"levels\[0\]=0.3: expected one of the levels"):
        CalibrationError(quantiles, [0.3])


def test_arguments_and_configurations():
    for metric in (CRPS(Normal()), Coverage(Normal(2), 0.5), CalibrationError(Normal(), [0.5])):
        again = keras.metrics.deserialize(keras.metrics.serialize(metric))
        assert again.get_config() == metric.get_config()
    with pytest.raises(ValueError, match=r"level=1\.0: expected a number in"):
        Coverage(Normal(), 1.0)
    with pytest.raises(ValueError, match=r"levels=\[\]: expected at least one probability"):
        CalibrationError(Normal(), [])
    for metric in (Coverage, CalibrationError):
        with pytest.raises(ValueError, match=r"forecast=Point.*: expected a distribution or Q"):
            metric(Point())
    with pytest.raises(ValueError, match="forecast=3: expected a forecast of kerasrnn"):
        CRPS(3)
