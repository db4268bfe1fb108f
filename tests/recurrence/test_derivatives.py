"""Jacobians, second derivatives and forward mode, against finite differences."""

import functools

import keras
import numpy as np
import pytest

import kerasrnn
from tests.catalogue import variant_id
from tests.measure import PRECISION, make_mask, op_by_op, randomize

STEPS, STEP_SIZE = 3, 1e-5


def build(layer_class=kerasrnn.SimpleRNN, **options):
    layer = layer_class(2, dtype=PRECISION, **options)
    layer.build((None, None, 2))
    randomize(layer)
    return layer


def inputs():
    return np.random.default_rng(0).standard_normal((2, STEPS, 2)).astype(PRECISION)


def directions():
    return np.random.default_rng(1).standard_normal((2, STEPS, 2)).astype(PRECISION)


@functools.cache
def expected_jacobian(layer_class=kerasrnn.SimpleRNN, masked=False, zero_output_for_mask=False):
    """By central differences. Each row of the batch has another input changed."""
    layer = build(layer_class, zero_output_for_mask=zero_output_for_mask)
    x, mask = inputs(), make_mask("mixed", 4, STEPS)[2:] if masked else None
    moves = STEP_SIZE * np.eye(x[0].size).reshape(-1, *x[0].shape)
    jacobian = np.zeros((2, 2, *x.shape))
    for row in range(2):
        rows = np.concatenate([x[row] + moves, x[row] - moves])
        row_mask = None if mask is None else np.repeat(mask[row : row + 1], len(rows), axis=0)
        with op_by_op():
            after, before = np.split(np.asarray(layer(rows, mask=row_mask)), 2)
        jacobian[row, :, row] = ((after - before) / (2 * STEP_SIZE)).T.reshape(2, *x[0].shape)
    return jacobian


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("name", "layer_class", "options", "training", "masked", "in_a_function"),
    [
        ("jacobian", kerasrnn.SimpleRNN, {}, False, False, False),
        ("batch_jacobian", kerasrnn.SimpleRNN, {"jit_compile": True}, True, False, False),
        ("jacobian", kerasrnn.SimpleRNN, {"jit_compile": True}, False, False, True),
        ("batch_jacobian", kerasrnn.SimpleRNN, {}, True, True, True),
        ("jacobian", kerasrnn.LSTM, {"zero_output_for_mask": True}, True, True, True),
    ],
    ids=variant_id,
)
def test_jacobians_of_the_last_output(name, layer_class, options, training, masked, in_a_function):
    import tensorflow as tf

    layer, x = build(layer_class, **options), tf.constant(inputs())
    mask = tf.constant(make_mask("mixed", 4, STEPS)[2:]) if masked else None
    zeros = options.get("zero_output_for_mask", False)
    expected = expected_jacobian(layer_class, masked, zeros)
    if name == "batch_jacobian":
        expected = np.stack([expected[0, :, 0], expected[1, :, 1]])

    def jacobian(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, mask=mask, training=training)
        return getattr(tape, name)(y, x)

    batch = None if name == "jacobian" else 2  # a `batch_jacobian` needs to know it
    signature = [tf.TensorSpec((batch, STEPS, 2), PRECISION)]
    call = tf.function(jacobian, signature, autograph=False) if in_a_function else jacobian
    np.testing.assert_allclose(call(x), expected, atol=1e-8)


@pytest.mark.tensorflow
def test_the_jacobian_of_an_activation_of_the_last_output():
    """Its gradient enters the vectorized loop. Grappler once made an empty tensor of the result."""
    import tensorflow as tf

    layer, x = build(), tf.constant(inputs())

    @tf.function(autograph=False)
    def jacobian(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.tanh(layer(x))
        return y, tape.jacobian(y, x)

    y, found = jacobian(x)
    slopes = 1 - y.numpy()[..., None, None, None] ** 2
    np.testing.assert_allclose(found, slopes * expected_jacobian(), atol=1e-8)


@pytest.mark.tensorflow
def test_the_jacobian_behind_a_compiled_loop():
    """The same, where the vectorized loop is that of a function for XLA."""
    import tensorflow as tf

    class Leaky(kerasrnn.Cell):
        """y_t = 3 h_t, h_t = h_{t-1} / 2 + a_t."""

        def recurrent_products(self, weights):
            return ()

        def step(self, a, states, weights, products):
            h = states[0] / 2 + a
            return 3 * h, [h]

    layer, x = kerasrnn.RNN(Leaky(2), dtype=PRECISION), tf.constant(inputs())
    layer.build(x.shape)
    randomize(layer)

    @tf.function(autograph=False)
    def jacobian(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.tanh(layer(x, training=True))
        return y, tape.jacobian(y, x)

    y, found = jacobian(x)
    expected = np.zeros((2, 2, *x.shape))
    for row in range(2):
        for t in range(STEPS):
            expected[row, :, row, t] = 3 * 0.5 ** (STEPS - 1 - t) * layer.cell.kernel.numpy().T
    slopes = 1 - y.numpy()[..., None, None, None] ** 2
    np.testing.assert_allclose(found, slopes * expected, atol=1e-10)


@pytest.mark.tensorflow
def test_a_state_that_no_step_reads():
    import tensorflow as tf

    class Noting(kerasrnn.Cell):
        """The second state is the last input part."""

        state_names = ("h", "noted")

        def update(self, a, r, states, weights):
            h = keras.ops.tanh(a + r)
            return h, [h, a]

    layer = kerasrnn.RNN(Noting(2), return_state=True, dtype="float64")
    layer.build((None, None, 2))
    randomize(layer)
    x = tf.constant(inputs())
    with tf.GradientTape() as tape:
        tape.watch(x)
        _, _, noted = layer(x)
    expected = np.zeros((2, 2, *x.shape))
    for row in range(2):
        expected[row, :, row, -1] = layer.cell.kernel.numpy().T
    np.testing.assert_allclose(tape.jacobian(noted, x), expected, atol=1e-12)


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("options", "training", "in_a_function"),
    [
        ({}, True, True),
        ({"jit_compile": True, "checkpoint_every": 2}, True, False),
    ],
    ids=str,
)
def test_forward_mode(options, training, in_a_function):
    """The derivatives of the output and of the gradient in one direction."""
    import tensorflow as tf

    layer, x = build(**options), tf.constant(inputs())
    layer.set_weights(build().get_weights())

    def derivatives():
        with tf.autodiff.ForwardAccumulator(x, tf.constant(directions())) as accumulator:
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x, training=training)
                loss = tf.reduce_sum(y**2)
            gradient = tape.gradient(loss, x)
        return accumulator.jvp(y), accumulator.jvp(gradient)

    call = tf.function(derivatives, autograph=False) if in_a_function else derivatives
    d_y, d_gradient = call()
    expected = np.tensordot(expected_jacobian(), directions(), 3)
    np.testing.assert_allclose(d_y, expected, atol=1e-8)
    np.testing.assert_allclose(d_gradient, expected_second_derivative(), atol=1e-7)


