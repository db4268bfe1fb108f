"""The cells that Keras lacks, compared with layers that it has, by tying their weights.

Each changes a known cell: for special weights, a known layer has the same outputs. The references
are independent of `kerasrnn`: Keras's layers, and onnxruntime for the peepholes.
"""

import functools

import keras
import numpy as np
import pytest

import kerasrnn
from tests.measure import (
    PRECISION,
    TIGHT,
    make_mask,
    measure,
    op_by_op,
    passing_masks,
    randomize,
)

# The equations are compared; test_numbers.py compares the backends.
pytestmark = pytest.mark.tensorflow

UNITS, FEATURES = 5, 3
OPTIONS = {"return_sequences": True, "return_state": True, "dtype": PRECISION}


def split(weights, gates):
    """The blocks of columns of each weight."""
    return [np.split(weight, gates, axis=-1) for weight in weights]


def join(*weights):
    return [np.concatenate(blocks, axis=-1) for blocks in weights]


def lstm_without_peepholes(layer):
    """LSTM: the peephole kernel is zero."""
    kernel, recurrent_kernel, bias, peephole_kernel = layer.get_weights()
    layer.set_weights([kernel, recurrent_kernel, bias, np.zeros_like(peephole_kernel)])
    return keras.layers.LSTM(UNITS, **OPTIONS), [kernel, recurrent_kernel, bias]


def gru_with_one_gate(layer):
    """GRU: the reset gate is f, the update gate 1 - f, and 1 - sigmoid(p) = sigmoid(-p)."""
    blocks = split(layer.get_weights(), 2)
    known = keras.layers.GRU(UNITS, reset_after=False, **OPTIONS)
    return known, join(*([-f, f, h] for f, h in blocks))


def gru_without_reset(layer):
    """GRU: the reset gate is exactly one."""
    return _without_reset(layer, *split(layer.get_weights(), 2))


def _without_reset(layer, kernels, recurrent_kernels, biases):
    """GRU with the weights of a gate that retains the state, and of the candidate."""
    (w_g, w_h), (u_g, u_h), (b_g, b_h) = kernels, recurrent_kernels, biases
    none = np.zeros_like
    kernel, recurrent_kernel, bias = join(
        [w_g, none(w_g), w_h], [u_g, none(u_g), u_h], [b_g, np.full_like(b_g, 50), b_h]
    )
    known = keras.layers.GRU(UNITS, activation=layer.cell.activation, **OPTIONS)
    return known, [kernel, recurrent_kernel, np.stack([bias, np.zeros_like(bias)])]


def gru_of_the_inputs(layer):
    """GRU: the candidate does not read the state; k is 1 minus the update gate."""
    kernel, u_k, bias = layer.get_weights()
    (w_k, w_z), (b_k, b_z) = split([kernel, bias], 2)
    return _without_reset(layer, (-w_k, w_z), (-u_k, np.zeros_like(u_k)), (-b_k, b_z))


def gru_of_the_encoder(layer):
    """GRU: the encoder is linear, so that its kernel and that of the gate are one matrix."""
    kernel, u_h, bias, u_z = layer.get_weights()
    ((b_u, b_z),) = split([bias], 2)
    kernels, biases = (kernel @ u_z, kernel), (b_z @ u_z + b_u, b_z)
    return _without_reset(layer, kernels, (u_h, np.zeros_like(u_h)), biases)


def gru_with_the_reset_gate_before(layer):
    """GRU: z is 1 minus the update gate."""
    blocks = split(layer.get_weights(), 3)
    known = keras.layers.GRU(UNITS, reset_after=False, **OPTIONS)
    return known, join(*([-z, r, h] for z, r, h in blocks))


def gru_without_the_inner_tanh(layer):
    """GRU: the candidate of MUT1 and the update gate of MUT3 read no tanh of 0."""
    kernel, recurrent_kernel, bias = layer.get_weights()
    (w_z, w_r, w_h), (b_z, b_r, b_h) = split([kernel, bias], 3)
    if isinstance(layer, kerasrnn.MUT1):
        u_r, u_h = np.split(recurrent_kernel, 2, axis=-1)
        w_h = np.zeros_like(w_h)
    else:
        _, u_r, u_h = np.split(recurrent_kernel, 3, axis=-1)
    u_z = np.zeros_like(u_h)
    own = [u_r, u_h] if isinstance(layer, kerasrnn.MUT1) else [u_z, u_r, u_h]
    layer.set_weights([*join([w_z, w_r, w_h], own), bias])
    known = keras.layers.GRU(UNITS, reset_after=False, **OPTIONS)
    return known, join([-w_z, w_r, w_h], [-u_z, u_r, u_h], [-b_z, b_r, b_h])


