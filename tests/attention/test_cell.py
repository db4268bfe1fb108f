"""`AttentionCell` against the papers' recursions, written in NumPy.

Most tests run operation by operation; the tests that need a graph use `traced`.
"""

import contextlib
import json

import keras
import numpy as np
import pytest
from keras import ops

import kerasrnn
from kerasrnn import zoo
from kerasrnn.keras_internals import get_keras_mask
from tests import numpy_models
from tests.attention.attentions import ATTENTIONS
from tests.catalogue import BY_NAME, PROBES, variant_id
from tests.measure import (
    FIRST_BACKEND,
    MASKS,
    PRECISION,
    TIGHT,
    assert_same,
    make_mask,
    measure,
    op_by_op,
    randomize,
)

BATCH, TIME, POSITIONS, UNITS = 4, 4, 5, 4

# The query, and what is fed back to the recursion.
WAYS = {
    "fed back": {"units": 3},
    "alone": {"input_feeding": False},
    "state": {"query": "state"},
}
# Attentions that attend for all steps at once if nothing is fed back.
IN_ONE = ("dot", "scaled dot", "general", "local", "entmax", "local entmax")
GRU, RNN = BY_NAME["GRU"], BY_NAME["SimpleRNN"]


@pytest.fixture(autouse=True)
def _op_by_op():
    with op_by_op():
        yield


@contextlib.contextmanager
def traced():
    """The loop as a graph, inside a test that runs operation by operation."""
    if not FIRST_BACKEND:
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(False)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(True)


def new_layer(attention="bahdanau", way="fed back", cell=GRU, features=3, **options):
    """Built, with random weights. `cell` is a row of the catalogue, or a cell."""
    options = {"return_sequences": True, "return_state": True, "dtype": PRECISION, **options}
    dtype = options["dtype"]
    if isinstance(attention, str):
        attention = ATTENTIONS[attention](dtype=dtype)
    if not isinstance(cell, kerasrnn.Cell):
        cell = cell.cell(UNITS, dtype=dtype)
    cell = kerasrnn.AttentionCell(cell, attention, dtype=dtype, **WAYS[way])
    layer = kerasrnn.RNN(cell, **options)
    layer.build((None, None, features), memory_shape=(None, None, UNITS))
    randomize(layer)
    return layer


def tensors(batch=BATCH, features=3):
    random = np.random.default_rng(0)
    shapes = ((batch, TIME, features), (batch, POSITIONS, UNITS))
    return [random.standard_normal(shape).astype(PRECISION) for shape in shapes]


def masks(kind, batch=BATCH):
    """Of the sequences and of the memory, whose rows have masks of different kinds."""
    of_memory = np.roll(make_mask("mixed", batch, POSITIONS, seed=1), 1, axis=0)
    return make_mask(kind, batch, TIME), of_memory


def expected(layer, x, memory, mask=None, memory_mask=None, **given):
    """The output and the attention weights of the last step, in NumPy."""
    if layer.go_backwards:
        x, mask = x[:, ::-1], None if mask is None else mask[:, ::-1]
    outputs, alphas = numpy_models.run_attending(layer, x, memory, mask, memory_mask, **given)
    if layer.zero_output_for_mask and mask is not None:
        outputs = np.where(mask[..., None], outputs, 0)
    return outputs if layer.return_sequences else outputs[:, -1], alphas[:, -1]


def assert_equals_numpy(
    layer, x, memory, mask=None, memory_mask=None, states=None, tolerance=TIGHT
):
    y, *finals = layer(x, initial_state=states, mask=mask, memory=memory, memory_mask=memory_mask)
    outputs, alpha = expected(layer, x, memory, mask, memory_mask, states=states)
    np.testing.assert_allclose(y, outputs, atol=tolerance)
    np.testing.assert_allclose(layer.cell.weights_of_step(finals), alpha, atol=tolerance)


