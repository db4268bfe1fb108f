"""dL/dh_t and dL/dc_t against closed forms, finite differences of the oracles, built-in twins."""

from collections import defaultdict

import keras
import numpy as np
import pytest
from keras import ops

import kerasrnn
from kerasrnn.diagnostics import diagnose
from kerasrnn.diagnostics.layer_diagnosis import memory_length
from tests.catalogue import BUILT_IN, BY_NAME, PROBES, variant_id
from tests.measure import make_mask, passing_masks, randomize
from tests.oracles import loop

pytestmark = pytest.mark.tensorflow

FEATURES = 3


@pytest.fixture
def double():
    """A fixture of tests/conftest.py resets the policy."""
    keras.config.set_dtype_policy("float64")


def sequences(batch=4, time=7, mask=None):
    x = np.random.default_rng(3).standard_normal((batch, time, FEATURES))
    return x if mask is None else np.where(mask[:, :, None], x, 0.0)


def model_of(*layers):
    """Steps of zeros are masked."""
    inputs = keras.Input((None, FEATURES), dtype=layers[0].compute_dtype)
    return keras.Sequential([inputs, keras.layers.Masking(), *layers])


def linear_rnn(units=4, **options):
    return kerasrnn.SimpleRNN(units, activation=None, **options)


def by_distance(norms, mask):
    """Means over the rows of `norms`, `(time, batch)`, by the number of valid steps that follow."""
    found = defaultdict(list)
    for row, used in enumerate(mask):
        for distance, t in enumerate(reversed(np.flatnonzero(used))):
            found[distance].append(norms[t, row])
    return [np.mean(found[distance]) for distance in range(len(found))]


# Closed forms.


@pytest.mark.usefixtures("double")
def test_the_gradient_of_a_linear_network_is_a_power_of_its_recurrent_kernel():
    """dL/dh_{T-d} = v (U^T)^d for L = sum h_T v."""
    layer = linear_rnn()
    model = model_of(layer)
    randomize(model)
    v = np.array([1.0, -2.0, 0.5, 3.0])

    diagnosis = diagnose(model, sequences(), loss=lambda h: ops.sum(h * v))

    state = diagnosis.layers[layer.name].states["h"]
    kernel = layer.get_weights()[1]
    expected = [np.linalg.norm(v @ np.linalg.matrix_power(kernel.T, d)) for d in range(7)]
    np.testing.assert_allclose(state.gradient_norms, expected, rtol=1e-12)
    assert diagnosis.axis == "distance"
    assert state.carry is None
    assert state.time_constants is None


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("steps", ["last", "all"])
def test_the_loss_of_the_last_or_of_all_steps(steps):
    """With L = sum over t of y_t v, dL/dh_t is the sum over k of v (U^T)^k, up to the end.

    The last step of the backward layer is the first of the sequence.
    """
    layer = kerasrnn.Bidirectional(linear_rnn(return_sequences=True), name="both")
    model = model_of(layer)
    randomize(model)
    v = np.arange(1.0, 9.0)

    diagnosis = diagnose(model, sequences(), loss=lambda y: ops.sum(y * v), steps=steps)

    assert diagnosis.axis == ("distance" if steps == "last" else "step")
    directions = (layer.forward_layer, layer.backward_layer)
    assert list(diagnosis.layers) == [f"both/{direction.name}" for direction in directions]
    for direction, of_y in zip(directions, (v[:4], v[4:]), strict=True):
        kernel = direction.get_weights()[1]
        powers = np.stack([of_y @ np.linalg.matrix_power(kernel.T, k) for k in range(7)])
        if steps == "all":
            powers = np.cumsum(powers, axis=0)[::-1]
        state = diagnosis.layers[f"both/{direction.name}"].states["h"]
        np.testing.assert_allclose(state.gradient_norms, np.linalg.norm(powers, axis=1), rtol=1e-12)
        assert np.isnan(state.memory) == (steps == "all")


