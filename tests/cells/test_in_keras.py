"""The layers and cells in Keras's models and wrappers: shapes, precision, states, dropout."""

import contextlib
import gc
import weakref

import keras
import numpy as np
import pytest

import kerasrnn
from tests.catalogue import BUILT_IN, BY_NAME, MANUAL_AND_AUTOMATIC, ROWS_OR_PROBES, variant_id
from tests.measure import (
    FIRST_BACKEND,
    PRECISION,
    TIGHT,
    assert_same,
    make_mask,
    measure,
    op_by_op,
    passing_masks,
    randomize,
    to_list,
)

rows = pytest.mark.parametrize("row", ROWS_OR_PROBES, ids=variant_id)
built_in = pytest.mark.parametrize("row", BUILT_IN, ids=variant_id)
manual_and_automatic = pytest.mark.parametrize("row", MANUAL_AND_AUTOMATIC, ids=variant_id)


def sequences(batch=4, time=6, features=3, dtype="float32", seed=0):
    return np.random.default_rng(seed).standard_normal((batch, time, features)).astype(dtype)


# Wrappers.


@pytest.mark.parametrize("row", MANUAL_AND_AUTOMATIC if FIRST_BACKEND else BUILT_IN, ids=variant_id)
def test_inside_keras_bidirectional(row):
    x = sequences(dtype=PRECISION)
    for return_sequences, kind in ((True, "mixed"), (False, "none")):
        options = {"return_sequences": return_sequences, "return_state": True, "dtype": PRECISION}
        ours, twin = (
            passing_masks(keras.layers.Bidirectional(make(5, **options), dtype=PRECISION))
            for make in (row.layer, row.twin)
        )
        ours.build(x.shape)
        twin.build(x.shape)
        randomize(ours)
        twin.set_weights(ours.get_weights())
        mask = make_mask(kind, 4, 6)
        with op_by_op():
            assert_same(measure(ours, x, mask=mask), measure(twin, x, mask=mask), TIGHT)


@built_in
def test_cells_inside_keras_rnn_and_stacked_cells(row):
    x = sequences(dtype=PRECISION)
    mask = make_mask("gapped", 4, 6)
    for wrap in (lambda cell: cell(5, dtype=PRECISION), lambda cell: [cell(5), cell(4)]):
        keras.config.set_dtype_policy(PRECISION)
        ours, builtin = (
            passing_masks(keras.layers.RNN(wrap(cell), return_sequences=True, return_state=True))
            for cell in (row.cell, row.keras_cell)
        )
        for layer in (ours, builtin):
            layer.build(x.shape)
        ours.set_weights(builtin.get_weights())
        with op_by_op():
            results = [to_list(layer(x, mask=mask)) for layer in (ours, builtin)]
        for a, b in zip(*(keras.tree.flatten(r) for r in results), strict=True):
            np.testing.assert_allclose(a, b, atol=TIGHT)


@built_in
def test_dropout_inside_keras_rnn_and_stacked_cells(row):
    """Keras draws one mask per sequence, for our cells and for its own."""
    x = sequences(dtype=PRECISION)
    keras.config.set_dtype_policy(PRECISION)
    options = {"dropout": 0.3, "recurrent_dropout": 0.3}
    ours, builtin = (
        keras.layers.RNN([cell(5, seed=1, **options), cell(4, seed=2, **options)])
        for cell in (row.cell, row.keras_cell)
    )
    for layer in (ours, builtin):
        layer.build(x.shape)
    ours.set_weights(builtin.get_weights())
    with op_by_op():
        np.testing.assert_allclose(ours(x, training=True), builtin(x, training=True), atol=TIGHT)


@built_in
def test_rnn_runs_any_cell(row):
    """`kerasrnn.RNN` of our cell is our layer; of Keras's cell, Keras's loop."""
    x = sequences()
    layer = row.layer(5, return_sequences=True)
    layer.build(x.shape)
    randomize(layer)
    with op_by_op():
        expected = layer(x)
        for cell in (row.cell(5), row.keras_cell(5)):
            rnn = kerasrnn.RNN(cell, return_sequences=True)
            rnn.build(x.shape)
            rnn.set_weights(layer.get_weights())
            np.testing.assert_allclose(rnn(x), expected, atol=1e-6)
            again = kerasrnn.RNN.from_config(rnn.get_config())
            assert again.get_config() == rnn.get_config()


@manual_and_automatic
def test_a_list_of_cells_is_a_stack_of_layers(row):
    """Keras's loop steps through `StackedRNNCells`; our layers run one after the other."""
    x = sequences()
    first, second = row.layer(5, return_sequences=True), row.layer(4, return_sequences=True)
    first.build(x.shape)
    second.build((*x.shape[:2], 5))
    randomize(first)
    randomize(second, seed=2)
    stacked = kerasrnn.RNN([row.cell(5), row.cell(4)], return_sequences=True)
    stacked.build(x.shape)
    stacked.set_weights([*first.get_weights(), *second.get_weights()])
    with op_by_op():
        np.testing.assert_allclose(stacked(x), second(first(x)), atol=1e-6)


