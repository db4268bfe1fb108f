"""Simple and gated cells at special weights.

A known layer, a closed form or a figure gives their outputs; the references are independent of
`kerasrnn`: Keras's layers, and NumPy.
"""

import keras
import numpy as np
import pytest

import kerasrnn
from tests.catalogue import ROWS, variant_id
from tests.cells.kinships.special_weights import (
    FEATURES,
    OPTIONS,
    UNITS,
    X,
    assert_close,
    outputs,
    random_weights,
)
from tests.measure import PRECISION, TIGHT, measure, op_by_op

# The equations are compared; test_numbers.py compares the backends.
pytestmark = pytest.mark.tensorflow


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


def test_slstm_is_a_weighted_mean():
    """Without recurrence, by the softmax of log i_s + sum of log f over the steps after s."""
    layer = kerasrnn.SLSTM(UNITS, **OPTIONS)
    weights = random_weights(layer)
    weights["recurrent_kernel"][:] = 0
    p_i, p_f, p_z, p_o = np.split(X @ weights["kernel"] + weights["bias"], 4, axis=-1)
    passed = np.cumsum(-np.logaddexp(0, -p_f), axis=1)
    expected = np.zeros_like(p_z)
    for t in range(X.shape[1]):
        logits = p_i[:, : t + 1] + passed[:, t : t + 1] - passed[:, : t + 1]
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        expected[:, t] = (shares * np.tanh(p_z[:, : t + 1])).sum(axis=1)
    expected /= 1 + np.exp(-p_o)
    assert_close(outputs(layer, weights.values()), expected)


def test_heads_of_slstm_are_blocks_of_its_kernel():
    """The gradients, too, with dropout masks of each gate."""
    options = {**OPTIONS, "recurrent_dropout": 0.3, "seed": 1}
    one, two = (kerasrnn.SLSTM(UNITS, heads=heads, **options) for heads in (1, 2))
    weights = random_weights(two)
    half, units = UNITS // 2, np.arange(4 * UNITS) % UNITS
    within = (np.arange(UNITS) < half)[:, None] == (units < half)
    whole = np.concatenate([weights["recurrent_kernel"]] * 2) * within
    one.build(X.shape)
    one.set_weights([weights["kernel"], whole, weights["bias"]])
    with op_by_op():
        expected, actual = (measure(layer, X, training=True) for layer in (one, two))
    first, second = np.split(expected.d_weights[1] * within, 2)
    expected.d_weights[1] = first + second
    for a, b in zip(actual.arrays(), expected.arrays(), strict=True):
        assert_close(a, b, 10 * TIGHT)
    for gate, matrix in two.cell.recurrent_matrices().items():
        assert_close(matrix, one.cell.recurrent_matrices()[gate])


def test_slstm_is_stable_in_half_precision():
    """With gates far beyond the range of exp, and over steps that store nothing new."""
    layer = kerasrnn.SLSTM(
        UNITS, return_sequences=True, recurrent_initializer="zeros", dtype="float16"
    )
    layer.build((None, None, FEATURES))
    random = np.random.default_rng(0)
    kernel = random.standard_normal((FEATURES, 4 * UNITS))
    layer.set_weights([kernel, np.zeros((UNITS, 4 * UNITS)), np.zeros(4 * UNITS)])
    x = 300 * random.standard_normal((2, 50, FEATURES)).astype("float16")
    x[:, 25:] = 0
    with op_by_op():
        measured = measure(layer, x, training=True)
    assert np.abs(measured.outputs[0]).max() <= 1
    assert np.abs(measured.outputs[0][:, -1]).max() > 0.01
    assert all(np.isfinite(values).all() for values in measured.arrays())


def test_scrn_is_a_simple_rnn_with_a_constrained_matrix():
    """Section 3 of the paper; the fast units read the new context, the old one and x."""
    slow, alpha = 2, 0.8
    layer = kerasrnn.SCRN(UNITS, context_units=slow, alpha=alpha, **OPTIONS)
    kernel, recurrent, bias = random_weights(layer).values()
    fast = UNITS - slow
    r, p = recurrent[:fast], recurrent[fast:]
    (a, b), (b_h, b_s) = (np.split(w, [fast], axis=-1) for w in (kernel, bias))
    b, b_s = (1 - alpha) * b, (1 - alpha) * b_s
    matrix = np.block([[r, np.zeros((fast, slow))], [alpha * p, alpha * np.eye(slow)]])
    weights = [np.hstack([a + b @ p, b]), matrix, np.hstack([b_h + b_s @ p, b_s])]

    def activation(x):
        return keras.ops.concatenate([keras.ops.sigmoid(x[:, :fast]), x[:, fast:]], axis=-1)

    known = keras.layers.SimpleRNN(UNITS, activation=activation, **OPTIONS)
    assert_close(outputs(layer, [kernel, recurrent, bias]), outputs(known, weights))