@functools.cache
def expected_second_derivative(layer_class=kerasrnn.SimpleRNN):
    """Of sum(y**2), in the direction of `directions`, by central differences of the gradient."""
    import tensorflow as tf

    layer, gradients = build(layer_class), []
    for sign in (1, -1):
        moved = tf.constant(inputs() + sign * STEP_SIZE * directions())
        with op_by_op(), tf.GradientTape() as tape:
            tape.watch(moved)
            loss = tf.reduce_sum(layer(moved) ** 2)
        gradients.append(tape.gradient(loss, moved))
    return (gradients[0] - gradients[1]) / (2 * STEP_SIZE)


@pytest.mark.tensorflow
def test_eager_second_derivatives_of_a_compiled_layer():
    import tensorflow as tf

    layer, x = build(jit_compile=True), tf.constant(inputs())
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            loss = tf.reduce_sum(layer(x, training=True) ** 2)
        gradient = tf.reduce_sum(inner.gradient(loss, x) * directions())
    np.testing.assert_allclose(outer.gradient(gradient, x), expected_second_derivative(), atol=1e-7)


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("layer_class", "options", "training", "in_a_function"),
    [
        (kerasrnn.SimpleRNN, {}, True, True),
        (kerasrnn.SimpleRNN, {}, False, False),
        (kerasrnn.LSTM, {"checkpoint_every": 2}, False, False),
    ],
    ids=variant_id,
)
def test_the_hessian(layer_class, options, training, in_a_function):
    """`tape.jacobian` vectorizes the second derivative of the loop."""
    import tensorflow as tf

    layer, x = build(layer_class, **options), tf.constant(inputs())

    def hessian():
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                loss = tf.reduce_sum(layer(x, training=training) ** 2)
            gradient = inner.gradient(loss, x)
        return outer.jacobian(gradient, x)

    call = tf.function(hessian, autograph=False) if in_a_function else hessian
    expected = expected_second_derivative(layer_class)
    np.testing.assert_allclose(np.tensordot(call(), directions(), 3), expected, atol=1e-7)


@pytest.mark.tensorflow
def test_forward_mode_over_an_unknown_length_is_refused():
    import tensorflow as tf

    layer = build()

    @tf.function(input_signature=[tf.TensorSpec((None, None, 2), PRECISION)], autograph=False)
    def forward(x):
        with tf.autodiff.ForwardAccumulator(x, tf.ones_like(x)) as accumulator:
            y = layer(x, training=True)
        return accumulator.jvp(y)

    with pytest.raises(ValueError, match=r"needs a known number of steps .*jacobian"):
        forward(inputs())


@pytest.mark.skipif(keras.config.backend() != "jax", reason="JAX's forward mode")
def test_forward_mode_on_jax():
    import jax

    layer, x = build(), inputs()
    for twin, training in ((layer, False), (build(unroll=True), True)):
        _, d_y = jax.jvp(lambda x, t=twin, on=training: t(x, training=on), (x,), (directions(),))
        expected = np.tensordot(jax.jacrev(lambda x: layer(x, training=True))(x), directions(), 3)
        np.testing.assert_allclose(d_y, expected, atol=1e-5)
    np.testing.assert_allclose(expected_jacobian(), jax.jacrev(layer)(x), atol=1e-2)
    with pytest.raises(ValueError, match=r"forward-mode .* expected reverse mode .* unroll=True"):
        jax.jvp(lambda x: layer(x, training=True), (x,), (directions(),))
