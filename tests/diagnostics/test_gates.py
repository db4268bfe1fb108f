"""Gates and recurrent kernels: recomputed with the oracles and numpy.linalg."""

import keras
import numpy as np
import pytest
from keras import ops

import kerasrnn
from kerasrnn.diagnostics import diagnose
from tests.catalogue import BUILT_IN, BY_NAME, PROBES, ROWS, variant_id
from tests.measure import make_mask, passing_masks
from tests.oracles import loop
from tests.oracles.activations import sigmoid

pytestmark = pytest.mark.tensorflow

UNITS, FEATURES = 3, 2
# The oracles compute the gates in this order.
GATES = {row.name: row.cell(UNITS).gate_names for row in ROWS}
# How much of a state is carried over, by its name: of cells that differ in kind.
CARRIES = {
    "SimpleRNN": {},
    "LSTM": {"c": lambda gates, cell: gates["f"]},
    "PeepholeLSTM": {"c": lambda gates, cell: gates["f"]},
    "LayerNormLSTM": {"c": lambda gates, cell: gates["f"]},
    "GRU": {"h": lambda gates, cell: gates["z"]},
    "MGU": {"h": lambda gates, cell: 1 - gates["f"]},
    "UGRNN": {"h": lambda gates, cell: gates["g"]},
    "MultiplicativeLSTM": {"c": lambda gates, cell: gates["f"]},
    "SCRN": {"h": lambda gates, cell: np.array([[0, 0, 0.95]])},
    "RHN": {"h": lambda gates, cell: np.prod([1 - t for t in gates.values()], axis=0)},
    "FastRNN": {"h": lambda gates, cell: np.full((1, UNITS), sigmoid(cell.beta.numpy()))},
    "FastGRNN": {"h": lambda gates, cell: gates["z"]},
    "CoRNN": {
        "y": lambda gates, cell: np.full((1, UNITS), 1 - cell.dt**2 * cell.gamma),
        "z": lambda gates, cell: np.full((1, UNITS), 1 - cell.dt * cell.epsilon),
    },
    "AntisymmetricRNN": {"h": lambda gates, cell: np.ones((1, UNITS))},
    "LEM": {
        "y": lambda gates, cell: 1 - gates["dt_bar"],
        "z": lambda gates, cell: 1 - gates["dt"],
    },
    "MUT1": {"h": lambda gates, cell: 1 - gates["z"]},
    "RAN": {"c": lambda gates, cell: gates["f"]},
    "MinimalRNN": {"h": lambda gates, cell: gates["u"]},
    "JANET": {"h": lambda gates, cell: gates["f"]},
    "STAR": {},  # the new state is an activation of the old one
    "BRC": {"h": lambda gates, cell: gates["c"]},
}
# CfC's gate has no columns of the bias, and the first step of SLSTM has an open input gate.
WITH_GATES = [row for row in ROWS if GATES[row.name] and row.name not in ("CfC", "SLSTM")]


def model_of(layer):
    inputs = keras.Input((None, FEATURES), dtype=layer.compute_dtype)
    return keras.Sequential([inputs, keras.layers.Masking(), layer])


def saturate(layer, seed=1):
    """Weights so large that gates are open and closed."""
    random = np.random.default_rng(seed)
    layer.set_weights([2.5 * random.standard_normal(w.shape) for w in layer.get_weights()])


class Recording:
    """An activation of an oracle that stores its outputs, call by call."""

    def __init__(self, function):
        self.function, self.values = function, []

    def __call__(self, p):
        self.values.append(self.function(p))
        return self.values[-1]