def test_rhn_of_depth_one_is_a_gru_without_reset():
    """Its update gate is 1 - t."""
    layer = kerasrnn.RHN(UNITS, depth=1, **OPTIONS)
    weights = random_weights(layer)

    def of_gru(w, reset=0.0):
        h, t = np.split(w, 2, axis=-1)
        return np.concatenate([-t, np.full_like(t, reset), h], axis=-1)

    kernels = [of_gru(weights[name]) for name in ("kernel", "recurrent_kernel")]
    biases = np.stack([of_gru(weights["bias"], 50), np.zeros(3 * UNITS)])
    expected = outputs(keras.layers.GRU(UNITS, **OPTIONS), [*kernels, biases])
    assert_close(outputs(layer, weights.values()), expected)


def test_multiplicative_lstm_with_a_constant_factor_is_lstm():
    layer = kerasrnn.MultiplicativeLSTM(UNITS, **OPTIONS)
    kernel, recurrent, bias = random_weights(layer).values()
    kernel[:, :UNITS], recurrent[:, :UNITS], bias[:UNITS] = 0, np.eye(UNITS), 1
    known = keras.layers.LSTM(UNITS, **OPTIONS)
    expected = outputs(known, [w[..., UNITS:] for w in (kernel, recurrent, bias)])
    assert_close(outputs(layer, [kernel, recurrent, bias]), expected)


def test_nas_computes_the_figures_of_tensorflow_addons():
    """Those that the test of `tfa.rnn.NASCell` expects of constant weights."""
    cell = kerasrnn.NASCell(6, kernel_initializer="ones", recurrent_initializer="ones")
    cell.build((None, 4))
    cell.set_weights([0.5 * w for w in cell.get_weights()])
    x = np.repeat([[1.0], [2.0], [3.0]], 4, axis=1).astype("float32")
    h, (_, c) = cell(x, [np.full((3, 6), 0.1, "float32")] * 2)
    for found, figures in (
        (h, [0.5767508, 0.6189357, 0.6273934]),
        (c, [0.7157977, 0.7804162, 0.7945764]),
    ):
        assert_close(found, np.repeat(np.transpose([figures]), 6, axis=1), 1e-6)


# In the others, more than one gate retains the state.
OF_SEVERAL = ("BRC", "NBRC", "PhasedLSTM")


WITH_MEMORY = [row for row in ROWS if row.cell.memory_signs and row.name not in OF_SEVERAL]


@pytest.mark.parametrize("row", WITH_MEMORY, ids=variant_id)
def test_a_chrono_initialized_gate_retains_the_state_for_tau_steps(row):
    """Without weights, a step multiplies a small state by tau / (1 + tau)."""
    chrono = kerasrnn.ChronoInitializer(50, row.cell.memory_signs, seed=0)
    options = {"unit_forget_bias": False} if "unit_forget_bias" in row.cell.arguments() else {}
    cell = row.cell(UNITS, bias_initializer=chrono, dtype=PRECISION, **options)
    cell.build((None, FEATURES))
    blocks = np.split(np.atleast_2d(cell.bias)[0], len(row.cell.memory_signs))
    (tau,) = {tuple(np.exp(s * b)) for s, b in zip(cell.memory_signs, blocks, strict=True) if s}
    for weight in cell.weights:
        if "kernel" in weight.name:
            weight.assign(np.zeros(weight.shape))
    before = [np.full((1, *shape), 1e-6, PRECISION) for shape in cell.state_shapes]
    _, after = cell(X[:1, 0], before)
    carried = np.asarray(after[-1])[0] / 1e-6
    assert_close(carried, np.array(tau) / (1 + np.array(tau)), 1e-4)


