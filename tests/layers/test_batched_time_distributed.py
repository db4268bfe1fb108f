"""`BatchedTimeDistributed` applies a layer to all steps at once."""

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn.keras_internals import get_keras_mask


def test_equals_the_layer_at_every_step(tmp_path):
    """Any layer, any number of steps; saved and loaded."""
    inputs = keras.Input((None, 2, 3))
    encoder = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(4, "tanh")])
    layer = kerasrnn.BatchedTimeDistributed(encoder)
    model = keras.Model(inputs, layer(inputs))
    x = np.random.default_rng(0).standard_normal((2, 5, 2, 3)).astype("float32")
    x[0, 3] = 0
    y = model(x)
    kernel, bias = layer.get_weights()
    np.testing.assert_allclose(y, np.tanh(x.reshape(2, 5, 6) @ kernel + bias), atol=1e-6)
    np.testing.assert_array_equal(get_keras_mask(y), x.any(axis=(2, 3)))
    assert model.output_shape == (None, None, 4)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x[:, :2]), model(x[:, :2]))


def test_masks():
    """Computed from padding, or passed with the inputs."""
    x = np.ones((2, 3, 2, 2), "float32")
    x[0, 1] = 0
    x[1, 2, 0, 0] = 0
    given = np.array([[True, True, True], [False, True, True]])
    for padding, expected in ((0.0, [[1, 0, 1], [0, 1, 1]]), (None, given.tolist())):
        layer = kerasrnn.BatchedTimeDistributed(keras.layers.Flatten(), padding)
        mask = layer.compute_mask(x, given)
        assert np.asarray(mask).tolist() == [[bool(n) for n in row] for row in expected]
    assert kerasrnn.BatchedTimeDistributed(keras.layers.Flatten(), None).compute_mask(x) is None


def test_training_is_passed_to_the_layer():
    layer = kerasrnn.BatchedTimeDistributed(keras.layers.Dropout(0.5, seed=1))
    x = np.ones((2, 3, 50), "float32")
    np.testing.assert_array_equal(layer(x), x)
    assert set(np.unique(np.asarray(layer(x, training=True)))) == {0.0, 2.0}


def test_bad_arguments():
    with pytest.raises(ValueError, match="layer='conv': expected a Keras layer"):
        kerasrnn.BatchedTimeDistributed("conv")
    with pytest.raises(ValueError, match="expected min_ndim=3"):
        kerasrnn.BatchedTimeDistributed(keras.layers.Flatten())(np.ones((2, 3)))