class WithMemory(keras.layers.Layer):
    """With the memory as the first initial state, so that `measure` differentiates by it."""

    def __init__(self, layer, memory_mask=None):
        super().__init__(dtype=PRECISION)
        self.layer, self.memory_mask = layer, memory_mask
        self.supports_masking = self.built = True

    def call(self, x, initial_state=None, mask=None, training=False):
        memory, *states = initial_state
        return self.layer(
            x,
            initial_state=states or None,
            mask=mask,
            training=training,
            memory=memory,
            memory_mask=self.memory_mask,
        )


def measured(layer, x, memory, mask=None, memory_mask=None, states=(), training=True):
    """Outputs and gradients; the memory's is the first of the states'."""
    found = measure(WithMemory(layer, memory_mask), x, [memory, *states], mask, training)
    assert all(np.isfinite(array).all() for array in found.arrays())
    return found


# Outputs.


@pytest.mark.parametrize(
    ("name", "way"),
    [(name, list(WAYS)[n % 3]) for n, name in enumerate(ATTENTIONS)]
    + [(name, "alone") for name in IN_ONE if list(ATTENTIONS).index(name) % 3 != 1]
    + [("bahdanau", "state"), ("location, cumulative", "fed back"), ("monotonic", "state")],
)
def test_every_attention(name, way):
    """With masks of every kind on both sides, including fully masked rows."""
    layer, (x, memory) = new_layer(name, way), tensors()
    assert layer.cell.leaves_loop == (way == "alone" and name in IN_ONE)
    for kind in MASKS:
        assert_equals_numpy(layer, x, memory, *masks(kind))


@pytest.mark.parametrize("row", PROBES, ids=variant_id)
def test_cells_of_every_kind(row):
    (x, memory), (mask, memory_mask) = tensors(), masks("mixed")
    assert_equals_numpy(new_layer("coverage", "state", row), x, memory, mask, memory_mask)


@pytest.mark.parametrize(
    ("cell", "options"),
    [
        (kerasrnn.GRUCell, {"reset_after": False}),
        (kerasrnn.LayerNormLSTMCell, {}),
        (kerasrnn.IndRNNCell, {}),
    ],
    ids=variant_id,
)
def test_cells_with_products_and_weights_of_their_own(cell, options):
    """Their gradients together with the attention's: those of unrolled steps."""
    (x, memory), (mask, memory_mask) = tensors(), masks("mixed")
    layers = []
    for more in ({}, {"unroll": True}):
        inside = cell(UNITS, dtype=PRECISION, **options)
        layers.append(new_layer("concat", "fed back", inside, **more))
    assert_equals_numpy(layers[0], x, memory, mask, memory_mask)
    expected = measured(layers[1], x, memory, mask, memory_mask)
    with traced() if cell is kerasrnn.GRUCell else contextlib.nullcontext():
        actual = measured(layers[0], x, memory, mask, memory_mask)
    assert_same(actual, expected, TIGHT)


@pytest.mark.parametrize(
    "options",
    [
        {"return_sequences": False},
        {"zero_output_for_mask": True},
        {"zero_output_for_mask": True, "return_sequences": False},
        {"go_backwards": True},
        {"unroll": True},
        {"checkpoint_every": 2},
        {"jit_compile": True},
    ],
    ids=variant_id,
)
@pytest.mark.parametrize(("name", "way"), [("location", "fed back"), ("general", "alone")])
def test_options_of_the_loop(name, way, options):
    layer, (x, memory) = new_layer(name, way, **options), tensors()
    with traced() if layer.jit_compile is True else contextlib.nullcontext():
        assert_equals_numpy(layer, x, memory, *masks("mixed"))