@rows
def test_stepping_the_cell_equals_running_the_layer(row):
    """The states are in a list; a single one may also be a tensor."""
    x = sequences(time=3)
    layer = row.layer(5, return_sequences=True, return_state=True)
    layer.build((4, None, 3))
    randomize(layer)
    with op_by_op():
        expected, *finals = layer(x)
    assert [tuple(y.shape) for y in (expected, *finals)] == [
        tuple(shape) for shape in layer.compute_output_shape(x.shape)
    ]
    states = layer.cell.get_initial_state(4)
    for t in range(x.shape[1]):
        previous = states
        output, states = layer.cell(x[:, t], states)
        np.testing.assert_allclose(output, expected[:, t], atol=1e-6)
    assert isinstance(states, list)
    for state, final in zip(states, finals, strict=True):
        np.testing.assert_allclose(state, final, atol=1e-6)
    if len(states) == 1:
        np.testing.assert_array_equal(layer.cell(x[:, -1], previous[0])[1], states[0])


def test_inside_time_distributed():
    x = np.random.default_rng(0).standard_normal((2, 4, 6, 3)).astype("float32")
    layer = kerasrnn.LSTM(5)
    distributed = keras.layers.TimeDistributed(layer)
    with op_by_op():
        np.testing.assert_allclose(np.asarray(distributed(x))[:, 1], layer(x[:, 1]), atol=1e-6)


# Models.


def test_functional_sequential_and_subclassed_models_agree():
    x = sequences()
    layer = kerasrnn.LSTM(5, return_sequences=True)
    inputs = keras.Input((None, 3))  # symbolic batch and time
    functional = keras.Model(inputs, layer(inputs))
    assert functional.output_shape == (None, None, 5)
    sequential = keras.Sequential([layer])

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def call(self, x):
            return self.layer(x)

    with op_by_op():
        expected = np.asarray(layer(x))
        for model in (functional, sequential, Subclassed()):
            np.testing.assert_allclose(model(x), expected, atol=1e-6)
            np.testing.assert_allclose(model(x[:3, :4]), expected[:3, :4], atol=1e-6)
    np.testing.assert_allclose(functional.predict(x, verbose=0), expected, atol=1e-6)
    np.testing.assert_allclose(
        functional.predict(x[:3, :4], verbose=0), expected[:3, :4], atol=1e-6
    )


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_symbolic_initial_states(name):
    """States as Keras tensors: the final states of an encoder start a decoder."""
    x, row = sequences(), BY_NAME[name]
    source, target = keras.Input((None, 3)), keras.Input((None, 3))
    encoder, decoder = row.layer(5, return_state=True), row.layer(5, return_sequences=True)
    _, *states = encoder(source)
    model = keras.Model([source, target], decoder(target, initial_state=states))
    assert len(states) == len(row.cell.state_names)
    with op_by_op():
        eager = decoder(x[:, :2], initial_state=encoder(x)[1:])
        np.testing.assert_allclose(model([x, x[:, :2]]), eager, atol=1e-6)
        if len(states) == 1:
            one = decoder(x[:, :2], initial_state=encoder(x)[1])
            np.testing.assert_array_equal(np.asarray(one), np.asarray(eager))


@manual_and_automatic
def test_output_shapes_are_those_of_the_outputs(row):
    x = sequences()
    for return_sequences in (True, False):
        for return_state in (True, False):
            layer = row.layer(5, return_sequences=return_sequences, return_state=return_state)
            shapes = [layer.compute_output_shape(x.shape)]
            if return_state:
                shapes = list(shapes[0])
            with op_by_op():
                outputs = to_list(layer(x))
            assert [tuple(y.shape) for y in outputs] == [tuple(s) for s in shapes]


@pytest.mark.parametrize("unroll", [False, True])
def test_a_layer_is_freed_with_its_loops(unroll):
    """Whatever was traced for it: eagerly, in training and in prediction."""
    layer = kerasrnn.LSTM(5, unroll=unroll)
    model = keras.Sequential([keras.Input((6, 3)), layer])
    model.compile("sgd", "mse", jit_compile=False)
    layer(sequences())
    model.predict_on_batch(sequences())
    if FIRST_BACKEND:  # JAX keeps functions with a gradient of their own until `jax.clear_caches`
        layer(sequences(), training=True)
        model.train_on_batch(sequences(), np.zeros((4, 5)))
    references = [weakref.ref(layer), weakref.ref(layer.cell)]
    del layer, model
    keras.backend.clear_session()
    gc.collect()
    assert [reference() for reference in references] == [None, None]


# Precision.


