"""Nested wrapping cells, against the papers' recursions nested in NumPy."""

import contextlib

import keras
import numpy as np
import pytest
from keras import ops

import kerasrnn
from kerasrnn import export
from kerasrnn.recurrence import Noise
from tests import numpy_models
from tests.measure import FIRST_BACKEND, PRECISION, TIGHT, make_mask, measure, op_by_op, randomize

ON_TENSORFLOW = pytest.mark.skipif(not FIRST_BACKEND, reason="exports read a TensorFlow graph")


def gru(units=4, **options):
    return kerasrnn.GRUCell(units, dtype=PRECISION, **options)


def lstm(units=4):
    return kerasrnn.LSTMCell(units, dtype=PRECISION)


def feedback(cell, units=3, activation="softmax"):
    return kerasrnn.FeedbackCell(cell, units, activation, dtype=PRECISION)


def attention(cell, score="general", **options):
    scorer = kerasrnn.LuongAttention(score, dtype=PRECISION)
    return kerasrnn.AttentionCell(cell, scorer, dtype=PRECISION, **options)


NESTED = {
    "feedback around feedback": lambda: feedback(feedback(gru(), 2, "sigmoid")),
    "feedback around attention": lambda: feedback(attention(lstm(), units=5)),
    "feedback around attention that leaves the loop": lambda: feedback(
        attention(gru(), units=5, input_feeding=False)
    ),
    "attention around feedback": lambda: attention(feedback(lstm()), units=5),
    "attention around feedback, of a state": lambda: attention(
        feedback(gru()), units=5, query="state"
    ),
    "attention in feedback in feedback": lambda: feedback(
        feedback(attention(kerasrnn.IndRNNCell(4, dtype=PRECISION)), 2, "sigmoid")
    ),
}
EXPORTED = (
    "feedback around feedback",
    "feedback around attention that leaves the loop",
    "attention around feedback, of a state",
)
TRACED = ("attention in feedback in feedback", "attention around feedback")
ATTENDING = [name for name in NESTED if "attention" in name]


def arrays(layer, parts=()):
    """A layer's own weights by name, without those of its parts."""
    inner = {id(w) for part in parts for w in part.weights}
    return {w.name: np.asarray(w, "float64") for w in layer.weights if id(w) not in inner}


def step_in_numpy(cell, x, states, memory, extra=0.0):
    """One step of one row; `extra` is added to the input part."""
    states = list(states)
    if isinstance(cell, kerasrnn.FeedbackCell):
        own = arrays(cell, [cell.cell])
        *states, y = states
        h, states = step_in_numpy(
            cell.cell, x, states, memory, extra + (y @ own["feedback_kernel"])[0]
        )
        y = h @ own["output_kernel"] + own["output_bias"]
        y = (
            numpy_models.softmax(y)
            if "softmax" in cell.activation.__name__
            else 1 / (1 + np.exp(-y))
        )
        return y, [*states, y]
    if isinstance(cell, kerasrnn.AttentionCell):
        own = arrays(cell, [cell.cell, cell.attention])
        scores, used = arrays(cell.attention), np.ones(memory.shape[0])
        count = len(cell.cell.state_names)
        states, others = states[:count], states[count:]

        def attend(query):
            context, _ = numpy_models.attend(
                cell.attention, query[0], memory, used, [np.zeros(len(used))], scores
            )
            return context[None]

        if cell.query == "state":
            context = attend(states[0])
            extra = extra + (context @ own["feedback_kernel"])[0]
        elif cell.input_feeding:
            extra = extra + (others[0] @ own["feedback_kernel"])[0]
        h, states = step_in_numpy(cell.cell, x, states, memory, extra)
        if cell.query == "output":
            context = attend(h)
        output = np.concatenate([context, h], axis=-1)
        if cell.projected:
            output = np.tanh(output @ own["output_kernel"])
        fed = [output if cell.projected else context] if cell.feeds_back else []
        return output, [*states, *fed]
    row = numpy_models.ROW_OF[type(cell)]
    x, weights = numpy_models.with_feedback(x, arrays(cell), extra)
    options = {name: getattr(cell, name) for name in row.oracle_options}
    return row.oracle.step(x, states, weights, **options)


def initial_states_in_numpy(cell):
    if isinstance(cell, kerasrnn.FeedbackCell):
        return [*initial_states_in_numpy(cell.cell), np.zeros((1, cell.units))]
    if isinstance(cell, kerasrnn.AttentionCell):
        width = cell.units if cell.projected else 6
        fed = [np.zeros((1, width))] if cell.feeds_back else []
        return [*initial_states_in_numpy(cell.cell), *fed]
    return [np.zeros((1, cell.units)) for _ in cell.state_names]


