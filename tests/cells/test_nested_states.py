"""Lists of cells, whose states are nested, and cells whose inputs have more axes."""

import keras
import numpy as np
import pytest
from keras import ops

import kerasrnn
from tests.measure import make_mask, op_by_op, passing_masks

X = np.random.default_rng(0).normal(size=(3, 4, 2)).astype("float32")
FRAMES = np.random.default_rng(0).normal(size=(3, 4, 5, 6, 2)).astype("float32")


@pytest.fixture(autouse=True)
def _op_by_op(request):
    """Only exports need a graph."""
    if request.node.get_closest_marker("tensorflow"):
        yield
        return
    with op_by_op():
        yield


def shapes(structure):
    return keras.tree.map_structure(lambda x: tuple(x.shape), structure)


def assert_equal(actual, expected):
    keras.tree.assert_same_structure(tuple(actual), tuple(expected))
    for a, b in zip(keras.tree.flatten(actual), keras.tree.flatten(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def pair(**options):
    """A list of two cells in our layer and in Keras's, with the same weights."""
    layer = kerasrnn.RNN([kerasrnn.LSTMCell(5), kerasrnn.GRUCell(7)], **options)
    cells = [keras.layers.LSTMCell(5), keras.layers.GRUCell(7)]
    twin = passing_masks(keras.layers.RNN(cells, **options))
    layer.build(X.shape)
    twin.build(X.shape)
    twin.set_weights(layer.get_weights())
    return layer, twin


def test_shapes():
    layer = kerasrnn.RNN([kerasrnn.LSTMCell(5), kerasrnn.LSTMCell(7)], return_state=True)
    expected = ((3, 7), [(3, 5), (3, 5)], [(3, 7), (3, 7)])
    assert layer.compute_output_shape(X.shape) == expected
    assert shapes(tuple(layer(keras.Input(batch_shape=X.shape)))) == expected
    assert shapes(tuple(layer(X))) == expected
    layer, _ = pair(return_state=True, return_sequences=True)
    expected = ((3, 4, 7), [(3, 5), (3, 5)], [(3, 7)])
    assert layer.compute_output_shape(X.shape) == expected
    assert shapes(tuple(layer(keras.Input(batch_shape=X.shape)))) == expected
    assert shapes(tuple(layer(X))) == expected


@pytest.mark.parametrize("go_backwards", [False, True])
def test_values(go_backwards):
    layer, twin = pair(return_state=True, return_sequences=True, go_backwards=go_backwards)
    mask = make_mask("gapped", 3, 4)
    states = [[np.full((3, 5), 0.5), np.full((3, 5), -0.5)], [np.full((3, 7), 0.25)]]
    if keras.config.backend() == "tensorflow":  # on JAX, Keras takes a state for the last output
        assert_equal(layer(X, mask=mask), twin(X, mask=mask))
    assert_equal(layer(X, initial_state=states), twin(X, initial_state=states))
    inputs = keras.tree.map_structure(lambda s: keras.Input(s.shape[1:]), states)
    sequences = keras.Input((None, 2))
    y, *finals = layer(sequences, initial_state=inputs)
    model = keras.Model([sequences, inputs], [y, finals])
    assert_equal(
        keras.tree.flatten(model([X, states])), keras.tree.flatten(twin(X, initial_state=states))
    )


def test_initial_states_with_another_structure():
    layer, _ = pair()
    with pytest.raises(ValueError, match=r"initial_state has the structure \[1, 1\].*expected \[2"):
        layer(X, initial_state=[np.zeros((3, 5)), np.zeros((3, 7))])


def test_stateful():
    layer, twin = pair(stateful=True)
    for _ in range(2):
        np.testing.assert_allclose(layer(X), twin(X), atol=1e-6)
    layer.reset_state()
    fresh = pair()[0]
    fresh.set_weights(layer.get_weights())
    np.testing.assert_allclose(layer(X), fresh(X), atol=1e-6)


def test_bidirectional_and_stacked():
    options = {"return_sequences": True, "return_state": True}
    layer, twin = pair(**options)
    both, both_of_keras = kerasrnn.Bidirectional(layer), keras.layers.Bidirectional(twin)
    both.build(X.shape)
    both_of_keras.build(X.shape)
    both_of_keras.set_weights(both.get_weights())
    assert_equal(both(X), both_of_keras(X))
    expected = ((3, 4, 14), *2 * ([(3, 5), (3, 5)], [(3, 7)]))
    assert shapes(tuple(both(keras.Input(batch_shape=X.shape)))) == expected
    stack = kerasrnn.StackedRNN(
        [kerasrnn.RNN([kerasrnn.LSTMCell(5), kerasrnn.GRUCell(7)]), kerasrnn.GRU(3)],
        return_state=True,
    )
    y, *states = stack(X)
    below, above = stack.layers
    h, *of_below = below(X)
    right, of_above = above(h)
    assert_equal([y, *states], [right, *of_below, of_above])
    # Step by step.
    states = stack.get_initial_state(3)
    for t in range(4):
        y, states = stack.step(X[:, t], states)
    np.testing.assert_allclose(y, right, atol=1e-6)
    with pytest.raises(ValueError, match="runs a list of cells; expected a layer for each of them"):
        kerasrnn.Decoder(7, [kerasrnn.RNN([kerasrnn.LSTMCell(5), kerasrnn.GRUCell(7)])])


class ConvCell(keras.layers.Layer):
    """A convolution of a frame and one of a state of its height and width."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.filters = self.state_size = self.output_size = filters
        self.of_input = keras.layers.Conv2D(filters, 3, padding="same")
        self.of_state = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)

    def build(self, input_shape):
        self.size = input_shape[1:3]
        self.of_input.build(input_shape)
        self.of_state.build((*input_shape[:3], self.filters))

    def get_initial_state(self, batch_size=None):
        return ops.zeros((batch_size, *self.size, self.filters))

    def call(self, inputs, states):
        h = ops.tanh(self.of_input(inputs) + self.of_state(states[0]))
        return h, [h]

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


def test_inputs_of_five_axes():
    """In Keras's own loop, whose symbolic shapes are wrong for such a cell."""
    cell, mask = ConvCell(3), make_mask("gapped", 3, 4)
    options = {"return_sequences": True, "return_state": True}
    layer, twin = kerasrnn.RNN(cell, **options), keras.layers.RNN(cell, **options)
    assert_equal(layer(FRAMES), twin(FRAMES))
    y, h = (np.asarray(x) for x in layer(FRAMES, mask=mask))
    for row in range(3):
        used = np.flatnonzero(mask[row])
        last = np.zeros_like(h[row])
        if used.size:
            right = np.asarray(twin(FRAMES[row : row + 1, used])[0])[0]
            np.testing.assert_allclose(y[row, used], right, atol=1e-6)
            last = right[-1]
        np.testing.assert_allclose(h[row], last, atol=1e-6)
        for t in np.flatnonzero(~mask[row]):  # the output before it is repeated
            before = y[row, t - 1] if t else np.zeros_like(y[row, t])
            np.testing.assert_array_equal(y[row, t], before)
    symbolic = keras.Input((None, 5, 6, 2))
    assert shapes(tuple(layer(symbolic))) == ((None, None, 5, 6, 3), (None, 5, 6, 3))
    assert layer.compute_output_shape(FRAMES.shape) == ((3, 4, 5, 6, 3), (3, 5, 6, 3))
    both = kerasrnn.Bidirectional(kerasrnn.RNN(ConvCell(3), return_sequences=True))
    stack = kerasrnn.StackedRNN([kerasrnn.RNN(ConvCell(3)), kerasrnn.RNN(ConvCell(4))])
    model = keras.Model(symbolic, [both(symbolic), stack(symbolic)])
    assert shapes(model.outputs) == [(None, None, 5, 6, 6), (None, 5, 6, 4)]
    of_both, of_stack = model(FRAMES)
    forward, backward = both.forward_layer, both.backward_layer
    right = [np.asarray(forward(FRAMES)), np.asarray(backward(FRAMES))[:, ::-1]]
    np.testing.assert_allclose(of_both, np.concatenate(right, axis=-1), atol=1e-6)
    below, above = stack.layers
    np.testing.assert_allclose(of_stack, above(below(FRAMES)), atol=1e-6)


def test_inputs_of_four_axes():
    class Cell(keras.layers.Layer):
        """The running sum of the channels' means."""

        state_size = 2

        def call(self, inputs, states):
            h = states[0] + ops.mean(inputs, axis=1)
            return h, [h]

    x = FRAMES[:, :, 0]
    layer = kerasrnn.RNN(Cell(), return_sequences=True)
    np.testing.assert_allclose(layer(x), np.cumsum(x.mean(axis=2), axis=1), atol=1e-6)
    assert layer(keras.Input((None, 6, 2))).shape == (None, None, 2)


def test_cells_of_kerasrnn_read_vectors():
    for layer in (
        kerasrnn.LSTM(5),
        kerasrnn.RNN([kerasrnn.LSTMCell(5), kerasrnn.GRUCell(7)]),
        kerasrnn.Bidirectional(kerasrnn.LSTM(5)),
        kerasrnn.StackedRNN([kerasrnn.LSTM(5)]),
    ):
        with pytest.raises(ValueError, match=r"expected ndim=[23], found ndim=[45]"):
            layer(FRAMES)
    cell = kerasrnn.GRUCell(5)
    cell(X[:, 0], [np.zeros((3, 5))])
    with pytest.raises(ValueError, match=r"expected axis -1 .* to have value 2"):
        cell(FRAMES[:, 0, 0, 0, :1], [np.zeros((3, 5))])


@pytest.mark.tensorflow
def test_steps_of_a_list_of_cells():
    layer, _ = pair(return_sequences=True)
    model = keras.Sequential([keras.Input((None, 2)), layer])
    step = kerasrnn.export.to_step(model)
    states = [np.zeros((3, units)) for units in (5, 5, 7)]
    for t in range(4):
        y, *states = step([X[:, t], *map(np.asarray, states)])
        np.testing.assert_allclose(y, np.asarray(model(X))[:, t], atol=1e-6)
