"""Noise drawn outside of the loop: per call, per sequence and per step, compared with NumPy."""

import contextlib

import keras
import numpy as np
import pytest
from keras import ops

import kerasrnn
from kerasrnn.recurrence import ElementwiseProduct, Noise, RecurrentProduct
from tests.measure import PRECISION, TIGHT, make_mask, measure, op_by_op, randomize
from tests.recurrence.test_states import LOOPS, normal

UNITS, ROWS, STEPS = 3, 16, 6


class NoisyCell(kerasrnn.SimpleRNNCell):
    """Dropped weights, a shift of each sequence, and zoneout at each step (Krueger et al. 2017).

    The noise is fixed, so that NumPy computes with the same.
    """

    drawn = Noise(
        {"dropped": normal(UNITS, UNITS, seed=1) > 0},
        {"shift": normal(ROWS, UNITS, seed=2)},
        {"zoneout": normal(ROWS, STEPS, UNITS, seed=3) > 0},
    )
    has_adjoint = False

    def draw_noise(self, inputs, states, steps=None):
        return self.drawn

    def recurrent_products(self, weights):
        kernel = weights["recurrent_kernel"]
        if "dropped" in weights.noise:
            kernel = kernel * ops.cast(weights.noise["dropped"], kernel.dtype)
        return (RecurrentProduct(kernel, None),)

    def update(self, a, r, states, weights):
        (before,) = states
        noise = weights.noise
        if weights.training:
            r = r + ops.cast(noise["shift"], r.dtype)
        h = ops.tanh(a + r)
        if "zoneout" in noise:
            h = ops.where(noise["zoneout"], before, h)
        return h, [h]


def in_numpy(layer, x, mask, training):
    """The last outputs."""
    kernel, recurrent, bias = (np.asarray(w, "float64") for w in layer.get_weights())
    (dropped,), (shift,), (zoneout,) = (
        [np.asarray(v, "float64") for v in named.values()] for named in NoisyCell.drawn
    )
    if training:
        recurrent = recurrent * dropped
    h = np.zeros((len(x), UNITS))
    order = range(STEPS - 1, -1, -1) if layer.go_backwards else range(STEPS)
    for t in order:
        new = np.tanh(x[:, t] @ kernel + bias + h @ recurrent + training * shift)
        if training:
            new = np.where(zoneout[:, t] > 0, h, new)
        h = np.where(mask[:, t, None], new, h)
    return h


def noisy_layer(**options):
    layer = kerasrnn.RNN(NoisyCell(UNITS, dtype=PRECISION), dtype=PRECISION, **options)
    layer.build((None, None, 2))
    randomize(layer)
    return layer


@pytest.mark.parametrize("name", [name for name in LOOPS if name != "truncated"])
def test_every_kind_of_noise(name):
    """Outputs, and gradients against central differences in a random direction.

    The compiled loop splits the sixteen rows and their noise.
    """
    layer = noisy_layer(**{**LOOPS[name], "zero_output_for_mask": False})
    x, mask = normal(ROWS, STEPS, 2), make_mask("mixed", ROWS, STEPS)
    with contextlib.nullcontext() if name == "compiled" else op_by_op():
        np.testing.assert_allclose(layer(x, mask=mask), in_numpy(layer, x, mask, False), atol=TIGHT)
    # The graph of "plain" is that of "backwards".
    with op_by_op() if name in ("plain", "unrolled") else contextlib.nullcontext():
        measured = measure(layer, x, mask=mask, training=True)
    np.testing.assert_allclose(measured.outputs[0], in_numpy(layer, x, mask, True), atol=TIGHT)
    factors = np.random.default_rng(7).standard_normal((ROWS, UNITS))
    weights = layer.get_weights()
    directions = [np.random.default_rng(9).standard_normal(w.shape) for w in weights]
    values = []
    for step in (1e-5, -1e-5):
        layer.set_weights([w + step * d for w, d in zip(weights, directions, strict=True)])
        values.append((in_numpy(layer, x, mask, True) * factors).sum())
    expected = (values[0] - values[1]) / 2e-5
    actual = sum((d * g).sum() for d, g in zip(directions, measured.d_weights, strict=True))
    np.testing.assert_allclose(actual, expected, rtol=1e-6 if PRECISION == "float64" else 1e-2)


