"""Likelihoods, quantiles, scores and samples of `kerasrnn.distributions`, compared with SciPy."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops
from scipy import integrate, special, stats

from kerasrnn.distributions import Mixture, NegativeBinomial, Normal, Point, Quantiles, StudentT
from tests.losses.test_ctc import gradient
from tests.measure import FIRST_BACKEND

pytestmark = pytest.mark.torch_backend


def in_graph(function):
    """The same function, as a graph on TensorFlow, where loops run by Python are slow."""
    if not FIRST_BACKEND:
        return lambda *x: ops.convert_to_numpy(function(*map(ops.convert_to_tensor, x)))
    import tensorflow as tf

    traced = tf.function(function, autograph=False, reduce_retracing=True)
    return lambda *x: traced(*map(tf.constant, x)).numpy()


def grid(*axes):
    """All combinations: an array for each axis."""
    return np.array(list(itertools.product(*axes)), "float64").T


def float32(*columns):
    return np.stack(columns, axis=-1).astype("float32")


def close(found, expected, rtol=2e-6, atol=2e-6):
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, rtol=rtol, atol=atol)


NU, Z = grid([2.001, 3.0, 10.0, 1e3], [-1e5, -30.0, -3.0, -0.5, 0.0, 1e-4, 0.7, 5.0, 1e6])
MU, ALPHA, Y = grid([1e-3, 0.5, 3.0, 100.0, 1e5], [1e-4, 1e-2, 0.3, 50.0], [0, 1, 2, 10, 1e3, 1e5])


def of_counts(mu, alpha):
    """SciPy's distribution of the numbers that float32 has."""
    mu, r = np.float64(np.float32(mu)), 1 / np.float64(np.float32(alpha))
    return stats.nbinom(r, r / (r + mu))


def of_t(nu):
    return stats.t(np.float64(np.float32(nu)))


def test_normal_likelihood():
    mean, std, y = grid([-3.0, 0.0, 1e3], [1e-6, 0.2, 1.0, 1e6], [-4.0, 0.0, 0.1, 1e4])
    found = Normal().log_prob(float32(mean, std), y[:, None])
    expected = stats.norm.logpdf(y, mean, np.float32(std))
    close(found, expected, rtol=1e-5)
    p = float32([1.0, 0.0], [-2.0, 1.0], [0.5, 2.0], [3.0, 1.0], [-0.9, 0.999])
    y = np.array([[1.5, 2.0], [0.3, 1.4]])
    expected = [
        stats.multivariate_normal.logpdf(
            row, q[:2], [[q[2] ** 2, q[4] * q[2] * q[3]], [q[4] * q[2] * q[3], q[3] ** 2]]
        )
        for row, q in zip(y, p.astype("float64"), strict=True)
    ]
    close(Normal(2, correlated=True).log_prob(p, y), expected, rtol=1e-4)
    independent = stats.norm.logpdf(y, p[:, :2], p[:, 2:4]).sum(axis=1)
    close(Normal(2).log_prob(p[:, :4], y), independent)


def test_t_likelihood():
    p = float32(2.0 + 0 * NU, 0.5 + 0 * NU, NU)
    found = StudentT().log_prob(p, (2 + Z / 2)[:, None])
    close(found, of_t(NU).logpdf(Z) - np.log(0.5), rtol=2e-6)
    # z^2 is not a number of float32.
    far = StudentT().log_prob(float32([0.0], [1e-3], [3.0]), np.array([[1e20]], "float32"))
    close(far, stats.t.logpdf(np.float64(np.float32(1e20)), 3, scale=1e-3), rtol=1e-5)


def test_likelihood_of_counts():
    found = NegativeBinomial().log_prob(float32(MU, ALPHA), Y[:, None])
    close(found, of_counts(MU, ALPHA).logpmf(Y), rtol=2e-6, atol=5e-6)
    wrong = np.array([[-1.0], [0.5], [np.nan], [np.inf]])
    close(NegativeBinomial().log_prob(np.ones((4, 2), "float32"), wrong), np.nan)


