"""Cells at special weights, where a known layer, a closed form or a figure gives their outputs.

The references are independent of `kerasrnn`: Keras's layers, and NumPy.
"""

import keras
import numpy as np
import pytest

import kerasrnn
from tests.catalogue import ROWS, variant_id
from tests.measure import PRECISION, TIGHT, measure, op_by_op, randomize

# The equations are compared; test_numbers.py compares the backends.
pytestmark = pytest.mark.tensorflow

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


def test_min_lstm_is_min_gru_whose_gate_is_the_normalized_input_gate():
    """1 / (1 + f / i) is a sigmoid of the difference of the logarithms; without bounds, of a_i."""
    layer = kerasrnn.MinLSTM(UNITS, **OPTIONS)
    weights = random_weights(layer)
    kernel, bias = (np.split(weights[name], 3, axis=-1) for name in ("kernel", "bias"))
    kernel[0][:], bias[0][:], bias[1][:] = 0, -50, bias[1] - 50  # sigmoid is exp
    known = kerasrnn.MinGRU(UNITS, **OPTIONS)
    expected = outputs(known, [np.hstack(kernel[1:]), np.hstack([bias[1] - bias[0], bias[2]])])
    assert_close(outputs(layer, [np.hstack(kernel), np.hstack(bias)]), expected)


def test_min_lstm_normalizes_gates_that_are_zero():
    """sigmoid(-1000) is 0, and the normalized gates are those of exponentials."""
    layer = kerasrnn.MinLSTM(1, return_sequences=True)
    layer.build((1, None, 1))
    layer.set_weights([np.array([[0.0, 0.0, 1.0]]), np.array([-1000.0, -1001.0, 0.0])])
    with op_by_op():
        measured = measure(layer, np.ones((1, 2, 1), "float32"), training=True)
    i = 1 / (1 + np.e)
    assert_close(measured.outputs[0][0, :, 0], [i, (1 - i) * i + i], 1e-6)
    assert all(np.isfinite(values).all() for values in measured.arrays())


def test_rglru_without_kernels_is_an_exponential_average():
    """All gates are one half, and the decay of each unit is sigmoid(Lambda)^4."""
    layer = kerasrnn.RGLRU(FEATURES, **OPTIONS)
    weights = random_weights(layer)
    weights["kernel"][:], weights["bias"][:] = 0, 0
    a = (1 + np.exp(-weights["decay_logit"])) ** -4.0
    elapsed = np.arange(6)[:, None] - np.arange(6)
    shares = np.where(elapsed[..., None] >= 0, a ** np.maximum(elapsed, 0)[..., None], 0)
    expected = np.einsum("tsd,bsd->btd", shares, np.sqrt(1 - a**2) * X / 2)
    assert_close(outputs(layer, weights.values()), expected)


def test_rglru_is_accurate_where_memories_are_long():
    """In single precision 1 - a^2 would be 0 here: a is 1 but for 4e-10."""
    layer = kerasrnn.RGLRU(1, return_sequences=True)
    layer.build((1, None, 1))
    layer.set_weights([np.zeros((1, 2)), np.zeros(2), np.full(1, 23.0)])
    with op_by_op():
        y = np.asarray(layer(np.ones((1, 1, 1), "float32")))
    assert_close(y.item() / (0.5 * np.sqrt(8 * np.exp(-23.0))), 1, 1e-5)


def test_rglru_has_gradients_where_its_gate_is_closed():
    layer = kerasrnn.RGLRU(1, return_sequences=True)
    layer.build((1, None, 1))
    layer.set_weights([np.zeros((1, 2)), np.array([-200.0, 0.0]), np.zeros(1)])
    with op_by_op():
        measured = measure(layer, np.ones((1, 3, 1), "float32"), [np.ones((1, 1))], training=True)
    assert_close(measured.outputs[0], 1)
    assert all(np.isfinite(values).all() for values in measured.arrays())


