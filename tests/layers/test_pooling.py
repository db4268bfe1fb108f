"""`SequencePooling` against NumPy, row by row, over the valid steps."""

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn.keras_internals import get_keras_mask
from tests.catalogue import variant_id
from tests.measure import PRECISION, TIGHT, make_mask, randomize


def pooled(layer, steps):
    """One row."""
    if not len(steps):
        return np.zeros(steps.shape[-1])
    if layer.mode != "attention":
        return getattr(steps, layer.mode)(axis=0)
    kernel, bias, context = (np.asarray(weight) for weight in layer.get_weights())
    powers = np.exp(np.tanh(steps @ kernel + bias) @ context)
    return (powers / powers.sum() * steps).sum(axis=0)


@pytest.mark.parametrize(
    ("mode", "units"), [("mean", None), ("max", None), ("attention", None), ("attention", 2)]
)
def test_equals_numpy(mode, units):
    """Masks of every kind, a row without steps, a single step; scores of large values."""
    layer = kerasrnn.SequencePooling(mode, units, dtype=PRECISION)
    layer.build((None, None, 3))
    randomize(layer)
    x = np.random.default_rng(0).standard_normal((4, 6, 3)).astype(PRECISION)
    for kind in ("none", "right", "left", "gapped", "mixed"):
        mask = make_mask(kind, 4, 6)
        used = np.ones((4, 6), bool) if mask is None else mask
        expected = [pooled(layer, row[keep]) for row, keep in zip(x, used, strict=True)]
        np.testing.assert_allclose(layer(x, mask=mask), expected, atol=TIGHT, err_msg=kind)
    np.testing.assert_allclose(layer(x[:, :1]), x[:, 0], atol=TIGHT)
    if mode == "attention":
        kernel, bias, context = layer.get_weights()
        layer.set_weights([1e3 * kernel, bias, 1e3 * context])
        assert np.isfinite(np.asarray(layer(x, mask=make_mask("gapped", 4, 6)))).all()


def test_the_mask_is_used_and_not_passed_on():
    inputs = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(5, 2, mask_zero=True)(inputs)
    y = kerasrnn.SequencePooling("mean")(x)
    model = keras.Model(inputs, [x, y])
    x, y = model(np.array([[1, 2, 0], [3, 0, 0]]))
    np.testing.assert_allclose(y[0], np.asarray(x)[0, :2].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(y[1], x[1, 0], atol=1e-6)
    assert get_keras_mask(y) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sum",), "mode='sum': expected one of 'mean', 'max', 'attention'"),
        (("max", 3), "units=3: expected None with mode='max'"),
        (("attention", 0), "units=0: expected a positive integer or None"),
    ],
    ids=variant_id,
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        kerasrnn.SequencePooling(*arguments)


@pytest.mark.parametrize("mode", ["mean", "max", "attention"])
def test_no_steps_and_no_rows(mode):
    layer = kerasrnn.SequencePooling(mode)
    assert layer(np.ones((0, 2, 3), "float32")).shape == (0, 3)
    with pytest.raises(ValueError, match=r"sequences of shape \(2, 0, 3\) have no steps"):
        layer(np.ones((2, 0, 3), "float32"))
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        call = tf.function(layer, input_signature=[tf.TensorSpec((None, None, 3))])
        np.testing.assert_array_equal(call(np.ones((2, 0, 3), "float32")), np.zeros((2, 3)))
        x = np.arange(12, dtype="float32").reshape(2, 2, 3)
        np.testing.assert_allclose(call(x), layer(x), atol=1e-6)
