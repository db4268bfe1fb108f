"""Cells that approximate differential equations, at special weights.

A known layer, a closed form or a figure gives their outputs; the references are independent of
`kerasrnn`: Keras's layers, and NumPy.
"""

import keras
import numpy as np
import pytest

import kerasrnn
from tests.cells.kinships.special_weights import (
    FEATURES,
    OPTIONS,
    UNITS,
    X,
    assert_close,
    outputs,
    random_weights,
)
from tests.measure import PRECISION, TIGHT, op_by_op

# The equations are compared; test_numbers.py compares the backends.
pytestmark = pytest.mark.tensorflow


def test_cornn_is_simple_rnn_if_velocities_are_forgotten():
    """With dt = gamma = epsilon = 1, y_t is the activation itself."""
    layer = kerasrnn.CoRNN(UNITS, dt=1.0, gamma=1.0, epsilon=1.0, **OPTIONS)
    weights = random_weights(layer)
    of_y, _ = np.split(weights["recurrent_kernel"], 2)
    weights["recurrent_kernel"] = np.concatenate([of_y, np.zeros_like(of_y)])
    known = keras.layers.SimpleRNN(UNITS, **OPTIONS)
    expected = outputs(known, [weights["kernel"], of_y, weights["bias"]])
    assert_close(outputs(layer, weights.values()), expected)


def test_cornn_oscillates_at_its_frequency():
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


def test_antisymmetric_rnn_adds_steps_of_a_simple_rnn():
    """Its increments are the outputs of single steps of the same matrices."""
    layer = kerasrnn.AntisymmetricRNN(UNITS, step_size=0.5, diffusion=0.2, **OPTIONS)
    weights = random_weights(layer)
    h = outputs(layer, weights.values())
    u = weights["recurrent_kernel"]
    known = keras.layers.SimpleRNN(UNITS, dtype=PRECISION)
    known.build(X.shape)
    known.set_weights([weights["kernel"], u - u.T - 0.2 * np.eye(UNITS), weights["bias"]])
    for t in range(1, X.shape[1]):
        increment = known(X[:, t : t + 1], initial_state=h[:, t - 1])
        assert_close(h[:, t], h[:, t - 1] + 0.5 * np.asarray(increment))


def test_gated_antisymmetric_rnn_with_an_open_gate_is_the_plain_one():
    gated = kerasrnn.AntisymmetricRNN(UNITS, gated=True, **OPTIONS)
    kernel, recurrent, bias = random_weights(gated).values()
    bias[:UNITS] = 50
    plain = kerasrnn.AntisymmetricRNN(UNITS, **OPTIONS)
    expected = outputs(plain, [kernel[:, UNITS:], recurrent, bias[UNITS:]])
    assert_close(outputs(gated, [kernel, recurrent, bias]), expected)


def test_antisymmetric_rnn_keeps_its_norm():
    """The flow of the equation is a rotation: Euler's method leaves it by O(epsilon) only."""
    layer = kerasrnn.AntisymmetricRNN(
        UNITS, activation=None, step_size=0.001, diffusion=1e-9, use_bias=False, **OPTIONS
    )
    _, recurrent = random_weights(layer).values()
    layer.set_weights([np.zeros((FEATURES, UNITS)), recurrent])
    start = np.random.default_rng(1).standard_normal((2, UNITS)).astype(PRECISION)
    with op_by_op():
        h = np.asarray(layer(np.zeros((2, 400, FEATURES), PRECISION), initial_state=start))
    norms = np.linalg.norm(h, axis=-1) / np.linalg.norm(start, axis=-1, keepdims=True)
    assert_close(norms, 1, 2e-3)
    assert np.linalg.norm(h[:, -1] - start, axis=-1).min() > 0.3


def test_cfc_with_a_closed_gate_is_simple_rnn():
    """Without a backbone, the heads are the rows of its kernels."""
    layer = kerasrnn.CfC(UNITS, backbone_layers=0, **OPTIONS)
    weights = random_weights(layer)
    of_g = [w[..., :UNITS] for w in weights.values()]
    for w, value in zip(weights.values(), (0, 0, -50), strict=True):
        w[..., 2 * UNITS :] = value
    known = keras.layers.SimpleRNN(UNITS, **OPTIONS)
    assert_close(outputs(layer, weights.values()), outputs(known, of_g))


def ltc_without_synapses():
    """The layer, and its random weights without conductances."""
    layer = kerasrnn.LTC(UNITS, time_column=True, **OPTIONS)
    weights = random_weights(layer)
    for name in ("kernel", "recurrent_kernel"):
        weights[name][:] = -50  # softplus
    return layer, weights


def test_ltc_without_synapses_decays():
    """To b * tau, as six steps of the implicit Euler method do: tau = 1 / softplus(leak)."""
    layer, weights = ltc_without_synapses()
    x, times = np.array(X), np.array([0.0, 0.1, 1.0, 0.5, 0.0, 2.0])
    x[..., -1] = times
    layer.set_weights(list(weights.values()))
    with op_by_op():
        actual = np.asarray(layer(x, initial_state=np.ones((2, UNITS), PRECISION)))
    rate = np.logaddexp(0, weights["leak"])
    left, end = (1 + times[:, None] / 6 * rate) ** -6, weights["bias"] / rate
    expected = end + (1 - end) * np.cumprod(left, axis=0)
    assert_close(actual, np.broadcast_to(expected, actual.shape))


def test_ltc_ends_at_the_mean_of_its_targets():
    """After a long time, weighted with the conductances; without synapses between units."""
    layer, weights = ltc_without_synapses()
    weights["kernel"] = random_weights(kerasrnn.LTC(UNITS, time_column=True, **OPTIONS))["kernel"]
    x = np.array(X)
    x[..., -1] = 1000
    layer.set_weights(list(weights.values()))
    with op_by_op():
        actual = np.asarray(layer(x))
    p = weights["kernel_gamma"] * (X[..., :-1, None] - weights["kernel_mu"])
    f = np.logaddexp(0, weights["kernel"]) / (1 + np.exp(-p))
    current = weights["bias"] + (f * weights["kernel_a"]).sum(axis=-2)
    assert_close(actual, current / (np.logaddexp(0, weights["leak"]) + f.sum(axis=-2)), 10 * TIGHT)


def test_unicornn_keeps_its_energy():
    """Of a symplectic step without inputs: alpha y^2 + z^2 - dt alpha y z, to the last digit."""
    layer = kerasrnn.UnICORNN(
        UNITS, activation=None, dt=0.2, alpha=5.0, use_bias=False, return_state=True, **OPTIONS
    )
    weights = random_weights(layer)
    weights["recurrent_kernel"][:] = 0
    layer.set_weights(list(weights.values()))
    y, z = np.random.default_rng(1).standard_normal((2, 2, UNITS)).astype(PRECISION)
    with op_by_op():
        _, y_t, z_t = layer(0 * X, initial_state=[y, z])
    dt = 0.2 / (1 + np.exp(-weights["c"]))

    def energy(y, z):
        y, z = np.asarray(y), np.asarray(z)
        return 5 * y**2 + z**2 - dt * 5 * y * z

    assert np.abs(np.asarray(y_t) - y).max() > 0.1
    assert_close(energy(y_t, z_t), energy(y, z))