@pytest.mark.traced
def test_distribution_functions_of_counts_and_of_t():
    for distribution, p, y, expected in (
        (NegativeBinomial(), float32(MU, ALPHA), Y, of_counts(MU, ALPHA)),
        (StudentT(), float32(0 * NU, 1 + 0 * NU, NU), Z, of_t(NU)),
    ):
        found = in_graph(distribution.cdf)(p, y[:, None])[:, 0]
        close(found, expected.cdf(y), rtol=0, atol=1e-4)
        for level in (0.01, 0.9):
            found = in_graph(lambda p, d=distribution, q=level: d.quantile(p, q))(p)[:, 0]
            if distribution.discrete:  # as many digits as the distribution function has
                close(expected.cdf(found), np.maximum(expected.cdf(found), level), atol=5e-4)
                assert (expected.cdf(found - 1) <= level + 5e-4).all()
            else:
                close(found, expected.ppf(level), rtol=1e-4)


@pytest.mark.traced
def test_tails_have_their_digits():
    """Relative errors of small probabilities, and quantiles of levels near 0 and 1."""
    nu, z = grid([2.001, 10.0, 30.0, 100.0, 1e3], [-10.0, -5.0, -4.5, -4.0, -2.0])
    found = in_graph(StudentT().cdf)(float32(0 * nu, 1 + 0 * nu, nu), float32(z))[:, 0]
    close(found, of_t(nu).cdf(z), rtol=1e-4, atol=0)
    nu = np.array([2.5, 30.0, 1e3])
    p = float32(0 * nu, 1 + 0 * nu, nu)
    for level in (1e-6, 1 - 1e-6):
        found = in_graph(lambda p, q=level: StudentT().quantile(p, q))(p)
        close(found[:, 0], of_t(nu).ppf(level), rtol=1e-4)
    mu = np.array([3.0, 1.0, 1e6, 1e6, 1e-6])
    alpha = np.array([0.5, 1e3, 1e3, 1e-6, 1.0])
    for level in (1e-6, 1 - 1e-6):
        found = in_graph(lambda p, q=level: NegativeBinomial().quantile(p, q))(float32(mu, alpha))
        close(found[:, 0], of_counts(mu, alpha).ppf(level), rtol=1e-4, atol=0)


@pytest.mark.traced
def test_numbers_of_float64_are_computed_as_such():
    """NumPy's default, which TensorFlow does not mix with float32."""
    p, y = np.array([[0.5, 2.0, 3.0]]), np.array([[1.5]])
    for distribution, q, expected in (
        (StudentT(), p, stats.t(3, 0.5, 2)),
        (NegativeBinomial(), p[:, :2], stats.nbinom(0.5, 0.5)),
    ):
        close(distribution.cdf(q, y), [[expected.cdf(1.5)]], rtol=1e-5)
        assert distribution.sample(q, 3, seed=0).shape == (3, 1, 1)
        found = distribution.crps(q, np.ones((1, 1)))
        close(found, distribution.crps(q.astype("float32"), np.ones((1, 1))), rtol=1e-5)


def test_components_far_from_each_other():
    """Of weights that are hardly or not at all above 0, and at distances of many scales."""
    mixture = Mixture(Normal(), 2)
    p = float32([1.0, 1.0, 0.5], [0.0, 1e-20, 0.5], [0.0, 0.0, -1e20], [1.0, 1.0, 1.0])
    p = np.concatenate([p, float32([20.0, 100.0, 1.0], [1.0, 1.0, 1.0])], axis=1)
    expected = [stats.norm.logpdf(20.0), np.log(1e-20) + stats.norm.logpdf(0), np.log(0.5)]
    expected[2] += stats.norm.logpdf(0)
    close(mixture.log_prob(p, np.array([[20.0], [100.0], [1.0]])), expected, rtol=1e-5)
    p[0, 4], p[1, 1], p[1, 4] = 1e30, 1e-6, 1e12
    found = ops.convert_to_numpy(mixture.quantile(p, 0.9))[:, 0]
    close(found, [stats.norm.ppf(0.9), stats.norm.ppf(0.9), 1 + stats.norm.ppf(0.8)], rtol=1e-5)