def in_numpy(layer, x, mask, memory):
    rows = []
    for row in range(len(x)):
        states, outputs = initial_states_in_numpy(layer.cell), []
        y = np.zeros((1, layer.cell.output_size))
        for t in range(x.shape[1]):
            if mask is None or mask[row, t]:
                y, states = step_in_numpy(layer.cell, x[row, t][None], states, memory[row])
            outputs.append(y[0])
        rows.append(outputs)
    return np.array(rows)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(PRECISION)


X, MEMORY = normal(4, 5, 3), normal(4, 7, 6, seed=1)


def new_layer(name, **options):
    options = {"return_sequences": True, "dtype": PRECISION, **options}
    layer = kerasrnn.RNN(NESTED[name](), **options)
    given = {"memory_shape": (None, None, 6)} if layer.cell.reads_memory else {}
    layer.build((None, None, 3), **given)
    randomize(layer)
    return layer


def given_to(layer):
    return {"memory": MEMORY} if layer.cell.reads_memory else {}


@pytest.mark.torch_backend
@pytest.mark.parametrize("name", NESTED)
def test_outputs(name):
    layer, mask = new_layer(name), make_mask("mixed", 4, 5)
    expected = in_numpy(layer, X, mask, MEMORY)
    with op_by_op():
        actual = layer(X, mask=mask, **given_to(layer))
    np.testing.assert_allclose(actual, expected, atol=TIGHT)


@pytest.mark.torch_backend
@pytest.mark.parametrize("name", NESTED)
def test_gradients(name):
    """The custom gradient of the loop against central differences of the NumPy recursion.

    Two are traced: a wrapper around attention, and attention around a wrapper.
    """
    layer, mask = new_layer(name), make_mask("mixed", 4, 5)

    class WithMemory:
        trainable_weights = layer.trainable_weights
        trainable_variables = layer.trainable_variables
        non_trainable_variables = layer.non_trainable_variables

        def __call__(self, *args, **kwargs):
            return layer(*args, **kwargs, **given_to(layer))

        def stateless_call(self, *args, **kwargs):
            return layer.stateless_call(*args, **kwargs, **given_to(layer))

    with contextlib.nullcontext() if name in TRACED else op_by_op():
        measured = measure(WithMemory(), X, mask=mask, training=True)
    factors = np.random.default_rng(7).standard_normal(measured.outputs[0].shape)
    weights = layer.get_weights()
    directions = [np.random.default_rng(9).standard_normal(w.shape) for w in weights]
    values = []
    for step in (1e-5, -1e-5):
        layer.set_weights([w + step * d for w, d in zip(weights, directions, strict=True)])
        values.append((in_numpy(layer, X, mask, MEMORY) * factors).sum())
    expected = (values[0] - values[1]) / 2e-5
    actual = sum((d * g).sum() for d, g in zip(directions, measured.d_weights, strict=True))
    np.testing.assert_allclose(actual, expected, rtol=1e-6 if FIRST_BACKEND else 2e-2)


@pytest.mark.parametrize("name", NESTED)
def test_step_by_step(name):
    """Calls of the cell, from the layer's states after two steps."""
    layer = new_layer(name, return_state=True)
    cell, given = layer.cell, {}
    if cell.reads_memory:
        given["prepared"] = cell.prepare_memory(MEMORY)
    with op_by_op():
        whole, *finals = layer(X, **given_to(layer))
        _, *states = layer(X[:, :2], **given_to(layer))
    for t in range(2, 5):
        y, states = cell(X[:, t], states, **given)
        np.testing.assert_allclose(y, whole[:, t], atol=TIGHT)
    initial = cell.get_initial_state(4, **given)
    assert [tuple(s.shape) for s in initial] == [tuple(s.shape) for s in finals]
    for a, b in zip(states, finals, strict=True):
        np.testing.assert_allclose(a, b, atol=TIGHT)
    if cell.reads_memory:
        np.testing.assert_allclose(
            np.sum(cell.weights_of_step(states), axis=-1), np.ones(4), atol=1e-6
        )


@pytest.mark.parametrize("name", ATTENDING)
def test_external_states(name):
    """A caller passes the states of all cells except the attention's."""
    layer = new_layer(name)
    names = layer.cell.external_state_names
    assert not {"weights", "fed"} & set(names)
    shapes = [s.shape for s in layer.cell.external_initial_state(4)]
    zeros = [np.zeros(shape, PRECISION) for shape in shapes]
    with op_by_op():
        expected = layer(X, memory=MEMORY)
        actual = layer(X, initial_state=zeros, memory=MEMORY)
    np.testing.assert_allclose(actual, expected, atol=TIGHT)


