"""Missing values."""

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn.keras_internals import get_keras_mask

pytestmark = pytest.mark.torch_backend

NAN = np.nan
X = np.array([[[1.5, NAN], [0.0, -2.0], [NAN, NAN]]], "float32")
EXPECTED = [[[1.5, 0, 0, 1], [0, -2, 0, 0], [0, 0, 1, 1]]]


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_missing_values_are_zero_and_named(policy):
    y = kerasrnn.MissingIndicator(dtype=policy)(X)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(y).astype("float32"), EXPECTED)
    rows = kerasrnn.MissingIndicator(fill_value=4)(X[0])
    filled = [[1.5, 4, 0, 1], [0, -2, 0, 0], [4, 4, 1, 1]]
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(rows), filled)


def test_masks_are_passed_on():
    masked = keras.layers.Masking(7.0)(np.concatenate([X, np.full((1, 1, 2), 7.0)], axis=1))
    y = kerasrnn.MissingIndicator()(masked)
    mask = keras.ops.convert_to_numpy(get_keras_mask(y))
    assert mask.tolist() == [[True, True, True, False]]
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(y)[:, :3], EXPECTED)


def test_features_of_unknown_number():
    with pytest.raises(ValueError, match=r"inputs of the shape \(None, None, None\); expected"):
        kerasrnn.MissingIndicator()(keras.Input((None, None)))
    with pytest.raises(ValueError, match=r"inputs of the shape \(3,\); expected"):
        kerasrnn.MissingIndicator()(X[0, :, 0])