@pytest.mark.parametrize(
    ("name", "way"),
    [("location, cumulative", "fed back"), ("monotonic", "state"), ("local", "alone")],
)
def test_initial_states(name, way):
    """Those of the inner cell, as an encoder returns them; or all, to continue a sequence."""
    layer, (x, memory) = new_layer(name, way, BY_NAME["LSTM"]), tensors()
    states = list(np.random.default_rng(3).standard_normal((2, BATCH, UNITS)).astype(PRECISION))
    mask = make_mask("gapped", BATCH, TIME)
    memory_mask = make_mask("mixed", BATCH, POSITIONS)
    assert_equals_numpy(layer, x, memory, mask, memory_mask, states)
    given = {"memory": memory, "memory_mask": memory_mask}
    whole, *ends = layer(x, initial_state=states, mask=mask, **given)
    first, *middle = layer(x[:, :2], initial_state=states, mask=mask[:, :2], **given)
    assert len(middle) == len(layer.cell.state_names)
    second, *finals = layer(x[:, 2:], initial_state=middle, mask=mask[:, 2:], **given)
    used = np.cumsum(mask, axis=1) > np.cumsum(mask, axis=1)[:, 1:2]  # steps after the cut
    np.testing.assert_allclose(first, whole[:, :2], atol=TIGHT)
    np.testing.assert_allclose(
        np.asarray(second)[used[:, 2:]], np.asarray(whole)[:, 2:][used[:, 2:]], atol=TIGHT
    )
    for a, b in zip(finals, ends, strict=True):
        np.testing.assert_allclose(a, b, atol=TIGHT)


@pytest.mark.parametrize("way", WAYS)
def test_step_by_step(way):
    """Calls of the cell, with the memory prepared once, equal the layer."""
    layer, (x, memory) = new_layer("location", way, BY_NAME["LSTM"]), tensors()
    memory_mask = make_mask("mixed", BATCH, POSITIONS)
    outputs, *finals = layer(x, memory=memory, memory_mask=memory_mask)
    prepared = layer.cell.prepare_memory(memory, memory_mask)
    states = layer.cell.get_initial_state(prepared=prepared)
    for t in range(TIME):
        y, states = layer.cell(x[:, t], states, prepared=prepared)
        np.testing.assert_allclose(y, outputs[:, t], atol=TIGHT)
    for a, b in zip(states, finals, strict=True):
        np.testing.assert_allclose(a, b, atol=TIGHT)


# Attention outside the loop.


class InTheLoop(kerasrnn.LuongAttention):
    """The same mathematics, step by step."""

    at_once = False


class TwofoldCell(kerasrnn.Cell):
    """Its state is not its output."""

    def update(self, a, r, states, weights):
        h = ops.tanh(a + r)
        return 2 * h, [h]


@pytest.mark.parametrize(
    ("score", "options"),
    [
        ({"score": "general"}, {"zero_output_for_mask": True}),
        ({"score": "dot", "window": 1}, {"go_backwards": True}),
        ({"score": "dot"}, {"return_sequences": False}),
    ],
    ids=variant_id,
)
def test_attention_for_all_steps_at_once(score, options):
    """Outputs, final states, gradients; masks of every kind."""
    x, memory = tensors()
    states = [np.random.default_rng(3).standard_normal((BATCH, UNITS)).astype(PRECISION)]
    layers = []
    for attention in (kerasrnn.LuongAttention, InTheLoop):
        attention = attention(**score, dtype=PRECISION)
        inside = TwofoldCell(UNITS, dtype=PRECISION)
        layers.append(new_layer(attention, "alone", inside, **options))
    assert [layer.cell.leaves_loop for layer in layers] == [True, False]
    at_once, in_the_loop = layers
    for kind in MASKS:
        expected = measured(in_the_loop, x, memory, *masks(kind), states)
        with traced() if kind == "mixed" and len(score) == 2 else contextlib.nullcontext():
            actual = measured(at_once, x, memory, *masks(kind), states)
        assert_same(actual, expected, TIGHT)


# Gradients.


def finite_differences(layer, factors, x, memory, mask, memory_mask, states):
    """Of sum(results * factors), for every input and weight: central differences in NumPy."""
    values = {"x": x, "memory": memory}
    values |= {f"state {n}": state for n, state in enumerate(states)} | numpy_models.weights_of(
        layer
    )

    def loss(values):
        rest = dict(values)
        x, memory = rest.pop("x"), rest.pop("memory")
        initial = [rest.pop(f"state {n}") for n in range(len(states))]
        results = numpy_models.run_attending(layer, x, memory, mask, memory_mask, rest, initial)
        return sum((y * factor).sum() for y, factor in zip(results, factors, strict=True))

    gradients = {}
    for name, value in values.items():
        gradients[name] = np.zeros(value.shape)
        for index in np.ndindex(*value.shape):
            around = []
            for step in (1e-6, -1e-6):
                moved = np.array(value, "float64")
                moved[index] += step
                around.append(loss({**values, name: moved}))
            gradients[name][index] = (around[0] - around[1]) / 2e-6
    return gradients


