"""Adjacent frames as one step, compared with NumPy."""

import keras
import numpy as np
import pytest
from keras import ops

import kerasrnn


@pytest.mark.torch_backend
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_equals_the_definition(count):
    """With masked frames, even NaN; the mask of a step is that of any of its frames."""
    random = np.random.default_rng(0)
    x = random.standard_normal((3, 5, 2)).astype("float32")
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 1, 0, 1]], bool)
    steps = -(-5 // count)
    expected = np.zeros((3, steps * count, 2))
    expected[:, :5] = np.where(mask[..., None], x, 0)
    valid = np.zeros((3, steps * count), bool)
    valid[:, :5] = mask
    layer = kerasrnn.FrameStacking(count)
    wrong = np.where(mask[..., None], x, np.nan)
    found = ops.convert_to_numpy(layer(wrong, mask=mask))
    np.testing.assert_array_equal(found, expected.reshape(3, steps, 2 * count))
    of_steps = ops.convert_to_numpy(layer.compute_mask(wrong, ops.convert_to_tensor(mask)))
    np.testing.assert_array_equal(of_steps, valid.reshape(3, steps, count).any(axis=2))


def test_in_a_model_of_unknown_length():
    """The mask goes on to the layers after it: the mean is that of the valid steps."""
    x = np.arange(1, 13, dtype="float32").reshape(2, 6, 1)
    x[1, 3:] = 0
    inputs = keras.Input((None, 1))
    y = kerasrnn.FrameStacking(2)(keras.layers.Masking()(inputs))
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling1D()(y))
    assert y.shape == (None, None, 2)
    again = keras.Model.from_config(model.get_config())
    np.testing.assert_allclose(again.predict(x, verbose=0), [[3, 4], [8, 4]])


def test_bad_arguments():
    with pytest.raises(ValueError, match="count=0: expected a positive integer"):
        kerasrnn.FrameStacking(0)
    with pytest.raises(ValueError, match="expected ndim=3"):
        kerasrnn.FrameStacking(2)(np.ones((2, 3)))