def test_saved_and_loaded(tmp_path):
    """Every nesting as an output of one model; three of them exported."""
    inputs = [keras.Input((None, 3)), keras.Input((None, 6))]
    outputs = []
    for name in NESTED:
        layer = kerasrnn.RNN.from_config(new_layer(name, dtype="float32").get_config())
        given = {"memory": inputs[1]} if layer.cell.reads_memory else {}
        outputs.append(layer(inputs[0], **given))
    model = keras.Model(inputs, outputs)
    randomize(model)
    data = [X.astype("float32"), MEMORY.astype("float32")]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    with op_by_op():
        for a, b in zip(loaded(data), model(data), strict=True):
            np.testing.assert_array_equal(a, b)
    if FIRST_BACKEND:
        model = keras.Model(inputs, [outputs[list(NESTED).index(name)] for name in EXPORTED])
        assert export.to_onnx(model, tmp_path / "model.onnx").difference <= 1e-5


@keras.saving.register_keras_serializable(package="test_wrapping")
class DroppedCell(kerasrnn.WrappingCell):
    """Dropout of a cell's outputs, with another mask at each step (Zaremba et al. 2014)."""

    def __init__(self, cell, rate=0.5, **kwargs):
        super().__init__(cell, cell.units, **kwargs)
        self.rate = rate
        self.state_names = cell.state_names

    @property
    def state_shapes(self):
        return self.cell.state_shapes

    @property
    def output_shape(self):
        return self.cell.output_shape

    def build(self, input_shape, memory_shape=None):
        self.build_cell(input_shape, memory_shape)
        self.built = True

    def draw_noise(self, inputs, states, steps=None):
        noise = super().draw_noise(inputs, states, steps)
        shape = (ops.shape(inputs)[0], *(() if steps is None else (steps,)), *self.output_shape)
        keep = keras.random.uniform(shape, seed=self.seed_generator) >= self.rate
        return noise._replace(steps={**noise.steps, "keep": keep})

    def step(self, a, states, weights, products):
        h, states = self.cell.step(a, states, weights.of("cell"), products)
        if weights.training:
            h = ops.where(weights.noise["keep"], h / (1 - self.rate), 0.0)
        return h, states


def test_attention_in_feedback_in_dropout():
    cell = DroppedCell(feedback(attention(gru(dropout=0.2), units=5), 3), dtype=PRECISION)
    layer = kerasrnn.RNN(cell, return_sequences=True, dtype=PRECISION)
    layer.build((None, None, 3), memory_shape=(None, None, 6))
    randomize(layer)
    with op_by_op():
        plain = np.asarray(layer(X, memory=MEMORY))
        dropped = np.asarray(layer(X, memory=MEMORY, training=True))
    np.testing.assert_allclose(np.sum(plain, axis=-1), 1, atol=1e-6)  # feedback's softmax
    assert 0.3 < (dropped == 0).mean() < 0.7
    assert np.any(dropped[:, 0] != dropped[:, 1])
    noise = cell.draw_noise(ops.convert_to_tensor(X[:, 0]), cell.zeros(cell.state_shapes[:1], 4), 5)
    assert isinstance(noise, Noise)
    assert list(noise.steps) == ["keep"]
    assert list(noise.sequences["cell"]["cell"]["cell"]) == ["inputs"]


class WideCell(kerasrnn.Cell):
    """Its output is not a vector."""

    output_shape = property(lambda self: (1, self.units))


class WideStateCell(kerasrnn.Cell):
    """Its state is not a vector."""

    state_shapes = property(lambda self: [(1, self.units)])


@keras.saving.register_keras_serializable(package="test_wrapping")
class SmoothedCell(kerasrnn.WrappingCell):
    """An exponential moving average of a cell's activated outputs, with the inherited `build`."""

    def __init__(self, cell, rate=0.5, **kwargs):
        super().__init__(cell, cell.units, kernel_initializer="ones", **kwargs)
        self.rate = rate
        self.state_names = (*cell.state_names, "mean")

    def step(self, a, states, weights, products):
        of_cell, (mean,) = self.split_states(states)
        h, of_cell = self.cell.step(a, of_cell, weights.of("cell"), products)
        mean = self.rate * mean + (1 - self.rate) * self.activation(h)
        return mean, self.join_states(of_cell, [mean])


