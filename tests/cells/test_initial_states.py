"""Learned initial states, and the reset of single rows of stateful layers."""

import keras
import numpy as np
import pytest
from keras import ops

import kerasrnn
from kerasrnn import export
from tests.catalogue import PROBES, variant_id
from tests.measure import (
    FIRST_BACKEND,
    PRECISION,
    TIGHT,
    assert_same,
    make_mask,
    measure,
    op_by_op,
    randomize,
    to_list,
)
from tests.recurrence.test_states import MemoryCell, normal

UNITS = 3
OPTIONS = {"return_sequences": True, "return_state": True, "dtype": PRECISION}
probes = pytest.mark.parametrize("row", PROBES, ids=variant_id)


@pytest.fixture(autouse=True)
def _op_by_op(request):
    if request.node.get_closest_marker("traced"):
        yield
        return
    with op_by_op():
        yield


def pair(make, shape=(None, None, 2), **options):
    """A layer that learns its initial states, and one without them, of the same other weights."""
    learning, plain = make(learn_initial_state=True, **options), make(**options)
    for layer in (learning, plain):
        layer.build(shape)
    randomize(learning)
    plain.cell.set_weights(learning.cell.get_weights())
    return learning, plain


def repeated(layer, rows):
    """The learned states of a batch."""
    return [np.repeat(v.numpy()[None], rows, axis=0) for v in layer.initial_states]


@pytest.mark.torch_backend
@probes
def test_learned_states_equal_given_ones(row):
    """Values and gradients: that of a vector is the sum over the rows."""
    learning, plain = pair(lambda **options: row.layer(UNITS, **OPTIONS, **options))
    names = [f"initial_{name}" for name in row.cell.state_names]
    assert [v.name for v in learning.initial_states] == names
    assert [w.name for w in learning.weights[: len(names)]] == names
    x, mask = normal(4, 5, 2), make_mask("mixed", 4, 5)
    states = repeated(learning, 4)
    for training in (True, False):
        expected = measure(plain, x, states, mask, training)
        sums = [d.sum(axis=0) for d in expected.d_states]
        d_weights = [*sums, *expected.d_weights]
        actual = measure(learning, x, None, mask, training)
        assert_same(actual, expected._replace(d_states=[], d_weights=d_weights), TIGHT)
    for a, b in zip(learning.get_initial_state(4), states, strict=True):
        np.testing.assert_allclose(a, b, atol=TIGHT)
    # A call with states does not use them.
    given = [normal(4, UNITS, seed=n) for n in range(len(states))]
    for a, b in zip(*(layer(x, initial_state=given) for layer in (learning, plain)), strict=True):
        np.testing.assert_allclose(a, b, atol=TIGHT)