@pytest.mark.parametrize("row", [BY_NAME[name] for name in CARRIES], ids=variant_id)
def test_gates_and_candidates_equal_the_oracle(row):
    keras.config.set_dtype_policy("float64")
    mask = make_mask("gapped", 6, 9)
    mask[:, 2] = True
    x = np.random.default_rng(2).standard_normal((6, 9, FEATURES)) * mask[:, :, None]
    layer = row.layer(UNITS, name="layer", activation="tanh")
    model = model_of(layer)
    saturate(layer)

    diagnosis = diagnose(model, x, loss=ops.sum).layers["layer"]

    weights = {w.name: w.numpy() for w in layer.weights}
    states = [np.zeros((6, UNITS)) for _ in layer.state_size]
    gates = {name: [] for name in GATES[row.name]}
    candidates = []
    for t in range(9):
        used = mask[:, t]
        of_gates, of_others = Recording(sigmoid), Recording(np.tanh)
        observed = {"activation": of_others}
        if gates:
            observed["recurrent_activation"] = of_gates
        _, _, states = loop.run(
            row.oracle.step, x[:, t : t + 1], states, weights, mask=mask[:, t : t + 1], **observed
        )
        for name, value in zip(gates, of_gates.values, strict=True):
            gates[name].append(value[used])
        candidates.append(of_others.values[0][used])
    gates = {name: np.concatenate(values) for name, values in gates.items()}
    candidates = np.concatenate(candidates)
    assert list(diagnosis.gates) == list(gates)
    for name, values in gates.items():
        measured = diagnosis.gates[name]
        np.testing.assert_array_equal(measured.low, (values < 0.1).mean(axis=0))
        np.testing.assert_array_equal(measured.high, (values > 0.9).mean(axis=0))
        np.testing.assert_allclose(measured.mean, values.mean(axis=0), rtol=1e-10)
        assert 0 < measured.low.mean() < 1
        assert 0 < measured.high.mean() < 1
    np.testing.assert_array_equal(diagnosis.saturated, (np.abs(candidates) > 0.95).mean(axis=0))
    assert 0 < diagnosis.saturated.mean() < 1
    for name, state in diagnosis.states.items():
        carry = CARRIES[row.name].get(name)
        if carry is None:
            assert state.carry is None
            continue
        carry = carry(gates, layer.cell).mean(axis=0)
        np.testing.assert_allclose(state.carry, carry, rtol=1e-10)
        with np.errstate(divide="ignore"):
            constants = np.where(carry == 1, np.inf, -1 / np.log(carry))
        np.testing.assert_allclose(state.time_constants, constants, rtol=1e-8)


@pytest.mark.parametrize("row", [*WITH_GATES, *BUILT_IN[1:]], ids=variant_id)
def test_a_gate_has_the_name_of_its_block(row):
    """A bias of 9 on the columns of a gate opens this gate only."""
    x = np.ones((2, 3, FEATURES), "float32")
    built_in = row in BUILT_IN
    for cls in (row.layer, row.keras_layer) if built_in else (row.layer,):
        layer = passing_masks(cls(UNITS))
        model = model_of(layer)
        names = list(diagnose(model, x, loss=ops.sum).layers[layer.name].gates)
        assert len(names) == len(GATES[row.name])
        blocks = ("z", "r", "h") if cls is keras.layers.GRU else row.cell(UNITS).gates
        names = [name for name in names if name in blocks]  # JANET's 1 - i is that of f, shifted
        for name in names:
            bias = np.zeros_like(layer.cell.bias)
            start = blocks.index(name) * UNITS
            bias[..., start : start + UNITS] = 9
            layer.cell.bias.assign(bias)
            measured = diagnose(model, x, loss=ops.sum).layers[layer.name].gates
            assert [other for other in names if measured[other].high.all()] == [name]


@pytest.mark.parametrize("forget_gate", ["sigmoid", "exponential"])
def test_the_stabilized_gates_of_slstm(forget_gate):
    """Equations 15 to 17 of the paper, from the pre-activations, step by step."""
    keras.config.set_dtype_policy("float64")
    x = np.random.default_rng(2).standard_normal((4, 6, FEATURES)) + 0.1
    layer = kerasrnn.SLSTM(UNITS, forget_gate=forget_gate)
    model = model_of(layer)
    saturate(layer)
    found = diagnose(model, x, loss=ops.sum).layers[layer.name]

    kernel, recurrent_kernel, bias = layer.get_weights()
    h, c, n, m = np.zeros((4, 4, UNITS))
    gates = {"i": [], "f": [], "o": []}
    for t in range(6):
        log_i, p_f, z, p_o = np.split(x[:, t] @ kernel + h @ recurrent_kernel + bias, 4, axis=1)
        log_f = -np.logaddexp(0, -p_f) if forget_gate == "sigmoid" else p_f
        kept = log_f + m if t else np.full_like(m, -np.inf)  # nothing is stored at first
        m = np.maximum(kept, log_i)
        i, f, o = np.exp(log_i - m), np.exp(kept - m), sigmoid(p_o)
        c, n = f * c + i * np.tanh(z), f * n + i
        h = o * c / n
        for name, value in zip(gates, (i, f, o), strict=True):
            gates[name].append(value)
    assert list(found.gates) == list(gates)
    for name, values in gates.items():
        np.testing.assert_allclose(found.gates[name].mean, np.mean(values, axis=(0, 1)))
        np.testing.assert_allclose(found.gates[name].low, np.mean(np.array(values) < 0.1, (0, 1)))
    np.testing.assert_allclose(found.states["c"].carry, found.gates["f"].mean)


