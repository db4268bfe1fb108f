"""What enters and what leaves: the numbers of each end, and what is refused."""

import keras
import numpy as np
import pytest

from kerasrnn import zoo
from kerasrnn.keras_internals import get_keras_mask
from tests import numpy_models
from tests.catalogue import variant_id


def encoded(inputs, x, steps):
    source = inputs.input("x", steps=steps)
    return keras.Model(source, inputs.encode(source, steps=steps)), x


@pytest.mark.parametrize("steps", [False, True])
def test_vectors_are_standardized(steps):
    x = np.random.default_rng(0).normal(size=(2, 5, 3) if steps else (2, 3)).astype("float32")
    inputs = zoo.Vectors(3, mean=[1, 2, 3], std=2.0)
    model, x = encoded(inputs, x, steps)
    np.testing.assert_allclose(model(x), (x - [1, 2, 3]) / 2, atol=1e-6)
    model, x = encoded(zoo.Vectors(3, mean=0.5), x, steps)
    np.testing.assert_allclose(model(x), x - 0.5, atol=1e-6)


def test_padding_of_vectors_is_what_it_is_said_to_be():
    x = np.array([[[0, 0], [0, 1], [-1, -1], [-1, 2]]], "float32")
    for padding, expected in ((0.0, [0, 1, 1, 1]), (-1.0, [1, 1, 0, 1])):
        y = zoo.Vectors(2, padding=padding).encode(keras.ops.convert_to_tensor(x), steps=True)
        assert np.asarray(get_keras_mask(y)).tolist() == [[bool(n) for n in expected]]
    y = zoo.Vectors(2, padding=None).encode(keras.ops.convert_to_tensor(x), steps=True)
    assert get_keras_mask(y) is None


@pytest.mark.parametrize("steps", [False, True])
def test_images_by_hand(steps):
    """A convolution and a maximum written out; a video is its frames."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (6, 7, 6, 2)).astype("float32")
    x = images.reshape(2, 3, 7, 6, 2) if steps else images
    model, x = encoded(zoo.Images((7, 6, 2), filters=(3, 4), units=5), x, steps)
    encoder = model.get_layer("each_frame").layer if steps else model.get_layer("image_encoder")
    expected = numpy_models.convolutional_encoder(encoder, images)
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(np.asarray(model(x)).reshape(6, 5), expected, atol=1e-5)


def test_a_frame_of_padding_is_masked():
    x = np.zeros((1, 3, 2, 2, 1), "float32")
    x[0, 1, 0, 1] = 7
    y = zoo.Images((2, 2, 1), filters=(2,)).encode(keras.ops.convert_to_tensor(x), steps=True)
    assert np.asarray(get_keras_mask(y)).tolist() == [[False, True, False]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: zoo.Vectors(0), "features=0: expected a positive integer"),
        (lambda: zoo.Vectors(2, mean=[1.0]), "mean has 1 number; expected one, or one for each"),
        (lambda: zoo.Vectors(2, mean=float("nan")), "mean=nan: expected a finite number"),
        (lambda: zoo.Vectors(2, std=[1, 0]), "std=0: expected a positive number"),
        (lambda: zoo.Tokens(1), "vocabulary=1: expected at least 2; 0 is padding"),
        (lambda: zoo.Tokens(2.5), r"vocabulary=2\.5: expected a positive integer"),
        (lambda: zoo.Tokens(9, 0), "units=0: expected a positive integer"),
        (lambda: zoo.Images((8, 8)), r"shape=\(8, 8\): expected \(height, width, channels\)"),
        (lambda: zoo.Images((8, 3, 1)), r"expected a height and a width of at least 4"),
        (lambda: zoo.Images((8, 8, 0)), r"shape=\(8, 8, 0\): expected a sequence of positive int"),
        (
            lambda: zoo.Images((8, 8, 1), filters=0),
            "filters=0: expected a sequence of positive int",
        ),
        (lambda: zoo.Vectors(2, padding=float("nan")), "padding=nan: expected a finite number"),
        (lambda: zoo.Vectors(2, mean="01"), "mean='01': expected a number, or one for each"),
        (lambda: zoo.Labels(0), "count=0: expected a positive integer"),
        (lambda: zoo.Classes(True), "count=True: expected a positive integer"),
        (lambda: zoo.MultiLabel(-1), "count=-1: expected a positive integer"),
        (lambda: zoo.one_to_one(zoo.Tokens(9), zoo.Classes(2)), "tokens come in sequences"),
        (lambda: zoo.many_to_one(zoo.Labels(9), zoo.Classes(2)), "a label is a single id"),
        (lambda: zoo.many_to_one(9, zoo.Classes(2)), r"inputs=9: expected zoo\.Vectors, Tokens"),
        (
            lambda: zoo.many_to_one(zoo.Labels(9), 2),
            r"outputs=2: expected zoo\.Classes, MultiLabel",
        ),
    ],
    ids=variant_id,
)
def test_bad_ends(make, message):
    with pytest.raises(ValueError, match=message):
        make()