def test_phased_lstm_that_is_open_is_lstm():
    """At half of the open phase k is one; the units that are closed keep their states."""
    layer = kerasrnn.PhasedLSTM(UNITS, time_column=True, **OPTIONS)
    weights = random_weights(layer)
    tau, s = np.array([0.5, 2.0, 3.0, 3.0]), np.array([0.1, 0.2, -0.3, 0.4])
    weights |= {"log_tau": np.log(tau), "s": s, "logit_r_on": np.zeros(UNITS)}
    known = keras.layers.LSTM(UNITS, **OPTIONS)
    expected = outputs(known, list(weights.values())[:3], X[..., :-1])
    for unit in range(UNITS):
        x = X.copy()
        x[..., -1] = tau[unit]
        x[:, 0, -1] = s[unit] + 0.25 * tau[unit]
        assert_close(outputs(layer, weights.values(), x)[:, 0, unit], expected[:, 0, unit])
        x[:, 0, -1] = s[unit] + 0.75 * tau[unit]
        assert_close(outputs(layer, weights.values(), x)[..., unit], 0)


def test_phased_lstm_opens_and_closes_linearly():
    """The figure of the time gate in the paper; all other gates are open."""
    layer = kerasrnn.PhasedLSTM(
        1, ratio_on=0.4, leak=0.5, time_column=True, return_state=True, dtype=PRECISION
    )
    layer.build((None, None, 1))
    kernel, recurrent, bias, *others = layer.get_weights()
    log_tau, s = np.zeros(1), np.full(1, 3.0)
    layer.set_weights([kernel, recurrent, np.full_like(bias, 50), log_tau, s, others[-1]])
    x = 3 + np.array([0, 0.1, 0.2, 0.3, 0.45, 0.6, 5.1, -0.8], PRECISION).reshape(-1, 1, 1)
    for training, closed in ((False, 0), (True, 0.5)):
        with op_by_op():
            _, _, c, time = layer(x, training=training)
        k = [0, 0.5, 1, 0.5, closed * 0.45, closed * 0.6, 0.5, 1]
        assert_close(np.asarray(c)[:, 0], k, 1e-6)
        assert_close(np.asarray(time), x[:, 0])


def test_echo_state_without_leak_is_simple_rnn():
    layer = kerasrnn.EchoState(UNITS, sparsity=0.0, **OPTIONS)
    weights = random_weights(layer).values()
    assert_close(
        outputs(layer, weights), outputs(keras.layers.SimpleRNN(UNITS, **OPTIONS), weights)
    )


def test_the_reservoir_of_echo_state():
    """Its radius and sparsity; it is reproducible, is not trained, and forgets its state."""
    options = {"spectral_radius": 0.7, "sparsity": 0.8, "seed": 3}
    layers = [kerasrnn.EchoState(50, leak=0.5, **options) for _ in range(2)]
    layers.append(kerasrnn.EchoState(50, leak=0.5, **{**options, "seed": 4}))
    for layer in layers:
        layer.build(X.shape)
    first, again, other = (layer.get_weights() for layer in layers)
    np.testing.assert_allclose(np.abs(np.linalg.eigvals(first[1])).max(), 0.7, rtol=1e-5)
    assert ((first[1] != 0).sum(axis=0) == 10).all()
    for n, (w, same, different) in enumerate(zip(first, again, other, strict=True)):
        np.testing.assert_array_equal(w, same)
        assert n == 2 or np.abs(w - different).max() > 0.1
    assert np.abs(np.corrcoef(first[0].ravel(), first[1][:FEATURES].ravel())[0, 1]) < 0.5
    model = keras.Sequential([keras.Input((None, FEATURES)), layers[0], keras.layers.Dense(1)])
    readout = model.layers[-1].get_weights()[0]
    model.compile("sgd", "mse", jit_compile=False)
    with op_by_op():
        model.train_on_batch(X, np.ones((len(X), 1)))
        x = np.random.default_rng(0).standard_normal((2, 60, FEATURES)).astype("float32")
        ends = [layers[0](x, initial_state=np.full((2, 50), v, "float32")) for v in (-1, 1)]
    for w, before in zip(layers[0].get_weights(), first, strict=True):
        np.testing.assert_array_equal(w, before)
    assert np.abs(model.layers[-1].get_weights()[0] - readout).max() > 0
    assert_close(np.asarray(ends[0]), np.asarray(ends[1]), 1e-3)


def test_lstmp_is_a_projected_lstm():
    """Of which the recurrent kernel is P U."""
    layer = kerasrnn.LSTMP(UNITS, projection_units=2, **OPTIONS)
    kernel, recurrent, bias, projection = random_weights(layer).values()
    known = keras.layers.LSTM(UNITS, **OPTIONS)
    wide = outputs(known, [kernel, projection @ recurrent, bias])
    assert_close(outputs(layer, [kernel, recurrent, bias, projection]), wide @ projection)