def test_inherited_arguments_of_a_wrapper(tmp_path):
    layer = kerasrnn.RNN(SmoothedCell(lstm(), activation="relu", dtype=PRECISION), dtype=PRECISION)
    model = keras.Sequential([keras.Input((5, 3), dtype=PRECISION), layer])
    randomize(layer)
    hidden = kerasrnn.LSTM(4, return_sequences=True, dtype=PRECISION)
    hidden.build((None, None, 3))
    hidden.set_weights(layer.get_weights())
    mean = 0.0
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    with op_by_op():
        for h in np.swapaxes(np.asarray(hidden(X)), 0, 1):
            mean = 0.5 * mean + 0.5 * np.maximum(h, 0)
        for again in (model, loaded):
            np.testing.assert_allclose(again(X), mean, atol=TIGHT)
    assert "kernel_initializer" not in layer.cell.get_config()


@keras.saving.register_keras_serializable(package="test_wrapping")
class TransparentCell(kerasrnn.WrappingCell):
    """Only the step of the inner cell."""

    def __init__(self, cell, **kwargs):
        super().__init__(cell, cell.units, **kwargs)

    def step(self, a, states, weights, products):
        return self.cell.step(a, states, weights.of("cell"), products)


@pytest.mark.parametrize("training", [False, True])
def test_a_wrapper_that_adds_nothing(training):
    """It has the states and the weights of its cell."""
    options = {"return_state": True, "dtype": PRECISION}
    layer = kerasrnn.RNN(TransparentCell(lstm(), dtype=PRECISION), **options)
    layer.build((None, None, 3))
    randomize(layer)
    plain = kerasrnn.LSTM(4, **options)
    plain.build((None, None, 3))
    plain.set_weights(layer.get_weights())
    mask = make_mask("mixed", *X.shape[:2])
    with op_by_op():
        actual, expected = (
            measure(each, X, mask=mask, training=training) for each in (layer, plain)
        )
    for one, other in zip(actual.arrays(), expected.arrays(), strict=True):
        np.testing.assert_allclose(one, other, atol=TIGHT)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: feedback(keras.layers.GRUCell(2)), "expected a kerasrnn cell"),
        (lambda: attention(attention(gru())), "attends to the memory itself; expected a cell wit"),
        (
            lambda: attention(feedback(attention(gru()))),
            "attends to the memory itself; expected a cell without attention",
        ),
        (
            lambda: new_layer("feedback around attention").cell(X[:, 0], [X[:, 0]]),
            "prepared=None: expected the result of `prepare_memory`",
        ),
        (
            lambda: new_layer("feedback around attention")(X),
            r"memory=None: expected \(batch, positions, width\)",
        ),
        (
            lambda: kerasrnn.RNN(NESTED["feedback around attention"](), stateful=True),
            "stateful=True: the states of FeedbackCell belong to one memory",
        ),
        (lambda: TransparentCell(gru(), dropout=0.5), "dropout=0.5: .* of its cell"),
        (
            lambda: kerasrnn.FeedbackCell(gru(), 3, dropout=0.5),
            "dropout: FeedbackCell does not use it; expected `dropout` as an argument of the cell",
        ),
        (
            lambda: attention(gru(), recurrent_regularizer="l2"),
            "recurrent_regularizer: AttentionCell does not use it",
        ),
        (lambda: attention(gru(), implementation=1), "implementation: AttentionCell does not"),
        (
            lambda: kerasrnn.RNN(feedback(WideCell(4, dtype=PRECISION)))(X),
            r"cell: WideCell has outputs of shape \(batch, 1, 4\); expected a cell with outputs",
        ),
        (
            lambda: kerasrnn.RNN(attention(WideCell(4, dtype=PRECISION)))(X, memory=MEMORY),
            r"cell: WideCell has outputs of shape \(batch, 1, 4\); expected a cell with outputs",
        ),
        (
            lambda: kerasrnn.RNN(attention(WideStateCell(4), query="state"))(X, memory=MEMORY),
            r"query='state': the first state of WideStateCell has the shape \(1, 4\)",
        ),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@ON_TENSORFLOW
def test_decoder_of_a_feedback_cell():
    """A decoder adds attention to any cell, a wrapper included."""
    decoder = kerasrnn.Decoder(
        5,
        [kerasrnn.RNN(kerasrnn.FeedbackCell(kerasrnn.GRUCell(4), 3))],
        embedding_units=2,
        attention=kerasrnn.LuongAttention("general"),
    )
    ids, memory = np.array([[1, 2, 3], [4, 1, 2]]), normal(2, 7, 6).astype("float32")
    with op_by_op():
        logits = decoder(ids, memory=memory)
    prepared = decoder.prepare_memory(memory)
    states = decoder.initial_states(batch_size=2, prepared=prepared)
    for t in range(3):
        y, states = decoder.step(ids[:, t], states, None, prepared)
        np.testing.assert_allclose(y, logits[:, t], atol=1e-6)