BY_DIFFERENCES = {
    "bahdanau": "state",
    "general": "fed back",
    "local": "alone",
    "location": "fed back",
    "monotonic": "state",
}
OTHERS = [name for name in ATTENTIONS if name not in BY_DIFFERENCES and name != "dot"]


@pytest.mark.parametrize(("name", "way"), BY_DIFFERENCES.items())
def test_gradients_equal_those_of_the_equations(name, way):
    """The custom gradient of the loop: of the outputs and the final attention weights."""
    layer = new_layer(name, way, RNN, features=1)
    x, memory = tensors(2, features=1)
    states = [np.random.default_rng(3).standard_normal((2, UNITS)).astype(PRECISION)]
    mask = np.array([[True, False, True, True], [False, True, True, False]])
    memory_mask = np.array([[True, True, False, True, True], [True, True, True, False, False]])
    arguments = (x, memory, mask, memory_mask, states)

    class Results(WithMemory):
        """Without the final states of the inner cell."""

        def call(self, *arguments, **given):
            y, *finals = super().call(*arguments, **given)
            return [y, self.layer.cell.weights_of_step(finals)]

    with traced() if name in ("bahdanau", "location") else contextlib.nullcontext():
        found = measure(Results(layer, memory_mask), x, [memory, *states], mask, True)
    random = np.random.default_rng(7)
    factors = [random.standard_normal(y.shape) for y in found.outputs]
    last = np.zeros((2, TIME, POSITIONS))
    last[:, -1] = factors[1]
    gradients = finite_differences(layer, [factors[0], last], *arguments)
    names = ["x", "memory", "state 0", *(w.name for w in layer.weights)]
    tolerance = 1e-6 if FIRST_BACKEND else 1e-3
    for name, d in zip(names, [found.d_inputs, *found.d_states, *found.d_weights], strict=True):
        np.testing.assert_allclose(d, gradients[name], atol=tolerance, err_msg=name)


# The mathematics is the same on every backend, and compiles for seconds on JAX.
@pytest.mark.parametrize("name", OTHERS if FIRST_BACKEND else OTHERS[-3:])
def test_the_custom_gradient_equals_the_automatic_one(name):
    (x, memory), (mask, memory_mask) = tensors(), masks("mixed")
    layer = new_layer(name, "fed back" if name in IN_ONE else "state")
    arguments = (layer, x, memory, mask, memory_mask)
    assert_same(measured(*arguments), measured(*arguments, training=False), TIGHT)


@pytest.mark.tensorflow
def test_compiled_in_parts(monkeypatch):
    """By XLA, with a part of the batch and of the memory on each core."""
    from kerasrnn.recurrence.tensorflow import parts

    monkeypatch.setattr(parts, "cores", lambda: 2)
    (x, memory), (mask, memory_mask) = tensors(16), masks("mixed", 16)
    arguments = (x, memory, mask, memory_mask)
    whole = measured(new_layer("coverage", "state", RNN), *arguments)
    with traced():
        compiled = measured(new_layer("coverage", "state", RNN, jit_compile=True), *arguments)
    assert_same(compiled, whole, TIGHT)


def test_checkpoints_have_no_effect_on_the_results():
    arguments = *tensors(), *masks("mixed")
    in_segments, whole = (
        measured(new_layer("general", cell=RNN, checkpoint_every=n), *arguments) for n in (3, None)
    )
    assert_same(in_segments, whole, TIGHT)


# In models.


def test_dropout_of_the_inner_cell():
    """In training only, with a new mask for each call."""
    x, memory = tensors()
    for way in ("state", "alone"):
        cell = kerasrnn.GRUCell(UNITS, dropout=0.4, recurrent_dropout=0.4, dtype=PRECISION)
        layer = new_layer("general", way, cell)
        assert_equals_numpy(layer, x, memory)
        first, second = (np.asarray(layer(x, memory=memory, training=True)[0]) for _ in range(2))
        assert np.abs(first - second).max() > 1e-3