@rows
def test_half_precision(row):
    """Every cell, operation by operation; the traced loop, whose types have to agree."""
    x = sequences(time=4)
    exact = row.layer(5, return_sequences=True, **row.steady)
    exact.build(x.shape)
    with op_by_op():
        expected = measure(exact, x)
    policies = {
        "mixed_bfloat16": 0.05,
        "mixed_float16": 0.01,
        # Weights in half precision, too; the step is the same.
        **({"float16": 0.01, "bfloat16": 0.05} if row.name == "LSTM" else {}),
    }
    for policy, tolerance in policies.items():
        # Keras has no orthogonal initializer in half precision.
        layer = row.layer(
            5,
            return_sequences=True,
            dtype=policy,
            **row.with_arguments(recurrent_initializer="glorot_uniform"),
            **row.steady,
        )
        layer.build(x.shape)
        layer.set_weights(exact.get_weights())
        traced = row in MANUAL_AND_AUTOMATIC and policy == "mixed_bfloat16"
        with contextlib.nullcontext() if traced else op_by_op():
            actual = measure(layer, x)
        assert actual.outputs[0].dtype.name == layer.compute_dtype
        for a, b in zip(actual.arrays(), expected.arrays(), strict=True):
            scale = np.abs(b).max()
            np.testing.assert_allclose(
                np.asarray(a, "float32"), b, atol=tolerance * scale, err_msg=policy
            )


@pytest.mark.tensorflow
def test_half_precision_adds_in_float32():
    """A cell state that gains a little at every step would not change in bfloat16."""
    steps, gain, start = 50, 0.02, 8.0
    expected = start + steps * np.tanh(gain)

    def final(layer_class, training):
        layer = layer_class(1, return_state=True, dtype="mixed_bfloat16")
        layer.build((None, None, 1))
        # Gates i and f are one, the candidate is tanh(gain), whatever the input.
        layer.set_weights([np.zeros((1, 4)), np.zeros((1, 4)), np.array([40, 40, gain, 0.0])])
        states = [np.zeros((1, 1), "float32"), np.full((1, 1), start, "float32")]
        with op_by_op():
            x = np.zeros((1, steps, 1), "float32")
            _, _, c = layer(x, initial_state=states, training=training)
        return float(keras.ops.cast(c, "float32")[0, 0])

    for training in (False, True):
        assert abs(final(kerasrnn.LSTM, training) - expected) < 0.01 * expected
    assert abs(final(keras.layers.LSTM, training=False) - expected) > 0.1 * expected


# Stateful layers.


def test_stateful_layers_continue_from_their_last_states():
    x = sequences(dtype=PRECISION)
    options = {"return_sequences": True, "dtype": PRECISION}
    whole = kerasrnn.LSTM(5, **options)
    whole.build(x.shape)
    with op_by_op():
        expected = np.asarray(whole(x))
    layer = kerasrnn.LSTM(5, stateful=True, **options)
    layer.build((4, None, 3))
    layer.set_weights(whole.get_weights())
    first, second = np.asarray(layer(x[:, :3])), np.asarray(layer(x[:, 3:]))
    np.testing.assert_allclose(np.concatenate([first, second], 1), expected, atol=TIGHT)
    layer.reset_state()
    assert not any(np.asarray(state).any() for state in layer.states)
    np.testing.assert_allclose(layer(x[:, :3]), first, atol=TIGHT)
    with pytest.raises(ValueError, match="batch size"):
        layer(x[:3])
    with pytest.raises(ValueError, match="batch size must be static"):
        kerasrnn.LSTM(5, stateful=True).build((None, None, 3))


@pytest.mark.tensorflow
def test_states_are_kept_without_steps():
    """In graphs, where the number of steps is unknown; with a known one it is an error."""
    layer = kerasrnn.LSTM(5, stateful=True)
    inputs = keras.Input((None, 3), batch_size=4)
    model = keras.Model(inputs, layer(inputs))
    model.predict_on_batch(sequences())
    before = [state.numpy() for state in layer.states]
    assert all(np.abs(state).min() > 0 for state in before)
    output = model.predict_on_batch(sequences()[:, :0])
    np.testing.assert_array_equal(output, np.zeros((4, 5)))
    for state, expected in zip(layer.states, before, strict=True):
        np.testing.assert_array_equal(state.numpy(), expected)


# Dropout.


@manual_and_automatic
def test_inference_does_not_change_the_random_state(row):
    x = sequences()
    layer = row.layer(5, dropout=0.5, recurrent_dropout=0.5, seed=1)
    state = np.asarray(layer.cell.seed_generator.state)
    with op_by_op():
        first = np.asarray(layer(x))
        np.testing.assert_array_equal(np.asarray(layer(x)), first)
        np.testing.assert_array_equal(np.asarray(layer.cell.seed_generator.state), state)
        one, two = (np.asarray(layer(x, training=True)) for _ in range(2))
    assert np.abs(one - two).max() > 1e-3


def test_dropout_masks_are_the_same_at_every_step():
    """With a constant input, a linear activation and no recurrence, the output is constant."""
    layer = kerasrnn.SimpleRNN(
        5,
        activation=None,
        dropout=0.5,
        seed=1,
        recurrent_initializer="zeros",
        return_sequences=True,
    )
    with op_by_op():
        y = np.asarray(layer(np.ones((3, 4, 6), "float32"), training=True))
    np.testing.assert_allclose(y, np.broadcast_to(y[:, :1], y.shape), atol=1e-6)
    assert np.abs(y[0] - y[1]).max() > 1e-3
