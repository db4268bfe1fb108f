"""`Bidirectional` and `StackedRNN` in graphs; elsewhere they run operation by operation.

They have no loops of their own: the loops of their layers are traced in `tests/cells`.
"""

import keras
import numpy as np
import pytest

import kerasrnn
from tests.measure import (
    PRECISION,
    TIGHT,
    assert_same,
    make_mask,
    measure,
    op_by_op,
    randomize,
    to_list,
)


def sequences(dtype="float32"):
    return np.random.default_rng(0).standard_normal((4, 6, 3)).astype(dtype)


def residual_stack(dtype="float32", **options):
    """The input of the last layer is added to the only vector that it returns."""
    both = kerasrnn.Bidirectional(kerasrnn.SimpleRNN(2, dtype=dtype), dtype=dtype)
    layers = [both, kerasrnn.SimpleRNN(4, dtype=dtype)]
    stack = kerasrnn.StackedRNN(layers, residual=True, dtype=dtype, **options)
    stack.build((None, None, 3))
    randomize(stack)
    return stack


def test_eager_calls_compile_the_loops_of_the_layers():
    """Outputs, states and gradients of training are the same, operation by operation."""
    stack, x = residual_stack(PRECISION, return_state=True), sequences(PRECISION)
    mask = make_mask("mixed", 4, 6)
    with op_by_op():
        expected = measure(stack, x, mask=mask, training=True)
    assert_same(measure(stack, x, mask=mask, training=True), expected, TIGHT)


def test_unknown_batch_and_time(tmp_path):
    """A functional model, its symbolic shapes, and the same model loaded from a file."""
    options = {"return_sequences": True, "return_state": True}
    layers = [
        kerasrnn.Bidirectional(kerasrnn.LSTM(5, **options)),
        kerasrnn.Bidirectional(kerasrnn.SimpleRNN(5, return_state=True)),
        kerasrnn.StackedRNN(
            [kerasrnn.Bidirectional(kerasrnn.SimpleRNN(2)), kerasrnn.GRU(4)], return_sequences=True
        ),
        kerasrnn.StackedRNN(
            [kerasrnn.SimpleRNN(4), kerasrnn.SimpleRNN(4)], residual=True, return_state=True
        ),
    ]
    inputs = keras.Input((None, 3))
    model = keras.Model(inputs, keras.tree.flatten([layer(inputs) for layer in layers]))
    states = [(None, 5)] * 4, [(None, 5)] * 2, [], [(None, 4)] * 2
    outputs = (None, None, 10), (None, 10), (None, None, 4), (None, 4)
    expected = [
        shape
        for output, of_layer in zip(outputs, states, strict=True)
        for shape in (output, *of_layer)
    ]
    assert list(model.output_shape) == expected
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    for batch, time in ((4, 6), (3, 2)):
        x, expected, shapes = sequences()[:batch, :time], [], []
        with op_by_op():
            for layer in layers:
                results = to_list(layer(x))
                of_layer = layer.compute_output_shape(x.shape)
                expected += results
                shapes += [tuple(shape) for shape in (of_layer if results[1:] else [of_layer])]
        actual = model.predict(x, verbose=0)
        for a, b, shape in zip(actual, expected, shapes, strict=True):
            assert a.shape == shape
            np.testing.assert_allclose(a, b, atol=1e-6)
    with op_by_op():
        of_file = loaded.predict(x, verbose=0)
    for a, b in zip(of_file, actual, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.tensorflow
def test_gradients_are_the_same_under_xla():
    import tensorflow as tf

    x, mask = tf.constant(sequences()), tf.constant(make_mask("right", 4, 6))
    stack = residual_stack()

    def gradients(x, mask):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(stack(x, mask=mask, training=True) ** 2)
        return tape.gradient(loss, [x, *(w.value for w in stack.trainable_weights)])

    compiled = tf.function(gradients, jit_compile=True)
    with op_by_op():
        expected = gradients(x, mask)
    for a, b in zip(compiled(x, mask), expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