@pytest.mark.parametrize("way", WAYS)
def test_saved_and_loaded(way, tmp_path):
    """A functional model, with the masks of two embeddings."""
    ids, of_source = keras.Input((None,), dtype="int32"), keras.Input((None,), dtype="int32")
    sequences = keras.layers.Embedding(6, 3, mask_zero=True, name="of_ids")(ids)
    memory = keras.layers.Embedding(7, UNITS, mask_zero=True, name="of_source")(of_source)
    cell = kerasrnn.AttentionCell(kerasrnn.LSTMCell(UNITS), ATTENTIONS["monotonic"](), **WAYS[way])
    layer = kerasrnn.RNN(cell, return_sequences=True)
    y = layer(sequences, memory=memory)
    model = keras.Model([ids, of_source], y)
    randomize(model)
    assert y.shape == (None, None, cell.output_size)
    given = [np.array([[3, 1, 2, 0], [4, 0, 5, 1]]), np.array([[6, 2, 0], [0, 0, 0]])]
    tables = [model.get_layer(name).get_weights()[0] for name in ("of_ids", "of_source")]
    embedded = [table[n] for table, n in zip(tables, given, strict=True)]
    outputs, _ = expected(layer, *embedded, *(n != 0 for n in given))
    found = model(given)
    np.testing.assert_allclose(found, outputs, atol=1e-5)
    np.testing.assert_array_equal(get_keras_mask(found), given[0] != 0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(given), found)


def test_configuration():
    cell = kerasrnn.AttentionCell(
        kerasrnn.LSTMCell(3, recurrent_dropout=0.1),
        kerasrnn.LuongAttention("concat", units=2),
        units=5,
        query="state",
        activation="relu",
        kernel_initializer="he_normal",
    )
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(cell)))
    again = keras.saving.deserialize_keras_object(config)
    assert json.loads(json.dumps(keras.saving.serialize_keras_object(again))) == config
    assert (again.units, again.projected, again.query) == (5, True, "state")
    assert again.activation is keras.activations.relu
    assert again.cell.recurrent_dropout == 0.1
    assert again.attention.score == "concat"


@pytest.mark.skipif(not FIRST_BACKEND, reason="one backend shows it")
@pytest.mark.parametrize(
    ("name", "way", "dtype"),
    [("location", "state", "mixed_bfloat16"), ("local", "alone", "mixed_float16")],
)
def test_half_precision(name, way, dtype):
    """Also gradients, which are finite for fully masked rows."""
    import tensorflow as tf

    x, memory = (a.astype("float32") for a in tensors())
    mask, memory_mask = masks("mixed")
    whole = new_layer(name, way, RNN, dtype="float32")
    half = new_layer(name, way, RNN, dtype=dtype)
    given = {"mask": mask, "memory": memory, "memory_mask": memory_mask}
    for a, b in zip(half(x, **given), whole(x, **given), strict=True):
        assert a.dtype == dtype.removeprefix("mixed_")
        np.testing.assert_allclose(tf.cast(a, "float32"), b, atol=0.06)
    with traced() if way == "state" else contextlib.nullcontext(), tf.GradientTape() as tape:
        loss = sum(tf.reduce_sum(y) for y in half(x, training=True, **given))
    for d in tape.gradient(loss, [w.value for w in half.trainable_weights]):
        assert np.isfinite(d).all()


