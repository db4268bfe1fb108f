"""The cells that Keras lacks, compared with layers that it has, by tying their weights.

Each is one change to a known cell: for special weights, a known layer has the same outputs. The
references are independent of `kerasrnn`: Keras's layers, and onnxruntime for the peepholes.
"""

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
    (w_g, w_h), (u_g, u_h), (b_g, b_h) = split(layer.get_weights(), 2)
    none = np.zeros_like
    kernel, recurrent_kernel, bias = join(
        [w_g, none(w_g), w_h], [u_g, none(u_g), u_h], [b_g, np.full_like(b_g, 50), b_h]
    )
    known = keras.layers.GRU(UNITS, **OPTIONS)
    return known, [kernel, recurrent_kernel, np.stack([bias, np.zeros_like(bias)])]


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


def of_keras_layers(layer):
    """Keras's `LayerNormalization`, with its own epsilon."""
    kernel, recurrent_kernel, bias, gamma_x, gamma_h, gamma_c, beta_c = layer.get_weights()
    known = keras.layers.RNN(NormalizedCell(UNITS, dtype=PRECISION), **OPTIONS)
    return known, [kernel, recurrent_kernel, gamma_x, bias, gamma_h, gamma_c, beta_c]


KNOWN = [
    pytest.param(kerasrnn.PeepholeLSTM, lstm_without_peepholes, id="PeepholeLSTM"),
    pytest.param(kerasrnn.LayerNormLSTM, of_keras_layers, id="LayerNormLSTM"),
    pytest.param(kerasrnn.MGU, gru_with_one_gate, id="MGU"),
    pytest.param(kerasrnn.IndRNN, diagonal, id="IndRNN"),
    pytest.param(kerasrnn.UGRNN, gru_without_reset, id="UGRNN"),
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
