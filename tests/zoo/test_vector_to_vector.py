"""`one_to_one`: its values in NumPy, training, exports, errors."""

import numpy as np
import pytest

from kerasrnn import zoo
from tests import numpy_models
from tests.zoo.models import assert_exports, assert_saves, learn


@pytest.mark.parametrize("outputs", [zoo.Classes(3), zoo.MultiLabel(3), zoo.Values(3)], ids=repr)
def test_the_model_is_dense_layers(outputs, tmp_path):
    model = zoo.one_to_one(
        zoo.Vectors(4, mean=0.5), outputs, hidden=(6, 5), activation="tanh", dropout=0.5
    )
    x = np.random.default_rng(0).normal(size=(7, 4)).astype("float32")
    first, second, last = [layer for layer in model.layers if layer.weights]
    h = np.tanh(numpy_models.dense(second, np.tanh(numpy_models.dense(first, x - 0.5))))
    expected = numpy_models.ACTIVATIONS[outputs.kind](numpy_models.dense(last, h))
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, atol=1e-6)
    assert_saves(model, x, tmp_path)


def test_labels_and_images():
    model = zoo.one_to_one(zoo.Labels(5, 3), zoo.Values(2), hidden=())
    (table,) = model.get_layer("embedding").get_weights()
    expected = numpy_models.dense(model.get_layer("values"), table[[4, 0, 4]])
    np.testing.assert_allclose(model(np.array([4, 0, 4])), expected, atol=1e-6)
    x = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 1)).astype("float32")
    model = zoo.one_to_one(zoo.Images((4, 4, 1), (2,), 3), zoo.Classes(2), hidden=())
    h = numpy_models.convolutional_encoder(model.get_layer("image_encoder"), x)
    expected = numpy_models.softmax(numpy_models.dense(model.get_layer("probabilities"), h))
    np.testing.assert_allclose(model(x), expected, atol=1e-5)


@pytest.mark.traced
def test_learning_exclusive_or():
    """No linear model can."""
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], "float32")
    model = zoo.one_to_one(zoo.Vectors(2, mean=0.5), zoo.Classes(2), hidden=(16,))
    assert learn(model, x, np.array([0, 1, 1, 0]), steps=100, rate=0.03) < 0.05


@pytest.mark.tensorflow
@pytest.mark.traced
def test_exports(tmp_path):
    model = zoo.one_to_one(
        zoo.Vectors(4), zoo.MultiLabel(2), (3,), input_name="day", output_name="rain"
    )
    check = [np.random.default_rng(0).normal(size=(n, 4)).astype("float32") for n in (1, 5)]
    assert_exports(model, check, tmp_path, (["day"], ["rain"]))


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"hidden=\(4, 0\): expected a sequence of positive"):
        zoo.one_to_one(zoo.Vectors(2), zoo.Classes(2), hidden=(4, 0))
    with pytest.raises(ValueError, match=r"dropout=1: expected a number in \[0, 1\)"):
        zoo.one_to_one(zoo.Vectors(2), zoo.Classes(2), dropout=1)