# From the weights: the matrices of cells whose recurrent kernel does not have a block per gate.
MATRICES = {
    "IndRNN": lambda weights: {"h": np.diag(weights["recurrent_kernel"])},
    "AntisymmetricRNN": lambda weights: {
        "h": weights["recurrent_kernel"] - weights["recurrent_kernel"].T - 0.1 * np.eye(UNITS)
    },
    "LSTMP": lambda weights: dict(
        zip(
            "ifco",
            np.split(weights["projection_kernel"] @ weights["recurrent_kernel"], 4, axis=1),
            strict=True,
        )
    ),
    "SCRN": lambda weights: {"h": np.c_[weights["recurrent_kernel"], [0, 0, 0.95]]},
    "BRC": lambda weights: dict(
        zip("ac", map(np.diag, np.split(weights["recurrent_kernel"], 2)), strict=True)
    ),
    "RAN": lambda weights: dict(
        zip("if", np.split(weights["recurrent_kernel"], 2, axis=1), strict=True)
    ),
    "FastGRNN": lambda weights: dict.fromkeys("zh", weights["recurrent_kernel"]),
}


@pytest.mark.parametrize(
    "row",
    [*PROBES, *(BY_NAME[name] for name in ("FastGRNN", "CoRNN", "BRC", "RAN"))],
    ids=variant_id,
)
def test_spectra_of_the_blocks(row):
    layer = row.layer(UNITS)
    model = model_of(layer)
    saturate(layer)

    diagnosis = diagnose(model, np.ones((1, 2, FEATURES), "float32"), loss=ops.sum)

    weights = {w.name: w.numpy().astype("float64") for w in layer.weights}
    if row.name in MATRICES:
        matrices = MATRICES[row.name](weights)
    elif weights["recurrent_kernel"].shape == (UNITS, len(layer.cell.gates) * UNITS):
        blocks = np.split(weights["recurrent_kernel"], len(layer.cell.gates), axis=1)
        matrices = dict(zip(layer.cell.gates, blocks, strict=True))
    else:
        matrices = {}  # no block maps a state to itself
    kernels = diagnosis.layers[layer.name].kernels
    assert list(kernels) == list(matrices)
    for name, u in matrices.items():
        # The library uses neither the characteristic polynomial nor U U^T.
        expected = [
            np.abs(np.roots(np.poly(u))).max(),
            np.sqrt(np.linalg.eigvalsh(u @ u.T).max()),
        ]
        found = [kernels[name].spectral_radius, kernels[name].largest_singular_value]
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_nilpotent_kernel_has_no_radius():
    layer = kerasrnn.SimpleRNN(2)
    model = model_of(layer)
    layer.cell.recurrent_kernel.assign([[0, 3], [0, 0]])
    diagnosis = diagnose(model, np.ones((1, 2, FEATURES), "float32"), loss=ops.sum)
    kernel = diagnosis.layers[layer.name].kernels["h"]
    assert kernel.spectral_radius == 0
    assert kernel.largest_singular_value == pytest.approx(3)


def test_a_custom_cell():
    """The carry is found without the cell's activations."""

    class LeakyCell(kerasrnn.Cell):
        def update(self, a, r, states, weights):
            h = 0.9 * states[0] + 0.1 * ops.tanh(a + r)
            return h, [h]

    layer = kerasrnn.RNN(LeakyCell(4))
    diagnosis = diagnose(model_of(layer), np.ones((2, 5, FEATURES), "float32"), loss=ops.sum)
    found = diagnosis.layers[layer.name]
    np.testing.assert_allclose(found.states["h"].carry, np.full(4, 0.9), rtol=1e-6)
    assert found.saturated is None
    assert not found.gates


def test_the_gates_of_a_feedback_cell():
    """They are the gates of the inner cell; y is a further state."""
    cell = kerasrnn.GRUCell(4, bias_initializer=keras.initializers.Constant(9))
    layer = kerasrnn.RNN(kerasrnn.FeedbackCell(cell, 2))
    diagnosis = diagnose(model_of(layer), np.ones((2, 5, FEATURES), "float32"), loss=ops.max)
    found = diagnosis.layers[layer.name]
    assert list(found.states) == ["h", "y"]
    assert found.gates["z"].high.all()
    assert found.states["h"].carry.min() > 0.99
    assert tuple(found.kernels) == cell.gates


def test_a_cell_that_is_not_a_kerasrnn_cell():
    """Its gradients are measured, its gates are not."""

    class Cell(keras.layers.Layer):
        state_size = 4

        def build(self, shape):
            self.kernel = self.add_weight(shape=(shape[-1], 4))

        def call(self, inputs, states):
            h = 0.5 * states[0] + inputs @ self.kernel
            return h, [h]

    layer = passing_masks(keras.layers.RNN(Cell()))
    diagnosis = diagnose(model_of(layer), np.ones((2, 5, FEATURES), "float32"), loss=ops.sum)
    found = diagnosis.layers[layer.name]
    np.testing.assert_allclose(found.states["h"].gradient_norms, 2 * 0.5 ** np.arange(5))
    assert not found.gates
    assert not found.kernels
    assert found.saturated is found.states["h"].carry is None