def test_a_truncated_gradient():
    """It is cut before the steps 4 and 8 of ten, so the loss depends on the last two states."""
    model = model_of(linear_rnn(truncate_every=4))

    diagnosis = diagnose(model, sequences(time=10), loss=ops.sum)

    (layer,) = diagnosis.layers.values()
    norms = layer.states["h"].gradient_norms
    assert (norms[:2] > 0).all()
    assert not norms[2:].any()


# Finite differences of the oracles.


def differences(loss, states, n, epsilon=1e-6):
    """d loss / d states[n] by central differences; `loss(states)` returns one number per row."""
    gradient = np.zeros_like(states[n])
    for unit in range(states[n].shape[1]):
        ends = []
        for sign in (1, -1):
            moved = [s.copy() for s in states]
            moved[n][:, unit] += sign * epsilon
            ends.append(loss(moved))
        gradient[:, unit] = (ends[0] - ends[1]) / (2 * epsilon)
    return gradient


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    ("row", "go_backwards"),
    [*((row, False) for row in PROBES), (BY_NAME["GRU"], True)],
    ids=variant_id,
)
def test_gradients_of_the_states_with_a_mask(row, go_backwards):
    """The oracle continues from every h_t, and for LSTM from every c_t, slightly changed."""
    mask = make_mask("gapped", 4, 7)
    mask[0] = True
    x = sequences(mask=mask)
    layer = row.layer(3, go_backwards=go_backwards)
    model = model_of(layer)
    randomize(model)
    v = np.array([1.0, -2.0, 0.5])

    diagnosis = diagnose(model, x, loss=lambda h: ops.sum(h * v))

    if go_backwards:
        x, mask = x[:, ::-1], mask[:, ::-1]
    weights = {w.name: w.numpy() for w in layer.weights}
    states = [np.zeros((4, 3)) for _ in layer.state_size]
    norms = {name: np.zeros((7, 4)) for name in layer.cell.state_names}
    first = layer.cell.state_names[0]
    for t in range(7):
        _, _, states = loop.run(
            row.oracle.step, x[:, t : t + 1], states, weights, mask=mask[:, t : t + 1]
        )

        def loss_from(states, t=t):
            if t < 6:
                _, _, states = loop.run(
                    row.oracle.step, x[:, t + 1 :], states, weights, mask=mask[:, t + 1 :]
                )
            return states[0] @ v

        norms[first][t] = np.linalg.norm(differences(loss_from, states, 0), axis=1)
        if row.layer is kerasrnn.LSTM:
            # h_t = o_t tanh(c_t) moves with c_t; before the first used step both are zero.
            h, c = states
            o = np.divide(h, np.tanh(c), out=np.zeros_like(h), where=c != 0)
            moved = differences(lambda s, o=o: loss_from([o * np.tanh(s[1]), s[1]]), states, 1)
            norms["c"][t] = np.linalg.norm(moved, axis=1)
    measured = diagnosis.layers[layer.name].states
    for name in ["h", "c"] if row.layer is kerasrnn.LSTM else [first]:
        expected = by_distance(norms[name], mask)
        np.testing.assert_allclose(measured[name].gradient_norms, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.usefixtures("double")
def test_norms_by_step_exclude_masked_rows():
    """A masked step repeats the previous output, which counts twice in L = sum y_t v."""
    mask = np.array([[True, True, True, False], [False, True, True, False]])
    layer = linear_rnn(return_sequences=True)
    model = model_of(layer)
    randomize(model)
    v = np.array([1.0, -2.0, 0.5, 3.0])

    diagnosis = diagnose(model, sequences(2, 4, mask), loss=lambda y: ops.sum(y * v), steps="all")

    back = layer.get_weights()[1].T
    third = 2 * v
    second = v + third @ back
    first = v + second @ back  # of the one row that uses it
    np.testing.assert_allclose(
        diagnosis.layers[layer.name].states["h"].gradient_norms,
        [*(np.linalg.norm(d) for d in (first, second, third)), np.nan],
        rtol=1e-12,
    )


# Other paths to the same numbers.


def diagnosis_of(layer, weights, x):
    model = model_of(layer, keras.layers.Dense(1))
    layer.set_weights(weights)
    model.layers[-1].set_weights([np.ones((layer.output.shape[-1], 1)), np.zeros(1)])
    return diagnose(model, x, np.ones((len(x), 1)), "mse")


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("row", BUILT_IN, ids=variant_id)
def test_diagnoses_of_keras_layers_are_the_same(row):
    """Also of a backward layer, in Keras's `Bidirectional`."""
    x = sequences(mask=make_mask("gapped", 4, 7, seed=2) | (np.arange(7) == 0))
    ours = kerasrnn.Bidirectional(row.layer(3))
    twin = passing_masks(keras.layers.Bidirectional(row.keras_layer(3)))
    ours.build(x.shape)
    randomize(ours)
    weights = ours.get_weights()

    layers = [list(diagnosis_of(one, weights, x).layers.values()) for one in (ours, twin)]

    assert len(layers[0]) == len(layers[1]) == 2
    for one, other in zip(*layers, strict=True):
        for state, expected in other.states.items():
            np.testing.assert_allclose(
                one.states[state].gradient_norms, expected.gradient_norms, rtol=1e-10
            )
            if expected.carry is not None:
                np.testing.assert_allclose(one.states[state].carry, expected.carry, rtol=1e-10)
        pairs = list(zip(one.gates.values(), other.gates.values(), strict=True))
        assert [expected.name for _, expected in pairs] == {
            "SimpleRNN": [],
            "LSTM": ["i", "f", "o"],
            "GRU": ["z", "r"],
        }[row.name]
        for gate, expected in pairs:
            np.testing.assert_allclose(gate.mean, expected.mean, rtol=1e-10)
        for kernel, expected in zip(one.kernels.values(), other.kernels.values(), strict=True):
            assert kernel.spectral_radius == pytest.approx(expected.spectral_radius)


def test_loss_and_weight_gradients_equal_those_of_training():
    import tensorflow as tf

    tokens = np.random.default_rng(0).integers(1, 9, (5, 6))
    tokens[2:, 4:] = 0
    targets = tokens % 3
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(9, 4, mask_zero=True),
            kerasrnn.StackedRNN(
                [
                    kerasrnn.Bidirectional(kerasrnn.LSTM(3, name="lstm"), name="both"),
                    kerasrnn.GRU(3, name="gru"),
                ],
                return_sequences=True,
                name="stack",
            ),
            keras.layers.Dense(3, activation="softmax", kernel_regularizer="l2"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")

    whole, last = (diagnose(model, tokens, targets, steps=steps) for steps in ("all", "last"))

    with tf.GradientTape() as tape:
        outputs = model(tokens)
        loss = model.compute_loss(tokens, targets, outputs)
    weights = [v.value for v in model.trainable_variables]
    gradients = [tf.convert_to_tensor(g) for g in tape.gradient(loss, weights)]
    np.testing.assert_allclose(whole.loss, loss, rtol=1e-6)
    np.testing.assert_allclose(whole.weight_gradient_norm, tf.linalg.global_norm(gradients), 1e-5)
    ends = np.array([5, 5, 3, 3, 3])
    chosen = outputs.numpy()[np.arange(5), ends, targets[np.arange(5), ends]]
    penalty = 0.01 * np.sum(np.square(model.layers[-1].kernel.numpy()))
    np.testing.assert_allclose(last.loss, -np.log(chosen).mean() + penalty, rtol=1e-6)
    assert list(last.layers) == [
        "stack/both/lstm",
        "stack/both/backward_lstm",
        "stack/gru",
    ]


def test_the_gradient_of_an_encoder_comes_from_its_decoder():
    """dL/dh_T and dL/dc_T of the encoder are the gradients of the decoder's initial states.

    c_T reaches the loss through h_T too.
    """
    import tensorflow as tf

    source, previous = keras.Input((None, FEATURES)), keras.Input((None, FEATURES))
    encoder = kerasrnn.LSTM(4, return_state=True, name="encoder")
    decoder = kerasrnn.LSTM(4, return_sequences=True, name="decoder")
    _, h, c = encoder(source)
    model = keras.Model([source, previous], decoder(previous, initial_state=[h, c]))
    x = sequences().astype("float32")

    diagnosis = diagnose(model, [x, x[:, :3]], loss=ops.sum)

    _, h, c = encoder(x)
    with tf.GradientTape() as tape:
        tape.watch([h, c])
        loss = tf.reduce_sum(decoder(x[:, :3], initial_state=[h, c])[:, -1])
    d_h, d_c = tape.gradient(loss, [h, c])
    o = h / tf.tanh(c)
    expected = {"h": d_h, "c": d_c + d_h * o * (1 - tf.tanh(c) ** 2)}
    for name, gradient in expected.items():
        norms = diagnosis.layers["encoder"].states[name].gradient_norms
        assert len(norms) == 7
        np.testing.assert_allclose(norms[0], np.linalg.norm(gradient, axis=1).mean(), rtol=1e-4)
    assert len(diagnosis.layers["decoder"].states["h"].gradient_norms) == 3


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    ("query", "input_feeding"), [("state", True), ("output", True), ("output", False)]
)
def test_the_inner_cell_of_an_attention_cell(query, input_feeding):
    """Its states and gates equal those of the steps called one by one."""
    import tensorflow as tf

    cell = kerasrnn.AttentionCell(
        kerasrnn.LSTMCell(4),
        kerasrnn.LuongAttention("general"),
        query=query,
        input_feeding=input_feeding,
    )
    layer = kerasrnn.RNN(cell)
    steps, source = (keras.Input((None, width), dtype="float64") for width in (FEATURES, 2))
    model = keras.Model([steps, source], layer(steps, memory=source))
    randomize(model)
    x, memory = sequences(), np.random.default_rng(4).standard_normal((4, 5, 2))
    v = np.random.default_rng(5).standard_normal(6)

    found = diagnose(model, [x, memory], loss=lambda y: ops.sum(y * v)).layers[layer.name]

    prepared, h, c = cell.prepare_memory(memory), [], []
    with tf.GradientTape() as tape:
        tape.watch(prepared)
        states = cell.get_initial_state(prepared=prepared)
        for t in range(x.shape[1]):
            y, states = cell(tf.constant(x[:, t]), states, prepared=prepared)
            h.append(states[0])
            c.append(states[1])
        loss = tf.reduce_sum(y * v)
    for name, gradients in zip("hc", tape.gradient(loss, [h, c]), strict=True):
        norms = [np.linalg.norm(d, axis=-1).mean() for d in reversed(gradients)]
        np.testing.assert_allclose(found.states[name].gradient_norms, norms, rtol=1e-10)
    assert list(found.states) == ["h", "c"]
    assert set(found.gates) == {"i", "f", "o"}
    assert found.cell == "AttentionCell"


def test_a_layer_called_twice_is_measured_twice():
    class Twice(keras.Model):
        def __init__(self):
            super().__init__()
            self.layer = linear_rnn(name="shared")

        def call(self, x):
            return self.layer(x) + 3 * self.layer(x[:, :4])

    diagnosis = diagnose(Twice(), sequences(), loss=ops.sum)

    first, second = (diagnosis.layers[n].states["h"] for n in ("shared", "shared:2"))
    assert len(first.gradient_norms) == 7
    np.testing.assert_allclose(second.gradient_norms, 3 * first.gradient_norms[:4], rtol=1e-5)


def test_fixed_weights_and_half_precision():
    """Weights that are not trainable do not change the gradient; float16 hardly does."""

    class FixedCell(kerasrnn.LSTMCell):
        def add_weight(self, *args, **options):
            return super().add_weight(*args, trainable=False, **options)

    x = sequences()
    layer = kerasrnn.LSTM(4, name="lstm")
    model = model_of(layer)
    expected = diagnose(model, x, loss=ops.sum)
    fixed = model_of(kerasrnn.RNN(FixedCell(4), name="lstm"))
    fixed.set_weights(model.get_weights())
    flowing = diagnose(fixed, x, loss=ops.sum)
    keras.config.set_dtype_policy("mixed_float16")
    half = model_of(kerasrnn.LSTM(4, name="lstm"))
    half.set_weights(model.get_weights())
    rough = diagnose(half, x, loss=lambda h: ops.sum(ops.cast(h, "float32")))

    assert flowing.weight_gradient_norm == 0 < expected.weight_gradient_norm
    for name, state in expected.layers["lstm"].states.items():
        same = flowing.layers["lstm"].states[name].gradient_norms
        np.testing.assert_array_equal(same, state.gradient_norms)
        near = rough.layers["lstm"].states[name].gradient_norms
        np.testing.assert_allclose(near, state.gradient_norms, rtol=0.01)


# The memory.


def test_memory_is_the_time_constant_of_an_exponential():
    distances = np.arange(50)
    assert memory_length(3 * 0.9**distances) == pytest.approx(-1 / np.log(0.9))
    assert memory_length(1e-30 * 0.3**distances) == pytest.approx(-1 / np.log(0.3))


@pytest.mark.parametrize(
    ("norms", "memory"),
    [
        ([1.0, 1.0, 1.0], np.inf),
        ([1.0, 4.0, np.inf], np.inf),
        ([1.0, 0.0, 0.0], 0.0),  # cut short
        ([1.0, 0.1, 1.0, np.exp(-2.0)], 2.5),  # it counts where it falls for the last time
        ([0.0, 0.0], np.nan),
        ([1.0, np.nan], np.nan),
        ([1.0], np.inf),
    ],
)
def test_memory_of_other_curves(norms, memory):
    np.testing.assert_allclose(memory_length(np.array(norms)), memory)


def test_memory_of_one_linear_unit():
    layer = linear_rnn(1)
    model = model_of(layer)
    layer.set_weights([np.ones((FEATURES, 1)), np.array([[0.8]]), np.zeros(1)])
    diagnosis = diagnose(model, sequences(time=12), loss=ops.sum)
    memory = diagnosis.layers[layer.name].memory
    assert memory == pytest.approx(-1 / np.log(0.8), rel=1e-5)


# Errors.


def gru():
    return model_of(kerasrnn.GRU(2))


def in_a_function():
    import tensorflow as tf

    class Compiled(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.layer = kerasrnn.GRU(2)
            self.layer.build((None, None, FEATURES))
            self.built = True

        @tf.function
        def call(self, x):
            return self.layer(x)

    return keras.Sequential([keras.Input((7, FEATURES)), Compiled()])


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (lambda: model_of(keras.layers.Dense(1)), {}, "model=.*with recurrent layers"),
        (lambda: kerasrnn.GRU(2), {}, "model=.*expected a keras.Model"),
        (gru, {"steps": "first"}, "steps='first': expected 'last' or 'all'"),
        (gru, {"loss": None}, "loss=None: the model is not compiled"),
        (gru, {"loss": "mse"}, "y=None: loss='mse'"),
        (gru, {"loss": keras.losses.MeanSquaredError()}, "y=None"),
        (gru, {"loss": lambda h: h}, r"loss has the shape \(4, 2\); expected a scalar"),
        pytest.param(in_a_function, {}, "compiled function", marks=pytest.mark.traced),
        (
            lambda: model_of(
                passing_masks(keras.layers.RNN([keras.layers.LSTMCell(2) for _ in range(2)]))
            ),
            {},
            r"StackedRNNCells have the sizes .*kerasrnn\.StackedRNN",
        ),
    ],
)
def test_errors(model, options, message):
    with pytest.raises(ValueError, match=message):
        diagnose(model(), sequences(), **{"loss": ops.sum, **options})


def test_targets_of_a_wrong_shape():
    model = model_of(kerasrnn.GRU(2, return_sequences=True))
    x = sequences()
    with pytest.raises(ValueError, match=r"y has the shape \(4, 2\).*a target at every step"):
        diagnose(model, x, np.ones((4, 2)), "mse")
    with pytest.raises(ValueError, match="expected the structure of the outputs"):
        diagnose(model, x, [np.ones((4, 7, 2))] * 2, "mse")


def test_sequences_that_are_fully_masked():
    with pytest.raises(ValueError, match=r"gru.*all steps of x are masked"):
        diagnose(gru(), np.zeros((2, 3, FEATURES)), loss=ops.sum)


def test_other_backends_raise_an_error(monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(ValueError, match=r"the jax backend.*expected tensorflow"):
        diagnose(gru(), sequences(), loss=ops.sum)
