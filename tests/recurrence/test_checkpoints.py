"""Checkpoints of sequences of any length, also shorter than a segment."""

import functools

import keras
import numpy as np
import pytest

import kerasrnn
from tests.measure import PRECISION, TIGHT, assert_same, measure, op_by_op, randomize


@functools.cache
def layer_of(truncate_every=None, **options):
    layer = kerasrnn.SimpleRNN(
        2,
        return_sequences=True,
        return_state=True,
        truncate_every=truncate_every,
        dtype=PRECISION,
        **options,
    )
    layer.build((None, None, 3))
    randomize(layer)
    return layer


def arrays(steps):
    random = np.random.default_rng(steps)
    x = random.standard_normal((2, steps, 3)).astype(PRECISION)
    return x, [np.ones((2, 2), PRECISION)], random.random((2, steps)) < 0.7


@functools.cache
def without_checkpoints(steps):
    with op_by_op():
        return measure(layer_of(unroll=True), *arrays(steps), True)


@pytest.mark.parametrize(
    ("options", "lengths"),
    [
        ({"checkpoint_every": 3}, (5, 1, 3, 4)),
        ({"checkpoint_every": 2, "truncate_every": 100}, (3, 1, 2)),  # no gradient is cut
    ],
)
def test_lengths_that_change_between_eager_calls(options, lengths):
    """On TensorFlow, the second call traces a function of unknown length."""
    layer = layer_of(**options)
    for steps in lengths:
        actual = measure(layer, *arrays(steps), True)
        assert_same(actual, without_checkpoints(steps), TIGHT)


@pytest.mark.tensorflow
@pytest.mark.parametrize(("checkpoint_every", "jit_compile"), [(100, False), ("sqrt", True)])
def test_an_unknown_length_in_a_graph(checkpoint_every, jit_compile):
    """In a function that XLA compiles or not. Gradients are cut inside of segments."""
    import tensorflow as tf

    layer = layer_of(truncate_every=2, checkpoint_every=checkpoint_every)

    @tf.function(
        input_signature=[tf.TensorSpec((None, None, 3), PRECISION)], jit_compile=jit_compile
    )
    def gradients(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs, state = layer(x, training=True)
            loss = tf.reduce_sum(outputs**2) + tf.reduce_sum(state)
        return outputs, state, tape.gradient(loss, x)

    plain = layer_of(truncate_every=2)
    for steps in (1, 5):
        x = tf.constant(arrays(steps)[0])
        with op_by_op(), tf.GradientTape() as tape:
            tape.watch(x)
            outputs, state = plain(x, training=True)
            loss = tf.reduce_sum(outputs**2) + tf.reduce_sum(state)
        expected = outputs, state, tape.gradient(loss, x)
        for a, b in zip(gradients(x), expected, strict=True):
            np.testing.assert_allclose(a, b, atol=TIGHT)


@pytest.mark.skipif(keras.config.backend() != "jax", reason="JAX infers in segments")
@pytest.mark.parametrize("options", [{"return_sequences": True}, {"go_backwards": True}])
def test_inference_in_segments(options):
    from kerasrnn.recurrence.jax import SEGMENT_ROWS

    steps = 2 * SEGMENT_ROWS // 64 + 1  # two segments and one step more
    random = np.random.default_rng(0)
    x = random.standard_normal((64, steps, 3)).astype("float32")
    mask = random.random((64, steps)) < 0.7
    layers = [house.LSTM(2, **options) for house in (kerasrnn, keras.layers)]
    for layer in layers:
        layer.build(x.shape)
    layers[1].set_weights(layers[0].get_weights())
    y, expected = (np.asarray(layer(x, mask=mask, training=False)) for layer in layers)
    np.testing.assert_allclose(y, expected, atol=1e-6)


@pytest.mark.skipif(keras.config.backend() != "jax", reason="JAX infers in segments")
@pytest.mark.parametrize(
    ("features", "return_sequences", "in_segments"),
    [(3, True, False), (4, True, True), (3, False, True)],
)
def test_inference_in_segments_only_where_it_saves_memory(features, return_sequences, in_segments):
    """The outputs have room for inputs and products that are no larger, with a column of ones."""
    import jax

    from kerasrnn.recurrence.jax import SEGMENT_ROWS

    layer = kerasrnn.SimpleRNN(4, return_sequences=return_sequences)
    x = np.zeros((64, 2 * SEGMENT_ROWS // 64, features), "float32")
    layer.build(x.shape)
    program = str(jax.make_jaxpr(lambda x: layer(x, training=False))(x))
    assert (program.count("scan[") > 1) == in_segments