def test_they_start_at_zero_and_are_saved(tmp_path):
    inputs = keras.Input((None, 2))
    layer = kerasrnn.LSTM(UNITS, learn_initial_state=True)
    model = keras.Model(inputs, layer(inputs))
    assert not np.any([v.numpy() for v in layer.initial_states])
    randomize(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = normal(4, 5, 2).astype("float32")
    np.testing.assert_array_equal(loaded(x), model(x))
    assert layer.get_config()["learn_initial_state"] is True
    assert "learn_initial_state" not in kerasrnn.LSTM(2).get_config()


def test_structured_states():
    """A weight for each tensor."""
    learning, plain = pair(
        lambda **o: kerasrnn.RNN(MemoryCell(UNITS, dtype=PRECISION), **OPTIONS, **o)
    )
    names = ["initial_h", "initial_memory_matrix", "initial_memory_sums_0"]
    assert [v.name for v in learning.initial_states] == names
    h, matrix, sums = repeated(learning, 4)
    x = normal(4, 5, 2)
    actual = learning(x)
    expected = plain(x, initial_state=[h, {"matrix": matrix, "sums": [sums]}])
    for a, b in zip(keras.tree.flatten(actual), keras.tree.flatten(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=TIGHT)


def test_of_a_cell_that_feeds_back_its_output():
    """All of its states, the output included."""

    def make(**options):
        cell = kerasrnn.FeedbackCell(kerasrnn.GRUCell(UNITS, dtype=PRECISION), 2, dtype=PRECISION)
        return kerasrnn.RNN(cell, **OPTIONS, **options)

    learning, plain = pair(make)
    assert [v.name for v in learning.initial_states] == ["initial_h", "initial_y"]
    x = normal(4, 5, 2)
    expected = plain(x, initial_state=repeated(learning, 4))
    for a, b in zip(learning(x), expected, strict=True):
        np.testing.assert_allclose(a, b, atol=TIGHT)


def test_of_a_cell_that_reads_a_memory():
    """Only the states of the inner cell; the others depend on the memory."""

    def make(**options):
        scorer = kerasrnn.LuongAttention("general", dtype=PRECISION)
        cell = kerasrnn.AttentionCell(
            kerasrnn.LSTMCell(UNITS, dtype=PRECISION), scorer, units=2, dtype=PRECISION
        )
        layer = kerasrnn.RNN(cell, **OPTIONS, **options)
        layer.build((None, None, 2), memory_shape=(None, None, 4))
        return layer

    learning, plain = make(learn_initial_state=True), make()
    randomize(learning)
    plain.cell.set_weights(learning.cell.get_weights())
    assert [v.name for v in learning.initial_states] == ["initial_h", "initial_c"]
    x, memory = normal(4, 5, 2), normal(4, 6, 4)
    expected = plain(x, initial_state=repeated(learning, 4), memory=memory)
    for a, b in zip(learning(x, memory=memory), expected, strict=True):
        np.testing.assert_allclose(a, b, atol=TIGHT)


def test_in_stacks_and_both_directions():
    layers = [
        kerasrnn.Bidirectional(kerasrnn.GRU(2, return_sequences=True, learn_initial_state=True)),
        kerasrnn.LSTM(UNITS, learn_initial_state=True),
    ]
    stack = kerasrnn.StackedRNN(layers, return_sequences=True, dtype=PRECISION)
    x = normal(4, 5, 2)
    stack.build(x.shape)
    randomize(stack)
    lower, upper = stack.layers
    parts = (lower.forward_layer, lower.backward_layer, upper)
    states = [state for layer in parts for state in repeated(layer, 4)]
    np.testing.assert_allclose(stack(x), stack(x, initial_state=states), atol=TIGHT)
    backward = lower.backward_layer.initial_states[0].numpy()
    assert np.abs(lower.forward_layer.initial_states[0].numpy() - backward).max() > 0.1


def test_steps_of_a_stack_and_of_a_decoder():
    options = {"dtype": PRECISION}
    stack = kerasrnn.StackedRNN(
        [
            kerasrnn.GRU(UNITS, learn_initial_state=True, **options),
            kerasrnn.LSTM(UNITS, **options),
        ],
        return_sequences=True,
        **options,
    )
    x = normal(4, 5, 2)
    stack.build(x.shape)
    randomize(stack)
    whole, states = stack(x), stack.get_initial_state(4)
    for t in range(5):
        y, states = stack.step(x[:, t], states)
        np.testing.assert_allclose(y, whole[:, t], atol=TIGHT)
    attention = kerasrnn.LuongAttention("general")
    decoder = kerasrnn.Decoder(
        5, [kerasrnn.GRU(UNITS, learn_initial_state=True)], attention=attention
    )
    ids, memory = np.array([[1, 2, 3]]), normal(1, 4, 2).astype("float32")
    whole = decoder(ids, memory=memory)
    randomize(decoder)
    whole, prepared = decoder(ids, memory=memory), decoder.prepare_memory(memory)
    states = decoder.initial_states(batch_size=1, prepared=prepared)
    for t in range(3):
        y, states = decoder.step(ids[:, t], states, prepared=prepared)
        np.testing.assert_allclose(y, whole[:, t], atol=1e-5)
    assert kerasrnn.Decoder.from_config(decoder.get_config()).stack.layers[0].learn_initial_state


def stateful_pair(**options):
    return pair(
        lambda **o: kerasrnn.LSTM(UNITS, stateful=True, **OPTIONS, **o), (4, None, 2), **options
    )


def test_stateful_layers_begin_with_learned_states():
    """Also rows that are reset; the gradient reaches the vectors from those rows only."""
    learning, plain = stateful_pair()
    x, mask = normal(4, 6, 2), make_mask("mixed", 4, 6)
    learned = repeated(learning, 4)
    expected = plain(x[:, :2], initial_state=learned, mask=mask[:, :2])
    for a, b in zip(learning(x[:, :2], mask=mask[:, :2]), expected, strict=True):
        np.testing.assert_allclose(a, b, atol=TIGHT)
    stored = [np.asarray(state) for state in plain.states]
    learning.reset_state(rows=[1, 3])
    for state, old, new in zip(learning.states, stored, learned, strict=True):
        np.testing.assert_allclose(np.asarray(state)[[1, 3]], new[[1, 3]], atol=TIGHT)
        np.testing.assert_allclose(np.asarray(state)[[0, 2]], old[[0, 2]], atol=TIGHT)
    # The weights change between a reset and the next call, which begins with the new ones.
    for vector in learning.initial_states:
        vector.assign(2 * vector.numpy())
    rows = np.array([False, True, False, True])
    begun = [
        np.where(rows[:, None], new, old)
        for old, new in zip(stored, repeated(learning, 4), strict=True)
    ]
    expected = measure(plain, x[:, 2:], begun, mask[:, 2:], True)
    actual = measure(learning, x[:, 2:], None, mask[:, 2:], True)
    sums = [d[rows].sum(axis=0) for d in expected.d_states]
    d_weights = [*sums, *expected.d_weights]
    assert_same(actual, expected._replace(d_states=[], d_weights=d_weights), TIGHT)
    if FIRST_BACKEND:  # on JAX, `measure` stores no states
        assert not np.any(learning.fresh)
        learning.reset_state()
        assert np.all(learning.fresh)


@pytest.mark.traced
@pytest.mark.tensorflow
def test_a_batch_without_steps_leaves_the_rows_fresh():
    import tensorflow as tf

    layer, _ = stateful_pair()
    call = tf.function(layer, input_signature=[tf.TensorSpec((4, None, 2), PRECISION)])
    call(normal(4, 0, 2))
    assert np.all(layer.fresh)
    call(normal(4, 1, 2))
    assert not np.any(layer.fresh)


@pytest.mark.traced
@pytest.mark.tensorflow
def test_exports_and_steps(tmp_path):
    """A stream begins with zeros also here: its states are relative to the learned ones."""
    inputs = keras.Input((None, 2))
    layer = kerasrnn.LSTM(UNITS, return_sequences=True, learn_initial_state=True, name="lstm")
    model = keras.Model(inputs, kerasrnn.GRU(UNITS)(layer(inputs)))
    randomize(model)
    x = normal(2, 4, 2).astype("float32")
    assert export.to_onnx(model, tmp_path / "model.onnx", check=[x]).difference <= 1e-5
    step = export.to_step(model)
    states = [np.zeros((2, UNITS), "float32")] * 3
    for t in range(4):
        y, *states = (np.asarray(v) for v in step([x[:, t], *states]))
    np.testing.assert_allclose(y, model(x), atol=1e-5)
    step.save(tmp_path / "step.keras")
    again = keras.saving.load_model(tmp_path / "step.keras")
    for a, b in zip(again([x[:, 0], *states]), step([x[:, 0], *states]), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="Keras has no LSTM with learn_initial_state=True"):
        export.to_keras(model)


# The reset of rows.


@pytest.mark.torch_backend
@pytest.mark.parametrize(
    "rows", [[1, 3], np.array([1, 3]), np.array([False, True, False, True]), (3, 1, 1)]
)
def test_rows_are_reset(rows):
    layer = kerasrnn.GRU(UNITS, stateful=True, dtype=PRECISION)
    x = normal(4, 6, 2)
    layer(x[:, :3])
    before = np.asarray(layer.states[0])
    layer.reset_state(rows=ops.convert_to_tensor(rows) if isinstance(rows, tuple) else rows)
    after = np.asarray(layer.states[0])
    np.testing.assert_array_equal(after[[1, 3]], 0)
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    y = np.asarray(layer(x[:, 3:]))
    layer.reset_state()
    alone = np.asarray(layer(x[:, 3:]))
    layer.reset_state()
    whole = np.asarray(layer(x))
    np.testing.assert_allclose(y[[1, 3]], alone[[1, 3]], atol=TIGHT)
    np.testing.assert_allclose(y[[0, 2]], whole[[0, 2]], atol=TIGHT)
    layer.reset_state(rows=[])
    np.testing.assert_allclose(layer.states[0], whole, atol=TIGHT)


def test_rows_of_layers_of_layers():
    x = normal(4, 3, 2).astype("float32")

    def gru(**options):
        return kerasrnn.GRU(UNITS, stateful=True, **options)

    for layer in (
        kerasrnn.Bidirectional(gru()),
        kerasrnn.StackedRNN([kerasrnn.LSTM(UNITS), gru()]),
        kerasrnn.RNN([kerasrnn.GRUCell(UNITS), keras.layers.GRUCell(UNITS)], stateful=True),
        kerasrnn.Decoder(2, [kerasrnn.LSTM(UNITS)], "values", stateful=True),
    ):
        layer(x)
        layer.reset_state(rows=2)
        parts = [layer, *getattr(layer, "layers", [])]
        parts += [getattr(layer, f"{way}_layer", layer) for way in ("forward", "backward")]
        states = [
            s for each in parts for s in keras.tree.flatten(getattr(each, "states", None) or [])
        ]
        assert states
        for state in states:
            zero = np.all(np.asarray(state) == 0, axis=-1)
            np.testing.assert_array_equal(zero, [False, False, True, False])


@pytest.mark.tensorflow
def test_rows_in_a_graph():
    import tensorflow as tf

    layer = kerasrnn.GRU(UNITS, stateful=True)
    layer(normal(4, 3, 2).astype("float32"))
    reset = tf.function(lambda rows: layer.reset_state(rows))
    reset(tf.constant([0, 2]))
    np.testing.assert_array_equal(
        np.all(np.asarray(layer.states[0]) == 0, axis=-1), [True, False, True, False]
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([4], r"gru: rows=\[4\]: expected indices from 0 to 3 or booleans of shape \(4,\)"),
        ([-1], "expected indices from 0 to 3"),
        ([0.5], "expected indices from 0 to 3"),
        ([[1]], "expected indices from 0 to 3"),
        ([True, False], r"booleans of shape \(4,\)"),
        ("all", "rows='all'"),
    ],
)
def test_wrong_rows_are_refused(rows, message):
    layer = kerasrnn.GRU(UNITS, stateful=True, name="gru")
    layer.build((4, None, 2))
    with pytest.raises(ValueError, match=message):
        layer.reset_state(rows=rows)


@pytest.mark.parametrize(
    "make",
    [
        lambda: kerasrnn.GRU(2),
        lambda: kerasrnn.GRU(2, stateful=True),
        lambda: kerasrnn.StackedRNN([kerasrnn.GRU(2)]),
        lambda: kerasrnn.Bidirectional(kerasrnn.GRU(2)),
        lambda: kerasrnn.Decoder(3, [kerasrnn.GRU(2)]),
    ],
)
def test_rows_of_a_layer_without_states_are_refused(make):
    layer = make()
    layer.reset_state()
    with pytest.raises(ValueError, match=r"rows=\[0\]: the (layer|decoder) stores no states"):
        layer.reset_state(rows=[0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: kerasrnn.RNN(keras.layers.GRUCell(2), learn_initial_state=True),
            "learn_initial_state=True: expected False with a GRUCell, which is no cell of kerasrnn",
        ),
        (
            lambda: kerasrnn.Decoder(3, [kerasrnn.GRU(2, learn_initial_state=True)], stateful=True),
            "has learn_initial_state=True; expected False, since .* with stateful=True",
        ),
        (
            lambda: kerasrnn.Decoder(
                3, [kerasrnn.GRU(2, learn_initial_state=True)], context="state"
            ),
            "has learn_initial_state=True; expected False, since .* with context='state'",
        ),
        (
            lambda: kerasrnn.GRU(2, learn_initial_state=True).get_initial_state(3),
            "is not built; expected a layer with weights",
        ),
    ],
)
def test_refused(make, message):
    with pytest.raises(ValueError, match=message):
        to_list(make())