def gru_with_feedback(layer):
    """GRU: each unit is fed back to itself, and a = 1 + tanh(p) is twice the reset gate of 2 p."""
    kernel, recurrent_kernel, bias = layer.get_weights()
    ((u_a, u_c, u_h),) = split([kernel], 3)
    w_a, w_c = (np.diag(w) if w.ndim == 1 else w for w in np.split(recurrent_kernel, 2, axis=-1))
    b_a, b_c = np.split(bias, 2)
    kernel, recurrent_kernel, bias = join(
        [u_c, 2 * u_a, u_h], [w_c, 2 * w_a, 2 * np.eye(UNITS)], [b_c, 2 * b_a, np.zeros(UNITS)]
    )
    known = keras.layers.GRU(UNITS, **OPTIONS)
    return known, [kernel, recurrent_kernel, np.stack([bias, np.zeros_like(bias)])]


def lstm_with_one_gate_less(layer):
    """LSTM: i = 1 - f, and 1 - sigmoid(p) = sigmoid(-p)."""
    blocks = split(layer.get_weights(), 3)
    return keras.layers.LSTM(UNITS, **OPTIONS), join(*([-f, f, c, o] for f, c, o in blocks))


def lstm_without_output_gate(layer):
    """LSTM: it is linear, the candidate reads the inputs alone, and the output gate is one."""
    kernel, recurrent_kernel, bias = layer.get_weights()
    ((w_i, w_f, w_c),) = split([kernel], 3)
    (u_i, u_f), (b_i, b_f) = split([recurrent_kernel, bias], 2)
    known = keras.layers.LSTM(UNITS, activation=None, **OPTIONS)
    return known, join(
        [w_i, w_f, w_c, np.zeros_like(w_c)],
        [u_i, u_f, np.zeros_like(u_i), np.zeros_like(u_i)],
        [b_i, b_f, np.zeros_like(b_i), np.full_like(b_i, 50)],
    )


def diagonal(layer):
    """SimpleRNN: the recurrent kernel is diagonal."""
    kernel, recurrent_kernel, bias = layer.get_weights()
    known = keras.layers.SimpleRNN(UNITS, activation="relu", **OPTIONS)
    return known, [kernel, np.diag(recurrent_kernel), bias]


class NormalizedCell(keras.layers.Layer):
    """Equations 20 to 22 of the supplement of Ba, Kiros & Hinton (2016), in Keras's layers."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.state_size, self.output_size = [units, units], units
        dense, normalize = keras.layers.Dense, keras.layers.LayerNormalization
        self.of_x = dense(4 * units, use_bias=False, dtype=PRECISION)
        self.of_h = dense(4 * units, use_bias=False, dtype=PRECISION)
        self.norm_x = normalize(dtype=PRECISION)  # beta: the paper's two shifts and b
        self.norm_h = normalize(center=False, dtype=PRECISION)
        self.norm_c = normalize(dtype=PRECISION)

    def build(self, shape):
        units = self.output_size
        self.of_x.build(shape)
        self.of_h.build((None, units))
        self.norm_x.build((None, 4 * units))
        self.norm_h.build((None, 4 * units))
        self.norm_c.build((None, units))

    def call(self, x, states):
        h, c = states
        sums = self.norm_x(self.of_x(x)) + self.norm_h(self.of_h(h))
        i, f, g, o = keras.ops.split(sums, 4, axis=-1)
        c = keras.ops.sigmoid(f) * c + keras.ops.sigmoid(i) * keras.ops.tanh(g)
        h = keras.ops.sigmoid(o) * keras.ops.tanh(self.norm_c(c))
        return h, [h, c]


class NormalizedGRUCell(keras.layers.Layer):
    """Equations 26 to 28 of the supplement of Ba, Kiros & Hinton (2016), in Keras's layers."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.state_size = self.output_size = units
        dense = functools.partial(keras.layers.Dense, use_bias=False, dtype=PRECISION)
        normalize = functools.partial(keras.layers.LayerNormalization, dtype=PRECISION)
        self.parts = {
            "x_g": (dense(2 * units), normalize()),
            "x_h": (dense(units), normalize()),
            "h_g": (dense(2 * units), normalize(center=False)),
            "h_h": (dense(units), normalize()),
        }

    def build(self, shape):
        for name, (dense, normalize) in self.parts.items():
            dense.build(shape if name[0] == "x" else (None, self.output_size))
            normalize.build((None, dense.units))

    def call(self, x, states):
        (h,) = states
        x_g, x_h, h_g, h_h = (
            normalize(dense(x if name[0] == "x" else h))
            for name, (dense, normalize) in self.parts.items()
        )
        z, r = keras.ops.split(keras.ops.sigmoid(x_g + h_g), 2, axis=-1)
        candidate = keras.ops.tanh(x_h + r * h_h)
        h = (1 - z) * h + z * candidate
        return h, [h]


