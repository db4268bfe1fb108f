"""Sparsemax and entmax against a quadratic program, bisection and finite differences."""

import numpy as np
import pytest
from keras import ops
from scipy import optimize

from kerasrnn.attention.normalization import normalized
from tests.measure import FIRST_BACKEND, PRECISION, op_by_op
from tests.oracles.attention import NORMALIZATIONS

SPARSE = ["sparsemax", "entmax"]


@pytest.fixture(autouse=True)
def _op_by_op():
    with op_by_op():
        yield


def weights_of(scores, mask, normalization):
    return ops.convert_to_numpy(
        normalized(ops.convert_to_tensor(scores), ops.convert_to_tensor(mask), normalization)
    )


@pytest.mark.parametrize("normalization", SPARSE)
def test_equals_bisection_on_any_mask(normalization):
    """From equal scores, which share the weight, to scores of which one has all of it."""
    random = np.random.default_rng(0)
    scores = random.standard_normal((40, 7)) * np.geomspace(0.01, 30, 40)[:, None]
    scores[:3] = [[0] * 7, [1, 1, 0, 0, 0, 0, 0], [1e4, 1e4, -1e4, 0, 0, 0, 0]]
    mask = random.random((40, 7)) < 0.8
    mask[3], mask[4] = False, np.arange(7) == 2
    found = weights_of(scores.astype(PRECISION), mask.astype(PRECISION), normalization)
    for row, used, alpha in zip(scores, mask, found, strict=True):
        np.testing.assert_allclose(alpha, NORMALIZATIONS[normalization](row, used), atol=1e-6)
    zeros = (found == 0) & mask
    assert zeros[-10:].any(axis=1).all()


def test_sparsemax_is_the_closest_distribution():
    """A quadratic program: the projection of the scores to the simplex."""
    random = np.random.default_rng(1)
    for scores in random.standard_normal((5, 4)):
        solved = optimize.minimize(
            lambda p, e=scores: ((p - e) ** 2).sum(),
            np.full(4, 0.25),
            bounds=[(0, 1)] * 4,
            constraints={"type": "eq", "fun": lambda p: p.sum() - 1},
            tol=1e-12,
        )
        found = weights_of(scores.astype(PRECISION), np.ones(4, PRECISION), "sparsemax")
        np.testing.assert_allclose(found, solved.x, atol=1e-5)


def test_entmax_maximizes_its_objective():
    """p^T e + H(p), with Tsallis's entropy of 1.5, over the simplex."""
    random = np.random.default_rng(2)
    for scores in random.standard_normal((5, 4)):

        def objective(p, e=scores):
            return -(p @ e + ((p - np.maximum(p, 0) ** 1.5) / (1.5 * 0.5)).sum())

        solved = optimize.minimize(
            objective,
            np.full(4, 0.25),
            bounds=[(0, 1)] * 4,
            constraints={"type": "eq", "fun": lambda p: p.sum() - 1},
            tol=1e-14,
        )
        found = weights_of(scores.astype(PRECISION), np.ones(4, PRECISION), "entmax")
        np.testing.assert_allclose(found, solved.x, atol=1e-4)


@pytest.mark.tensorflow
@pytest.mark.parametrize("normalization", SPARSE)
def test_gradients_equal_finite_differences(normalization):
    import tensorflow as tf

    random = np.random.default_rng(3)
    scores, factors = random.standard_normal((2, 6, 5))
    mask = np.ones((6, 5))
    mask[1, 2] = mask[2, :3] = mask[3] = 0
    x = tf.constant(scores)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(factors * normalized(x, tf.constant(mask), normalization))
    gradient, expected = tape.gradient(loss, x).numpy(), np.zeros((6, 5))
    rule = NORMALIZATIONS[normalization]
    for n, j in np.ndindex(6, 5):
        sides = []
        for step in (1e-5, -1e-5):
            moved = scores[n].copy()
            moved[j] += step
            sides.append(factors[n] @ rule(moved, mask[n] > 0))
        expected[n, j] = (sides[0] - sides[1]) / 2e-5
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


@pytest.mark.skipif(not FIRST_BACKEND, reason="one backend shows it")
@pytest.mark.parametrize("normalization", SPARSE)
def test_half_precision_and_many_positions(normalization):
    scores = np.random.default_rng(4).standard_normal((2, 3000)).astype("float32")
    half = ops.cast(scores, "bfloat16")
    mask = np.ones((2, 3000))
    found = weights_of(half, mask, normalization).astype("float64")
    rounded = ops.convert_to_numpy(ops.cast(half, "float64"))
    for alpha, row in zip(found, rounded, strict=True):
        expected = NORMALIZATIONS[normalization](row, np.ones(3000, bool))
        np.testing.assert_allclose(alpha, expected, atol=4e-3)