def test_heads_of_rglru_are_blocks_of_its_kernel():
    one, two = (kerasrnn.RGLRU(UNITS, heads=heads, **OPTIONS) for heads in (1, 2))
    kernel, *others = random_weights(two).values()
    half, units = UNITS // 2, np.arange(2 * UNITS) % UNITS
    within = (np.arange(UNITS) < half)[:, None] == (units < half)
    one.build(X.shape)
    one.set_weights([np.concatenate([kernel] * 2) * within, *others])
    with op_by_op():
        expected, actual = (measure(layer, X, training=True) for layer in (one, two))
    first, second = np.split(expected.d_weights[0] * within, 2)
    expected.d_weights[0] = first + second
    for a, b in zip(actual.arrays(), expected.arrays(), strict=True):
        assert_close(a, b)


def test_sru_with_an_open_reset_gate_is_min_gru():
    """Whose update gate is 1 - f; with peepholes of 0, too."""
    known = kerasrnn.MinGRU(UNITS, **OPTIONS)
    for use_peepholes in (False, True):
        layer = kerasrnn.SRU(UNITS, use_peepholes=use_peepholes, **OPTIONS)
        weights = random_weights(layer)
        w_f, w_r, w_c, _ = np.split(weights["kernel"], 4, axis=1)
        b_f, b_r = np.split(weights["bias"], 2)
        w_r[:], b_r[:] = 0, 50
        weights.get("peephole_kernel", b_f[:0])[:] = 0
        bias = np.concatenate([-b_f, np.zeros_like(b_f)])
        expected = outputs(known, [np.hstack([-w_f, w_c]), bias])
        assert_close(outputs(layer, weights.values()), expected)


def test_sru_with_a_closed_reset_gate_passes_its_inputs_on():
    """Scaled by the square root of 3, since the highway bias is 0."""
    layer = kerasrnn.SRU(FEATURES, **OPTIONS)
    weights = random_weights(layer)
    weights["kernel"][:, FEATURES : 2 * FEATURES], weights["bias"][FEATURES:] = 0, -50
    assert_close(outputs(layer, weights.values()), np.sqrt(3) * X)


def test_s5_equals_the_exponential_of_its_matrix():
    """An input held over a step: the exact solution of h' = lambda h + b x, for one feature."""
    layer = kerasrnn.S5(2, **OPTIONS)
    layer.build((None, None, 1))
    randomize(layer)
    w = {v.name: value for v, value in zip(layer.weights, layer.get_weights(), strict=True)}
    b = w["kernel"][0, :2] + 1j * w["kernel"][0, 2:4]
    c = w["output_kernel"][:2] + 1j * w["output_kernel"][2:]
    eigenvalues = -np.exp(w["nu"]) + 1j * w["omega"]
    x, h, expected = X[:1, :, 0], np.zeros(2, complex), []
    # h and the input are one system, whose matrix is exponentiated as a series.
    for value in x[0]:
        for n in range(2):
            system = np.array([[eigenvalues[n], b[n]], [0, 0]]) * np.exp(w["tau"][n])
            term = total = np.eye(2, dtype=complex)
            for k in range(1, 60):
                term = term @ system / k
                total = total + term
            h[n] = (total @ [h[n], value])[0]
        expected.append(2 * (h @ c).real + value * w["kernel"][0, 4:])
    with op_by_op():
        assert_close(layer(x[..., None])[0], expected)


def test_s5_starts_with_the_normal_part_of_hippo():
    """Its eigenvalues, and real matrices in its eigenbasis: the paper's appendix B.1."""
    size = 2 * UNITS
    n, k = np.indices((size, size))
    legs = -np.sqrt(2 * n + 1) * np.sqrt(2 * k + 1) * (n > k) - (n + 1) * (n == k)
    root = np.sqrt(np.arange(size) + 0.5)
    normal = legs + np.outer(root, root)
    expected = np.linalg.eigvals(normal)
    expected = expected[expected.imag > 0]
    layer = kerasrnn.S5(UNITS, **OPTIONS)
    layer.build(X.shape)
    w = {v.name: value for v, value in zip(layer.weights, layer.get_weights(), strict=True)}
    assert_close(-np.exp(w["nu"]), -0.5)
    assert_close(w["omega"], np.sort(expected.imag))
    assert w["tau"].min() >= np.log(0.001)
    assert w["tau"].max() <= np.log(0.1)
    # C B is real and of the size of a product of real matrices: the basis is not seen outside.
    b = w["kernel"][:, :UNITS] + 1j * w["kernel"][:, UNITS : 2 * UNITS]
    assert_close(np.linalg.norm(b), np.linalg.norm(b.real) * 2**0.5, np.linalg.norm(b) / 2)