def gru_of_keras_layers(layer):
    """Keras's `LayerNormalization`, with its own epsilon; the paper's z is 1 - z."""
    kernel, recurrent_kernel, bias, gamma_x, gamma_h, beta = layer.get_weights()
    known = keras.layers.RNN(NormalizedGRUCell(UNITS, dtype=PRECISION), **OPTIONS)
    weights = []
    for matrix, gain, shifts in (
        (kernel, gamma_x, [bias[: 2 * UNITS], bias[2 * UNITS :]]),
        (recurrent_kernel, gamma_h, [None, beta]),
    ):
        (z, r, h), (gain_z, gain_r, gain_h) = split([matrix, gain], 3)
        # A gain of the other sign is a gate of the other sign, after the normalization.
        weights += [np.concatenate([z, r], axis=-1), np.concatenate([-gain_z, gain_r])]
        if shifts[0] is not None:
            b_z, b_r = np.split(shifts[0], 2)
            weights.append(np.concatenate([-b_z, b_r]))
        weights += [h, gain_h, shifts[1]]
    return known, weights


def of_keras_layers(layer):
    """Keras's `LayerNormalization`, with its own epsilon."""
    kernel, recurrent_kernel, bias, gamma_x, gamma_h, gamma_c, beta_c = layer.get_weights()
    known = keras.layers.RNN(NormalizedCell(UNITS, dtype=PRECISION), **OPTIONS)
    return known, [kernel, recurrent_kernel, gamma_x, bias, gamma_h, gamma_c, beta_c]


def linear(layer_class):
    return functools.partial(layer_class, activation=None)


KNOWN = [
    pytest.param(kerasrnn.PeepholeLSTM, lstm_without_peepholes, id="PeepholeLSTM"),
    pytest.param(kerasrnn.LayerNormLSTM, of_keras_layers, id="LayerNormLSTM"),
    pytest.param(kerasrnn.MGU, gru_with_one_gate, id="MGU"),
    pytest.param(kerasrnn.IndRNN, diagonal, id="IndRNN"),
    pytest.param(kerasrnn.UGRNN, gru_without_reset, id="UGRNN"),
    pytest.param(kerasrnn.LayerNormGRU, gru_of_keras_layers, id="LayerNormGRU"),
    pytest.param(kerasrnn.CoupledLSTM, lstm_with_one_gate_less, id="CoupledLSTM"),
    pytest.param(kerasrnn.MUT1, gru_without_the_inner_tanh, id="MUT1"),
    pytest.param(kerasrnn.MUT2, gru_with_the_reset_gate_before, id="MUT2"),
    pytest.param(kerasrnn.MUT3, gru_without_the_inner_tanh, id="MUT3"),
    pytest.param(linear(kerasrnn.RAN), lstm_without_output_gate, id="RAN"),
    pytest.param(linear(kerasrnn.MinimalRNN), gru_of_the_encoder, id="MinimalRNN"),
    pytest.param(functools.partial(kerasrnn.JANET, beta=0.0), gru_without_reset, id="JANET"),
    pytest.param(kerasrnn.LiGRU, gru_without_reset, id="LiGRU"),
    pytest.param(linear(kerasrnn.STAR), gru_of_the_inputs, id="STAR"),
    pytest.param(kerasrnn.BRC, gru_with_feedback, id="BRC"),
    pytest.param(kerasrnn.NBRC, gru_with_feedback, id="NBRC"),
]