@pytest.mark.tensorflow
def test_a_training_step_compiled_by_xla():
    """Of an entire encoder-decoder, with padding."""
    source = np.array([[3, 8, 1, 3], [5, 1, 0, 0], [2, 2, 7, 0]])
    previous = np.array([[1, 3, 4], [1, 4, 0], [1, 0, 0]])
    targets = np.array([[3, 4, 2], [4, 2, 0], [2, 0, 0]])
    trained = []
    for jit_compile in (False, True):
        model = zoo.encoder_decoder(
            zoo.Tokens(9, 4),
            zoo.Classes(7),
            cell="simple_rnn",
            units=5,
            attention="bahdanau",
            jit_compile=jit_compile,
        )
        randomize(model)
        loss = kerasrnn.losses.SequenceCrossentropy(ignore_class=0)
        model.compile(keras.optimizers.SGD(0.5), loss, jit_compile=jit_compile)
        with traced() if jit_compile else contextlib.nullcontext():
            losses = [float(model.train_on_batch([source, previous], targets)) for _ in range(2)]
        trained.append([np.array(losses), *model.get_weights()])
    for a, b in zip(*trained, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


# Errors.


def call(layer=None, memory=True, **given):
    x, m = tensors()
    return (layer or new_layer())(x, memory=m if memory is True else memory, **given)


def cell_of(cell=None, attention=None, **options):
    cell, attention = cell or kerasrnn.GRUCell(4), attention or kerasrnn.LuongAttention()
    return kerasrnn.AttentionCell(cell, attention, **options)


def ones(*shape):
    return np.ones(shape, PRECISION)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cell_of(keras.layers.GRUCell(2)), "expected a kerasrnn cell"),
        (
            lambda: cell_of(cell_of()),
            "cell=<AttentionCell .* attends to the memory itself; expected",
        ),
        (
            lambda: cell_of(kerasrnn.FeedbackCell(cell_of(), 3)),
            "cell=<FeedbackCell .* attends to the memory itself; expected a cell without attention",
        ),
        (lambda: cell_of(new_layer().cell.cell), "cell: .* is built; expected a new cell"),
        (
            lambda: cell_of(attention=new_layer().cell.attention),
            "attention: .* is built; expected a new one",
        ),
        (
            lambda: cell_of(attention=keras.layers.Attention()),
            "expected an attention of kerasrnn, such as BahdanauAttention",
        ),
        (lambda: cell_of(units=0), "units=0: expected a positive integer"),
        (lambda: cell_of(activation="relu"), "activation='relu': without units, .* expected `uni"),
        (lambda: cell_of(query="both"), "query='both': expected one of 'output', 'state'"),
        (
            lambda: cell_of(query="state", input_feeding=False),
            "input_feeding=False: with query='state' the context enters the step",
        ),
        (lambda: kerasrnn.RNN(cell_of(), stateful=True), "stateful=True: the states of Attent"),
        (lambda: kerasrnn.RNN(cell_of())(ones(3, 4, 3)), "no memory was given; expected one"),
        (
            lambda: kerasrnn.RNN(cell_of())(ones(3, 4, 3), memory=ones(5, 4)),
            r"memory has the shape \(5, 4\); expected \(batch, positions, width\)",
        ),
        (lambda: call(memory=None), r"memory=None: expected \(batch, positions, width\)"),
        (lambda: call(memory=ones(4, 5, 3)), r"\(4, 5, 3\); expected \(batch, positions, 4\)"),
        (lambda: call(memory=ones(4, 0, 4)), r"\(4, 0, 4\); expected .* at least one position"),
        (lambda: call(memory=ones(4, 4)), r"\(4, 4\); expected \(batch, positions, 4\)"),
        (lambda: call(memory=ones(1, 5, 4)), "memory has 1 rows; expected 4, those of the seq"),
        (
            lambda: call(memory_mask=np.ones((4, 4), bool)),
            r"memory_mask has the shape \(4, 4\); expected \(batch, positions\) = \(4, 5\)",
        ),
        (lambda: call(kerasrnn.GRU(2)), "a memory was given; expected none with a GRUCell"),
        (
            lambda: call(kerasrnn.GRU(2), memory=None, memory_mask=np.ones((4, 5), bool)),
            "a memory was given; expected none with a GRUCell",
        ),
        (
            lambda: call(initial_state=[ones(4, 4)] * 2),
            r"initial_state has 2 tensors; expected 3 \(h, fed, weights\)",
        ),
        (
            lambda: call(initial_state=[ones(4, 4), ones(4, 4), ones(4, 5)]),
            r"initial_state fed has the shape \(4, 4\); expected \(batch, units\) = \(4, 3\)",
        ),
        (
            lambda: new_layer().cell(ones(3, 3), [ones(3, 4)]),
            "prepared=None: expected the result of `prepare_memory`",
        ),
    ],
    ids=variant_id,
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