@pytest.mark.tensorflow
@pytest.mark.parametrize("go_backwards", [False, True])
def test_noise_of_an_unknown_number_of_steps(go_backwards):
    """It is padded to a bucket with the sequences."""
    import tensorflow as tf

    layer = noisy_layer(go_backwards=go_backwards)
    unknown = [tf.TensorSpec((None, None, 2), tf.float64), tf.TensorSpec((None, None), tf.bool)]
    call = tf.function(lambda x, mask: layer(x, mask=mask, training=True), input_signature=unknown)
    x, mask = normal(ROWS, STEPS, 2), make_mask("mixed", ROWS, STEPS)
    np.testing.assert_allclose(call(x, mask), in_numpy(layer, x, mask, True), atol=TIGHT)


def test_a_single_step_takes_the_noise_of_one_step():

    class OneStep(NoisyCell):
        drawn = NoisyCell.drawn._replace(steps={"zoneout": NoisyCell.drawn.steps["zoneout"][:, 2]})

    cell = OneStep(UNITS, dtype=PRECISION)
    cell.build((None, 2))
    randomize(cell)
    x, h = normal(ROWS, 2), normal(ROWS, UNITS, seed=5)
    kernel, recurrent, bias = cell.get_weights()
    dropped = np.asarray(NoisyCell.drawn.weights["dropped"], PRECISION)
    new = np.tanh(
        x @ kernel + bias + h @ (recurrent * dropped) + NoisyCell.drawn.sequences["shift"]
    )
    expected = np.where(OneStep.drawn.steps["zoneout"], h, new)
    output, _ = cell(x, [h], training=True)
    np.testing.assert_allclose(output, expected, atol=TIGHT)
    output, _ = cell(x, [h])
    np.testing.assert_allclose(output, np.tanh(x @ kernel + bias + h @ recurrent), atol=TIGHT)


def test_dropout_is_noise_of_a_sequence():
    cell = kerasrnn.LSTMCell(UNITS, dropout=0.3, recurrent_dropout=0.4, seed=3)
    x, states = normal(4, 2), [normal(4, UNITS)] * 2
    noise = cell.draw_noise(ops.convert_to_tensor(x), list(map(ops.convert_to_tensor, states)), 5)
    assert (noise.weights, noise.steps) == ({}, {})
    for name, width, rate in (("inputs", 2, 0.3), ("states", UNITS, 0.4)):
        masks = np.stack([np.asarray(mask) for mask in noise.sequences[name]])
        assert masks.shape == (4, 4, width)  # one for each gate
        np.testing.assert_allclose(np.unique(masks), [0, 1 / (1 - rate)], rtol=1e-6)
    plain = kerasrnn.LSTMCell(UNITS)
    assert plain.draw_noise(ops.convert_to_tensor(x), states, 5) == Noise()


def test_noise_of_an_elementwise_product():
    """IndRNN's recurrent dropout is the same noise, with one mask."""
    cell = kerasrnn.IndRNNCell(UNITS, recurrent_dropout=0.5, seed=1, dtype=PRECISION)
    cell.build((None, 2))
    randomize(cell)
    x, h = normal(4, 2), normal(4, UNITS, seed=5)
    (mask,) = cell.draw_noise(ops.convert_to_tensor(x), [ops.convert_to_tensor(h)]).sequences[
        "states"
    ]
    kernel, u, bias = cell.get_weights()
    expected = np.maximum(x @ kernel + bias + h * np.asarray(mask) * u, 0)
    np.testing.assert_allclose(cell(x, [h], training=True)[0], expected, atol=TIGHT)
    product = ElementwiseProduct(ops.convert_to_tensor(u), None, [mask])
    np.testing.assert_allclose(
        product.adjoint(ops.convert_to_tensor(h)), h * u * np.asarray(mask), atol=TIGHT
    )


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="one backend traces")
def test_a_step_is_told_whether_it_trains():
    seen = []

    class Knows(kerasrnn.SimpleRNNCell):
        has_adjoint = False

        def update(self, a, r, states, weights):
            seen.append(weights.training)
            return super().update(a, r, states, weights)

    layer = kerasrnn.RNN(Knows(2))
    layer(normal(2, 3, 2))
    assert set(seen) == {False}
    seen.clear()
    layer(normal(2, 3, 2), training=True)
    assert set(seen) == {True}