@pytest.mark.parametrize(("layer_class", "make_known"), KNOWN)
def test_equals_a_known_layer(layer_class, make_known):
    """Outputs, final states, and the gradients of the inputs and the initial states."""
    layer = layer_class(UNITS, **OPTIONS)
    layer.build((None, None, FEATURES))
    randomize(layer)
    known, weights = make_known(layer)
    passing_masks(known).build((None, None, FEATURES))
    known.set_weights(weights)
    random = np.random.default_rng(0)
    x = random.standard_normal((4, 6, FEATURES)).astype(PRECISION)
    states = random.standard_normal((len(layer.state_size), 4, UNITS)).astype(PRECISION)
    for kind in ("none", "right"):
        mask = make_mask(kind, 4, 6)
        with op_by_op():
            actual, expected = (measure(one, x, list(states), mask) for one in (layer, known))
        for a, b in zip(
            [*actual.outputs, actual.d_inputs, *actual.d_states],
            [*expected.outputs, expected.d_inputs, *expected.d_states],
            strict=True,
        ):
            np.testing.assert_allclose(a, b, rtol=0, atol=TIGHT * max(1, np.abs(b).max()))


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_the_input_part_of_a_light_gru_is_normalized_as_by_keras(dropout):
    """In training over the valid steps, and then by the moving averages: outputs and gradients."""
    options = {"return_sequences": True, "dtype": PRECISION, "seed": 3}
    layer = kerasrnn.LiGRU(UNITS, normalization="batch", momentum=0.8, dropout=dropout, **options)
    layer.build((None, None, FEATURES))
    randomize(layer)
    layer.cell.moving_variance.assign(np.full(2 * UNITS, 0.7))
    kernel, recurrent_kernel, shift, gain, mean, variance = layer.get_weights()

    class Known(keras.layers.Layer):
        """A product, Keras's normalization, and a LiGRU that reads the result itself."""

        def __init__(self):
            super().__init__(dtype=PRECISION)
            self.supports_masking = True
            self.drop = kerasrnn.LiGRUCell(UNITS, dropout=dropout, seed=3, dtype=PRECISION)
            self.dense = keras.layers.Dense(2 * UNITS, use_bias=False, dtype=PRECISION)
            self.normalize = keras.layers.BatchNormalization(momentum=0.8, dtype=PRECISION)
            self.light = kerasrnn.LiGRU(UNITS, use_bias=False, **options)

        def build(self, shape):
            self.dense.build(shape)
            for part in (self.normalize, self.light):
                part.build((None, None, 2 * UNITS))

        def call(self, x, initial_state=None, mask=None, training=False):
            dropped = self.drop.get_dropout_mask(x[:, 0]) if training else None
            x = x if dropped is None else x * dropped[:, None]
            self.drop.reset_dropout_mask()
            p = self.normalize(self.dense(x), training=training, mask=mask)
            return self.light(p, mask=mask)

    x = np.random.default_rng(0).standard_normal((4, 6, FEATURES)).astype(PRECISION)
    known = Known()
    known.build(x.shape)
    known.dense.set_weights([kernel])
    known.normalize.set_weights([gain, shift, mean, variance])
    known.light.set_weights([np.eye(2 * UNITS), recurrent_kernel])
    for training in (True, False, True):
        mask = make_mask("mixed", 4, 6)
        with op_by_op():
            actual, expected = (
                measure(one, x, mask=mask, training=training) for one in (layer, known)
            )
        # Keras adds 1e-7 to the number of valid steps.
        for a, b in [
            (actual.outputs[0], expected.outputs[0]),
            (actual.d_inputs, expected.d_inputs),
            (actual.d_weights[0], expected.d_weights[0]),  # of the kernel, that of the first layer
            *zip(layer.get_weights()[4:], known.normalize.get_weights()[2:], strict=True),
        ]:
            np.testing.assert_allclose(a, b, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("gain", "held"), [(1.5, 0.8586), (0.5, 0.0)])
def test_a_bistable_unit_holds_its_state(gain, held):
    """Without inputs: where tanh(a h) = h, of the sign of the first state, if a exceeds 1."""
    layer = kerasrnn.BRC(2)
    layer.build((None, None, 1))
    kernel, recurrent_kernel, bias = (np.zeros(w.shape) for w in layer.get_weights())
    bias[:2] = np.arctanh(gain - 1)
    layer.set_weights([kernel, recurrent_kernel, bias])
    with op_by_op():
        (h,) = layer(np.zeros((1, 200, 1)), initial_state=np.array([[0.1, -0.1]]))
    np.testing.assert_allclose(h, [held, -held], atol=1e-4)


