"""Linear cells at special weights.

A known layer, a closed form or a figure gives their outputs; the references are independent of
`kerasrnn`: Keras's layers, and NumPy.
"""

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
from tests.measure import PRECISION, measure, op_by_op, randomize

# The equations are compared; test_numbers.py compares the backends.
pytestmark = pytest.mark.tensorflow


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