def test_hgrn_without_angles_and_bounds_averages_as_min_gru():
    """Its real part is MinGRU with a silu, and z = 1 - f; before the gate and its normalization."""
    layer = kerasrnn.HGRN(UNITS, return_state=True, dtype=PRECISION)
    weights = random_weights(layer)
    weights["theta"][:] = 0
    layer.set_weights(list(weights.values()))
    known = kerasrnn.MinGRU(UNITS, activation="silu", dtype=PRECISION)
    w, b = (np.split(weights[name], 5, axis=-1) for name in ("kernel", "bias"))
    with op_by_op():
        _, *states = layer(X)
    for n, state in enumerate(states):
        expected = outputs(known, [np.hstack([-w[2], w[n]]), np.hstack([-b[2], b[n]])])
        assert_close(state, expected)


def test_hgrn_forgets_no_faster_than_its_bound():
    """A closed forget gate leaves the bound, and the state rotates."""
    layer = kerasrnn.HGRN(UNITS, lower_bound=0.75, return_state=True, dtype=PRECISION)
    layer.build((1, None, 1))
    weights = {v.name: value for v, value in zip(layer.weights, layer.get_weights(), strict=True)}
    weights["kernel"][:], weights["bias"][2 * UNITS : 3 * UNITS] = 0, -50
    layer.set_weights(list(weights.values()))
    start = [np.ones((1, UNITS)), np.zeros((1, UNITS))]
    with op_by_op():
        _, real, imaginary = layer(np.zeros((1, 3, 1)), initial_state=start)
    h = 0.75**3 * np.exp(3j * 10000.0 ** (-np.arange(UNITS) / (UNITS / 2)))
    assert_close(real[0], h.real, 1e-7)
    assert_close(imaginary[0], h.imag, 1e-7)


STEPS = np.array([[[1.0, -1.0], [0.5, 2.0], [-1.0, 0.25]]], "float32")


def test_rglru_computes_the_figures_of_recurrentgemma():
    """Its PyTorch layer, at the positions 1 to 3 of a sequence; its parameter is -Lambda."""
    layer = kerasrnn.RGLRU(2, return_sequences=True)
    kernel, bias = [[0.1, 0.2, 0.5, 0.6], [0.3, 0.4, 0.7, 0.8]], [0.1, 0.1, 0.2, 0.2]
    actual = outputs(layer, map(np.array, (kernel, bias, [1.0, 2.0])), STEPS)
    figures = [[0.4763224, -0.3933512], [0.5116582, 1.3797641], [-0.3116047, 0.9203150]]
    assert_close(actual[0], figures, 1e-6)


@pytest.mark.parametrize(
    ("activation", "figures"),
    [
        (None, [[0.7676396, -0.8346938], [0.8182254, 0.8578970], [-0.3623369, 0.2437372]]),
        ("tanh", [[0.7678412, -0.8345112], [0.6967158, 0.7943439], [-0.3663447, 0.2438858]]),
    ],
)
def test_sru_computes_the_figures_of_its_authors(activation, figures):
    """Those of `sru.SRUCell`, version 2.6.0."""
    layer = kerasrnn.SRU(2, activation=activation, use_peepholes=True, return_sequences=True)
    kernel = np.concatenate(np.arange(1, 13).reshape(3, 2, 2) / 10, axis=1)
    weights = [kernel, np.array([0.1, 0.2, 0.3, 0.4]), np.array([[0.5, -0.5], [1.0, -1.0]])]
    assert_close(outputs(layer, weights, STEPS)[0], figures, 1e-6)


def test_lstmp_is_a_projected_lstm():
    """Of which the recurrent kernel is P U."""
    layer = kerasrnn.LSTMP(UNITS, projection_units=2, **OPTIONS)
    kernel, recurrent, bias, projection = random_weights(layer).values()
    known = keras.layers.LSTM(UNITS, **OPTIONS)
    wide = outputs(known, [kernel, projection @ recurrent, bias])
    assert_close(outputs(layer, [kernel, recurrent, bias, projection]), wide @ projection)


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
