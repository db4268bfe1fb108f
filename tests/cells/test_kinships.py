"""Cells at special weights, where a known layer, a closed form or a figure gives their outputs.

The references are independent of `kerasrnn`: Keras's layers, and NumPy.
"""

import keras
import numpy as np

import kerasrnn
from tests.measure import PRECISION, TIGHT, op_by_op, randomize

UNITS, FEATURES = 4, 3
OPTIONS = {"return_sequences": True, "dtype": PRECISION}
X = np.random.default_rng(0).standard_normal((2, 6, FEATURES)).astype(PRECISION)


def random_weights(layer):
    """The weights of a layer, built with random ones, by their names."""
    layer.build((None, None, FEATURES))
    randomize(layer)
    return {w.name: v for w, v in zip(layer.weights, layer.get_weights(), strict=True)}


def outputs(layer, weights, x=X):
    """The outputs of a layer with these weights."""
    layer.build(x.shape)
    layer.set_weights(list(weights))
    with op_by_op():
        return np.asarray(layer(x))


def assert_close(actual, expected, tolerance=TIGHT):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)


def test_co_rnn_is_simple_rnn_if_velocities_are_forgotten():
    """With dt = gamma = epsilon = 1, y_t is the activation itself."""
    layer = kerasrnn.CoRNN(UNITS, dt=1.0, gamma=1.0, epsilon=1.0, **OPTIONS)
    weights = random_weights(layer)
    of_y, _ = np.split(weights["recurrent_kernel"], 2)
    weights["recurrent_kernel"] = np.concatenate([of_y, np.zeros_like(of_y)])
    known = keras.layers.SimpleRNN(UNITS, **OPTIONS)
    expected = outputs(known, [weights["kernel"], of_y, weights["bias"]])
    assert_close(outputs(layer, weights.values()), expected)


def test_co_rnn_oscillates_at_its_frequency():
    """Without inputs and damping, the period is 2 pi / sqrt(gamma)."""
    layer = kerasrnn.CoRNN(1, dt=0.01, gamma=4.0, epsilon=1e-9, **OPTIONS)
    layer.build((1, None, 1))
    layer.set_weights([np.zeros(w.shape) for w in layer.weights])
    x, states = np.zeros((1, 315, 1), PRECISION), np.array([[[1.0]], [[0.0]]], PRECISION)
    with op_by_op():
        y = np.asarray(layer(x, initial_state=list(states)))[0, :, 0]
    t = 0.01 * np.arange(1, 316)
    assert_close(y, np.cos(2 * t), 0.02)


def test_lem_is_a_linear_gru_without_reset():
    """If z is passed on unchanged: dt_bar = 1, U_y = 1, and nothing else in y."""
    layer = kerasrnn.LEM(UNITS, activation=None, **OPTIONS)
    weights = random_weights(layer)
    kernel, recurrent, bias = (np.split(w, 4, axis=-1) for w in weights.values())
    for w in (kernel, bias):
        w[1][:], w[3][:] = 0, 0
    bias[1][:], recurrent[1][:], recurrent[3][:] = 50, 0, np.eye(UNITS)
    actual = outputs(layer, [np.concatenate(w, axis=-1) for w in (kernel, recurrent, bias)])

    def of_gru(w):
        """The update gate retains what the step's length leaves; the reset gate is one."""
        return np.concatenate([-w[0], np.zeros_like(w[0]), w[2]], axis=-1)

    biases = np.stack([of_gru(bias), np.zeros(3 * UNITS)])
    biases[0, UNITS : 2 * UNITS] = 50
    known = keras.layers.GRU(UNITS, activation=None, **OPTIONS)
    assert_close(actual, outputs(known, [of_gru(kernel), of_gru(recurrent), biases]))


def test_fast_rnn_without_its_residual_is_simple_rnn():
    layer = kerasrnn.FastRNN(UNITS, **OPTIONS)
    weights = {**random_weights(layer), "alpha": np.array(50.0), "beta": np.array(-50.0)}
    known = keras.layers.SimpleRNN(UNITS, **OPTIONS)
    expected = outputs(known, list(weights.values())[:3])
    assert_close(outputs(layer, weights.values()), expected)


def test_fast_grnn_is_a_gru_with_shared_kernels():
    """With zeta = 1 and nu = 0, and a reset gate of one; the kernels are products of factors."""
    layer = kerasrnn.FastGRNN(UNITS, kernel_rank=2, recurrent_rank=3, **OPTIONS)
    weights = {**random_weights(layer), "zeta": np.array(50.0), "nu": np.array(-50.0)}
    actual = outputs(layer, weights.values())
    known = keras.layers.GRU(UNITS, **OPTIONS)
    kernels = []
    for name, factor in (
        ("kernel", "kernel_factor"),
        ("recurrent_kernel", "recurrent_factor"),
    ):
        w = weights[name] @ weights[factor]
        kernels.append(np.concatenate([w, np.zeros_like(w), w], axis=1))
    biases = np.zeros((2, 3 * UNITS))
    biases[0, :UNITS], biases[0, 2 * UNITS :] = np.split(weights["bias"], 2)
    biases[0, UNITS : 2 * UNITS] = 50
    assert_close(actual, outputs(known, [*kernels, biases]))
