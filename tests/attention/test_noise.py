"""Noise on the scores of monotonic attention in training: against the equations with that noise."""

import keras
import numpy as np
import pytest
from keras import ops

import kerasrnn
from tests import numpy_models
from tests.measure import PRECISION, TIGHT, make_mask, op_by_op, randomize
from tests.oracles import attention as equations

BATCH, TIME, POSITIONS = 3, 4, 5


@pytest.fixture(autouse=True)
def _op_by_op():
    with op_by_op():
        yield


def new_attention(**options):
    scorer = kerasrnn.BahdanauAttention(4, dtype=PRECISION)
    return kerasrnn.MonotonicAttention(scorer, dtype=PRECISION, **options)


def tensors():
    random = np.random.default_rng(0)
    return [random.standard_normal((BATCH, n, 4)).astype(PRECISION) for n in (TIME, POSITIONS)]


def test_equations():
    """The layer, with the noise that it has drawn; none in inference."""
    query, keys = tensors()
    layer, drawn = new_attention(noise=1.5, seed=3), []
    draw = layer.draw_noise
    layer.draw_noise = lambda *args: drawn.append(draw(*args)) or drawn[-1]
    layer.build(query.shape, keys.shape)
    randomize(layer)
    mask = make_mask("mixed", BATCH, POSITIONS)
    silent = layer(query, keys, keys_mask=mask)
    assert not drawn
    found = layer(query, keys, keys_mask=mask, training=True)
    (noise,) = map(ops.convert_to_numpy, drawn)
    weights = numpy_models.weights_of(layer)
    for noise_of, (context, alpha) in ((0 * noise, silent), (noise, found)):
        for n in range(BATCH):
            (before,) = numpy_models.attention_begins(layer, mask[n])
            for t in range(TIME):
                e = equations.bahdanau(query[n, t], keys[n], weights) + weights["monotonic_bias"]
                p = numpy_models.sigmoid(e + noise_of[n, t]) * mask[n]
                before = equations.monotonic_soft(p, before)
                np.testing.assert_allclose(alpha[n, t], before, atol=TIGHT)
                np.testing.assert_allclose(context[n, t], before @ keys[n], atol=TIGHT)
    large = ops.convert_to_numpy(draw((50, 40), "float32"))
    assert abs(large.mean()) < 0.15
    assert abs(large.std() - 1.5) < 0.1


@pytest.mark.gradients
def test_in_the_time_loop():
    """Outputs of the loop are those of single steps with the same noise, and its gradient is that
    of finite differences."""
    x, memory = tensors()
    noise = 2 * np.random.default_rng(1).standard_normal((BATCH, TIME, POSITIONS))
    noise = noise.astype(PRECISION)
    attention = new_attention(noise=2.0)
    cell = kerasrnn.AttentionCell(
        kerasrnn.GRUCell(4, dtype=PRECISION), attention, query="state", dtype=PRECISION
    )
    layer = kerasrnn.RNN(cell, return_sequences=True, dtype=PRECISION)
    layer.build((None, None, 4), memory_shape=(None, None, 4))
    randomize(layer)
    attention.draw_noise = lambda *_: noise
    y = ops.convert_to_numpy(layer(x, memory=memory, training=True))
    quiet = ops.convert_to_numpy(layer(x, memory=memory))
    assert np.abs(y - quiet).max() > 0.01
    prepared = cell.prepare_memory(ops.convert_to_tensor(memory))
    states = cell.get_initial_state(prepared=prepared)
    for t in range(TIME):
        attention.draw_noise = lambda *_, t=t: noise[:, t]
        found, states = cell(
            ops.convert_to_tensor(x[:, t]), states, training=True, prepared=prepared
        )
        np.testing.assert_allclose(ops.convert_to_numpy(found), y[:, t], atol=TIGHT)
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    attention.draw_noise = lambda *_: noise
    (bias,) = (w for w in attention.weights if w.name == "monotonic_bias")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(x, memory=memory, training=True) ** 2)
    gradient, start, sides = float(tape.gradient(loss, bias.value)), float(bias), []
    for step in (1e-4, -1e-4):
        bias.assign(start + step)
        sides.append(float(tf.reduce_sum(layer(x, memory=memory, training=True) ** 2)))
    np.testing.assert_allclose(gradient, (sides[0] - sides[1]) / 2e-4, rtol=1e-3, atol=1e-5)


def test_saved_configuration():
    layer = new_attention(noise=0.5, seed=7)
    again = kerasrnn.MonotonicAttention.from_config(layer.get_config())
    assert (again.noise, again.seed) == (0.5, 7)
    assert again.noisy
    assert not new_attention(noise=0.5, hard=True).noisy


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: new_attention(noise=-1.0), "noise=-1.0: expected"),
        (lambda: new_attention(normalization="entmax"), "an argument of the attention that"),
        (
            lambda: kerasrnn.MonotonicAttention(kerasrnn.LuongAttention(normalization="entmax")),
            "has normalization='entmax', and monotonic attention normalizes in its own way",
        ),
        (lambda: kerasrnn.LuongAttention(normalization="max"), "normalization='max': expected"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