@pytest.mark.parametrize("layer_class", [kerasrnn.MUT1, kerasrnn.MUT2])
def test_as_many_features_as_units_are_read_without_weights(layer_class):
    """As with a block of the kernel that is the identity, which other numbers of features have."""
    layer = layer_class(UNITS, return_sequences=True, dtype=PRECISION)
    layer.build((None, None, UNITS))
    randomize(layer)
    kernel, recurrent_kernel, bias = layer.get_weights()
    blocks = np.split(kernel, 2, axis=-1)
    blocks.insert(2 if layer_class is kerasrnn.MUT1 else 1, np.eye(UNITS))
    # Another feature, which is 0.
    wider = layer_class(UNITS, return_sequences=True, dtype=PRECISION)
    wider.build((None, None, UNITS + 1))
    kernel = np.concatenate(blocks, axis=-1)
    wider.set_weights([np.pad(kernel, ((0, 1), (0, 0))), recurrent_kernel, bias])
    x = np.random.default_rng(0).standard_normal((2, 4, UNITS)).astype(PRECISION)
    with op_by_op():
        expected = wider(np.pad(x, ((0, 0), (0, 0), (0, 1))))
        np.testing.assert_allclose(layer(x), expected, rtol=0, atol=TIGHT)


def test_peepholes_equal_those_of_onnx():
    """The LSTM operator of ONNX has peepholes; onnxruntime runs it with the same weights."""
    import onnx
    import onnxruntime

    layer = kerasrnn.PeepholeLSTM(UNITS, return_sequences=True, return_state=True)
    layer.build((None, None, FEATURES))
    randomize(layer)
    random = np.random.default_rng(0)
    x = random.standard_normal((4, 6, FEATURES)).astype("float32")
    h, c = random.standard_normal((2, 4, UNITS)).astype("float32")
    kernel, recurrent_kernel, bias, (v_i, v_f, v_o) = layer.get_weights()

    def in_its_order(weight):  # i, o, f, c
        i, f, c, o = np.split(weight, 4, axis=-1)
        return np.concatenate([i, o, f, c], axis=-1)

    inputs = {
        "X": x.transpose(1, 0, 2),
        "W": in_its_order(kernel).T[None],
        "R": in_its_order(recurrent_kernel).T[None],
        "B": np.concatenate([in_its_order(bias), np.zeros_like(bias)])[None],
        "h": h[None],
        "c": c[None],
        "P": np.concatenate([v_i, v_o, v_f])[None],
    }
    helper, number = onnx.helper, onnx.TensorProto.FLOAT
    node = helper.make_node(
        "LSTM", ["X", "W", "R", "B", "", "h", "c", "P"], ["Y", "Yh", "Yc"], hidden_size=UNITS
    )
    graph = helper.make_graph(
        [node],
        "peepholes",
        [helper.make_tensor_value_info(name, number, v.shape) for name, v in inputs.items()],
        [helper.make_tensor_value_info(name, number, None) for name in ("Y", "Yh", "Yc")],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8
    ).SerializeToString()
    session = onnxruntime.InferenceSession(model)
    y, y_h, y_c = session.run(None, inputs)
    with op_by_op():
        actual = layer(x, initial_state=[h, c])
    expected = [y[:, 0].transpose(1, 0, 2), y_h[0], y_c[0]]
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


def test_second_derivatives_of_a_normalization():
    """They equal finite differences of the gradient; those of `tf.nn.moments` do not."""
    import tensorflow as tf

    layer = kerasrnn.LayerNormLSTM(3, dtype="float64", bias_initializer="random_normal")
    random = np.random.default_rng(0)
    x, direction = random.standard_normal((2, 1, 4, 2))
    layer.build((None, None, 2))
    randomize(layer)

    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(layer(x) ** 3)
        return tape.gradient(y, x)

    x = tf.constant(x)
    step = 1e-5
    with op_by_op():
        with tf.GradientTape() as tape:
            tape.watch(x)
            along = tf.reduce_sum(gradient(x) * direction)
        slope = (gradient(x + step * direction) - gradient(x - step * direction)) / (2 * step)
        np.testing.assert_allclose(tape.gradient(along, x), slope, rtol=1e-6, atol=1e-8)