def test_flags_that_are_certain():
    """A probability of 1 - 1e-9 is 1 in float32, and the other value not impossible."""
    mixture = Mixture(Normal(), 1, flags=1)
    p = mixture.parameters(float32([0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [10.0, 20.0]))
    right = mixture.log_prob(p, np.array([[0.0, 0.0]] * 2))
    other = mixture.log_prob(p, np.array([[0.0, 1.0]] * 2))
    found = ops.convert_to_numpy(right - other)
    close(found[0], -10, rtol=0.01)
    assert -20 < found[1] < -16


def test_targets_without_their_axis():
    """They would be broadcast to each other's parameters."""
    p, y = np.ones((3, 2), "float32"), np.ones(3)
    for forecast in (Normal(), NegativeBinomial(), Quantiles((0.1, 0.5)), Point(2)):
        with pytest.raises(ValueError, match=r"targets of the shape \(3,\): expected \(3, [12]\)"):
            forecast.crps(p, y)
    with pytest.raises(ValueError, match=r"targets of the shape \(2, 1\): expected \(3, 1\)"):
        Normal().log_prob(p, y[:2, None])
    # Samples have further axes.
    samples = Normal().sample(p, 5, seed=0)
    assert Normal().log_prob(p, samples).shape == (5, 3)


@pytest.mark.traced
def test_scores_equal_the_integral():
    def of_numbers(cdf, y, ends):
        parts = [integrate.quad(lambda x: cdf(x) ** 2, ends[0], y, limit=200)[0]]
        parts.append(integrate.quad(lambda x: (cdf(x) - 1) ** 2, y, ends[1], limit=200)[0])
        return sum(parts)

    nu, z = grid([2.001, 4.0, 200.0], [-3.0, 0.2, 6.0])
    found = in_graph(StudentT().crps)(float32(1 + 0 * nu, 2 + 0 * nu, nu), (1 + 2 * z)[:, None])
    expected = [
        2 * of_numbers(of_t(n).cdf, y, (-np.inf, np.inf)) for n, y in zip(nu, z, strict=True)
    ]
    close(found[:, 0], expected, rtol=1e-5)

    mu, alpha = np.array([0.01, 3.0, 3.0, 400.0, 400.0]), np.array([1e-3, 0.5, 20.0, 1e-5, 2.0])
    of_counts_crps = in_graph(NegativeBinomial().crps)
    rows = [of_counts(*row) for row in zip(mu, alpha, strict=True)]
    counts = [np.arange(row.ppf(1 - 1e-10) + 2) for row in rows]
    cdfs = [row.cdf(k) for row, k in zip(rows, counts, strict=True)]
    for quantile in (0.02, 0.5, 0.99):
        y = np.array([row.ppf(quantile) for row in rows])
        found = of_counts_crps(float32(mu, alpha), y[:, None])[:, 0]
        for n, row in enumerate(rows):
            steps = cdfs[n] - (counts[n] >= y[n])
            close(found[n], np.square(steps).sum(), rtol=0, atol=1e-4 * row.std())

    close(Normal().crps(float32([1.0], [2.0]), [[3.0]]), 2 * of_numbers(stats.norm.cdf, 1, (-9, 9)))
    p = float32([0.3], [0.7], [-1.0], [0.5], [2.0], [1.0], [0.8])
    found = Mixture(Normal(), 2, flags=1).crps(p, [[0.4, 1.0]])

    def cdf(x):
        return 0.3 * stats.norm.cdf(x, -1, 0.5) + 0.7 * stats.norm.cdf(x, 2, 1)

    close(found, [[of_numbers(cdf, 0.4, (-9, 9)), 0.2**2]], rtol=1e-5)


PEN = Mixture(Normal(2, correlated=True), 3, flags=1)


def pen_of(raw):
    """What the parameters are, in NumPy."""
    w = np.exp(raw[:3]) / np.exp(raw[:3]).sum()
    each = raw[3:18].reshape(3, 5)
    std = np.log1p(np.exp(each[:, 2:4])) + 1e-6
    return w, each[:, :2], std, (1 - 1e-4) * np.tanh(each[:, 4]), 1 / (1 + np.exp(-raw[18]))


def test_mixture_with_a_pen():
    raw = np.random.default_rng(0).normal(size=(4, 19))
    y = np.concatenate([np.random.default_rng(1).normal(size=(4, 2)), [[0], [1], [1], [0]]], axis=1)
    found = PEN.parameters(raw.astype("float32"))
    for n, row in enumerate(raw):
        w, mean, std, rho, q = pen_of(row)
        expected = [w, np.concatenate([mean, std, rho[:, None]], axis=1).ravel(), [q]]
        close(found[n], np.concatenate(expected), rtol=1e-5)
        density = 0
        for k in range(3):
            both = rho[k] * std[k].prod()
            cov = [[std[k, 0] ** 2, both], [both, std[k, 1] ** 2]]
            density += w[k] * stats.multivariate_normal.pdf(y[n, :2], mean[k], cov)
        expected = np.log(density) + np.log(q if y[n, 2] else 1 - q)
        close(PEN.log_prob(found, y)[n], expected, rtol=1e-5, atol=1e-5)
        close(PEN.point(found)[n], [*(w @ mean), q], rtol=1e-5)
        cdf = [(w * stats.norm.cdf(y[n, k], mean[:, k], std[:, k])).sum() for k in (0, 1)]
        close(PEN.cdf(found, y)[n, :2], cdf, rtol=1e-5)
    for level in (0.05, 0.5):
        there = PEN.quantile(found, level)
        close(PEN.cdf(found, there)[:, :2], level, rtol=1e-5)
    close(PEN.log_prob(found, np.full((4, 3), 0.5)), np.nan)


def test_quantiles_do_not_cross():
    quantiles = Quantiles((0.1, 0.4, 0.6, 0.9), size=2, mean=[5.0, 0.0], std=[2.0, 1.0])
    raw = np.random.default_rng(0).normal(size=(3, 8)).astype("float32") * 5
    found = ops.convert_to_numpy(quantiles.parameters(raw)).reshape(3, 2, 4)
    steps = np.log1p(np.exp(raw.reshape(3, 2, 4)))
    center = raw.reshape(3, 2, 4)[..., 2]
    below = center - steps[..., 1]
    expected = np.stack(
        [below - steps[..., 0], below, center, center + steps[..., 3]],
        axis=-1,
    )
    expected = np.array([5.0, 0.0])[:, None] + np.array([2.0, 1.0])[:, None] * expected
    close(found, expected, rtol=1e-5)
    assert (np.diff(quantiles.parameters(1e30 * raw)[..., :4], axis=-1) >= 0).all()
    close(quantiles.point(found.reshape(3, 8)), found[..., 1])
    near = Quantiles((1e-7, 2e-7, 0.5))
    p, y = np.array([[1.0, 3.0, 4.0]]), np.array([[2.0]])
    assert [float(near.below(p, y, level)[0, 0]) for level in near.levels] == [0, 1, 1]
    close(quantiles.quantile(found.reshape(3, 8), 0.9), found[..., 3])


# Units, gradients, samples.

CONTINUOUS = [Normal(1, 7.0, 3.0), StudentT(1, 7.0, 3.0), Mixture(Normal(1, 7.0, 3.0), 2)]


@pytest.mark.parametrize("scaled", CONTINUOUS, ids=lambda d: type(d).__name__)
def test_units_move_and_stretch_a_distribution(scaled):
    inner = Normal() if isinstance(scaled, Mixture) else None
    plain = Mixture(inner, 2) if inner else type(scaled)()
    raw = np.random.default_rng(0).normal(size=(5, plain.count)).astype("float32")
    y = np.random.default_rng(1).normal(size=(5, 1))
    found = scaled.log_prob(scaled.parameters(raw), 7 + 3 * y)
    expected = ops.convert_to_numpy(plain.log_prob(plain.parameters(raw), y)) - np.log(3)
    close(found, expected, rtol=1e-5, atol=1e-5)
    close(scaled.standardized(ops.convert_to_tensor(7 + 3 * y, "float32")), y, atol=1e-5)


@pytest.mark.gradients
@pytest.mark.parametrize(
    ("distribution", "y"),
    [
        (Normal(), [[0.3], [-2.0], [5.0]]),
        (Normal(2, correlated=True), [[0.3, 0.1], [-2.0, 1.0], [0.0, 5.0]]),
        (StudentT(), [[0.3], [-2.0], [5.0]]),
        (NegativeBinomial(mean=3.0), [[0], [2], [40]]),
        (PEN, [[0.3, 0.1, 0], [-2.0, 1.0, 1], [0.0, 5.0, 1]]),
    ],
    ids=lambda x: type(x).__name__,
)
def test_gradients(distribution, y):
    """Equal to the differences of the likelihood, and finite anywhere."""
    y = np.array(y, "float32")
    raw = np.random.default_rng(2).normal(size=(3, distribution.count))

    def total(x):
        return ops.sum(distribution.log_prob(distribution.parameters(x), y))

    found = gradient(total, raw.astype("float32"))
    precision, step = ("float64", 1e-5) if FIRST_BACKEND else ("float32", 1e-2)

    def value(x):
        p = distribution.parameters(ops.convert_to_tensor(x.astype(precision)))
        return float(ops.convert_to_numpy(ops.sum(distribution.log_prob(p, y))))

    for _ in range(3):
        direction = np.random.default_rng(3).normal(size=raw.shape)
        slope = (value(raw + step * direction) - value(raw - step * direction)) / (2 * step)
        tolerance = 2e-5 if FIRST_BACKEND else 2e-2
        assert (found * direction).sum() == pytest.approx(slope, rel=tolerance, abs=tolerance)
    for size in (-1e4, -80.0, 0.0, 80.0, 1e4):
        extreme = np.full((3, distribution.count), size, "float32")
        if size == 0:
            extreme[:] = 1e4 * np.sign(raw)
        assert np.isfinite(gradient(total, extreme)).all(), size


@pytest.mark.traced
@pytest.mark.parametrize(
    ("distribution", "p", "marginals"),
    [
        (Normal(), [1.0, 2.0], [stats.norm(1, 2).cdf]),
        (
            Normal(2, correlated=True),
            [1.0, -1.0, 2.0, 0.5, 0.8],
            [stats.norm(1, 2).cdf, stats.norm(-1, 0.5).cdf],
        ),
        (StudentT(), [1.0, 2.0, 2.5], [stats.t(2.5, 1, 2).cdf]),
        (
            Mixture(Normal(), 2, flags=1),
            [0.3, 0.7, -1.0, 0.5, 2.0, 1.0, 0.8],
            [lambda x: 0.3 * stats.norm.cdf(x, -1, 0.5) + 0.7 * stats.norm.cdf(x, 2, 1)],
        ),
    ],
    ids=["normal", "correlated", "t", "mixture"],
)
def test_samples_follow_the_distribution(distribution, p, marginals):
    p = np.array([p, p], "float32")
    y = ops.convert_to_numpy(distribution.sample(p, n=2000, seed=3))
    assert y.shape == (2000, 2, distribution.size)
    again = ops.convert_to_numpy(distribution.sample(p, n=2000, seed=3))
    np.testing.assert_array_equal(y, again)
    assert (y[:, 0] != y[:, 1]).any()
    for k, cdf in enumerate(marginals):
        assert stats.kstest(y[..., k].ravel(), cdf).pvalue > 0.01
    if isinstance(distribution, Mixture):
        assert set(np.unique(y[..., 1])) == {0, 1}
        assert y[..., 1].mean() == pytest.approx(0.8, abs=0.02)
    elif distribution.size == 2:
        assert np.corrcoef(y.reshape(-1, 2).T)[0, 1] == pytest.approx(0.8, abs=0.02)


@pytest.mark.traced
def test_counts_are_drawn_by_their_quantiles():
    u = np.array([[0.0], [0.3], [0.9], [0.9999]], "float32")
    found = in_graph(NegativeBinomial().draw)(np.array([[3.0, 0.5]] * 4, "float32"), u)
    np.testing.assert_array_equal(found[1:, 0], stats.nbinom(2, 0.4).ppf(u[1:, 0]))
    assert found[0, 0] == 0


def test_bias_of_samples():
    """Graves (2013): smaller scales, and more weight for large weights."""
    p = np.array([[0.2, 0.8, 0.0, 1.0, 1.0, 2.0]], "float32")
    found = Mixture(Normal(), 2).sharpened(p, 1.0)
    w = np.array([0.2, 0.8]) ** 2
    close(found, [[*(w / w.sum()), 0, np.exp(-1), 1, 2 * np.exp(-1)]], rtol=1e-5)
    with pytest.raises(ValueError, match=r"bias=1\.0: expected 0 for NegativeBinomial"):
        NegativeBinomial().sharpened(p[:, :2], 1.0)


@pytest.mark.parametrize(
    "forecast",
    [
        *(Normal(2, [1.0, 2.0], 3.0, True), PEN, StudentT(2), NegativeBinomial(1, 4.0)),
        *(Quantiles((0.1, 0.9)), Point(2, 1.0)),
    ],
    ids=lambda d: type(d).__name__,
)
def test_forecasts_are_saved(forecast):
    config = keras.saving.serialize_keras_object(forecast)
    assert keras.saving.deserialize_keras_object(config) == forecast


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Normal(0), "size=0: expected a positive integer"),
        (lambda: Normal(3, correlated=True), "correlated=True: expected False for size=3"),
        (
            lambda: Normal(2, mean=[1.0]),
            "mean has 1 number: expected one, or one for each of the 2",
        ),
        (lambda: StudentT(std=0.0), "std=0.0: expected a positive number"),
        (lambda: NegativeBinomial(mean=-1.0), "mean=-1.0: expected a positive number"),
        (lambda: Quantiles((0.5, 0.5)), r"levels=\(0.5, 0.5\): expected increasing prob"),
        (lambda: Quantiles(0.5), "levels=0.5: expected increasing prob"),
        (lambda: Quantiles((0.0, 0.5)), r"levels\[0\]=0.0: expected a number in \(0, 1\)"),
        (lambda: Mixture(StudentT(), 2), "component=StudentT.*: expected a .*Normal"),
        (lambda: Normal().quantile(np.ones((1, 2)), 1.0), r"p=1.0: expected a number in \(0, 1\)"),
        (
            lambda: Normal().split(np.ones((1, 3))),
            r"expected \(..., 2\) for Normal.*mean \(1\), st",
        ),
        (lambda: Normal().sample(np.ones((1, 2)), 0), "n=0: expected a positive integer"),
        (lambda: Normal().sample(np.ones((1, 3)), 2), r"shape \(1, 3\): expected \(..., 2\)"),
        (lambda: Point().parameters(np.ones((1, 3))), r"shape \(1, 3\): expected \(..., 1\)"),
        (lambda: Quantiles((0.1,)).parameters(np.ones((1, 3))), r"\(1, 3\): expected \(..., 1\)"),
        (lambda: Quantiles((0.1,)).quantile(np.ones((1, 1)), 0.5), r"p=0.5: .*levels \[0.1\]"),
        (lambda: Quantiles((0.1,)).below(np.ones((1, 1)), np.ones((1, 1)), 0.5), r"levels \[0.1\]"),
    ],
)
def test_invalid_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_log_gamma_of_tiny_and_large_numbers():
    from kerasrnn.distributions.special import log_gamma_step, stirling_error

    x = np.array([1e-10, 1e-3, 0.5, 1.0, 7.3, 100.0, 1e4], "float32")
    wide = x.astype("float64")
    expected = special.gammaln(wide + 1) - (wide + 0.5) * np.log(wide) + wide
    x = ops.convert_to_tensor(x)
    close(stirling_error(x), expected - 0.5 * np.log(2 * np.pi))
    close(log_gamma_step(x), special.gammaln(wide + 0.5) - special.gammaln(wide), rtol=1e-6)
