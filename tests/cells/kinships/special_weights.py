"""Layers built with special weights, and their outputs."""

import numpy as np

from tests.measure import PRECISION, TIGHT, op_by_op, randomize

UNITS, FEATURES = 4, 3
OPTIONS = {"return_sequences": True, "dtype": PRECISION}
X = np.random.default_rng(0).standard_normal((2, 6, FEATURES)).astype(PRECISION)


def random_weights(layer):
    """The weights of a layer, built with random ones, by their names."""
    layer.build((None, None, FEATURES))
    randomize(layer)
    return {w.name: v for w, v in zip(layer.weights, layer.get_weights(), strict=True)}


def outputs(layer, weights, x=X):
    """The outputs of a layer with these weights."""
    layer.build(x.shape)
    layer.set_weights(list(weights))
    with op_by_op():
        return np.asarray(layer(x))


def assert_close(actual, expected, tolerance=TIGHT):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)
