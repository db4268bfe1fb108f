"""How the loop runs: compiled when eager, under XLA, retraced only when it must be.

Each way of running it is tested on probes; every cell is compiled once and runs eagerly once.
"""

import contextlib

import keras
import numpy as np
import pytest

import kerasrnn
from tests.catalogue import MANUAL_AND_AUTOMATIC, PROBES, ROWS, VARIANTS, variant_id
from tests.measure import (
    FIRST_BACKEND,
    PRECISION,
    TIGHT,
    TRAINING,
    assert_same,
    make_mask,
    measure,
    op_by_op,
    randomize,
)

rows = pytest.mark.parametrize("row", ROWS, ids=variant_id)
probes = pytest.mark.parametrize("row", PROBES, ids=variant_id)
manual_and_automatic = pytest.mark.parametrize("row", MANUAL_AND_AUTOMATIC, ids=variant_id)


def sequences(batch=4, time=6, features=3, dtype="float32"):
    return np.random.default_rng(0).standard_normal((batch, time, features)).astype(dtype)


def count_steps(monkeypatch, cell_class, name="step"):
    calls = []
    original = getattr(cell_class, name)

    def step(self, *args):
        calls.append(1)
        return original(self, *args)

    monkeypatch.setattr(cell_class, name, step)
    return calls


@probes
def test_an_eager_call_walks_no_python_loop(row, monkeypatch):
    """The step is traced a fixed number of times, however long the sequence, and then never."""
    calls = count_steps(monkeypatch, row.cell)
    layer = row.layer(5, return_sequences=True)
    layer(sequences(time=50))
    traced = len(calls)
    assert 1 <= traced <= 3
    layer(sequences(time=50))
    assert len(calls) == traced


@pytest.mark.parametrize("jit_compile", ["auto", False])
@manual_and_automatic
def test_a_step_of_training_traces_no_loop_again(row, jit_compile, monkeypatch):
    """Nor compiles one: JAX would, in every call, where the model is not compiled."""
    calls = count_steps(monkeypatch, row.cell, "recurrent_products")
    model = keras.Sequential([row.layer(5, jit_compile=jit_compile), keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
    traced = []
    for _ in range(3):
        model.train_on_batch(sequences(), np.ones((4, 1)))
        model(sequences())
        traced.append(len(calls))
    assert 0 < traced[0] == traced[1] == traced[2]


@manual_and_automatic
def test_another_length_or_batch_is_traced_once_more_at_most(row, monkeypatch):
    calls = count_steps(monkeypatch, row.cell)
    layer = row.layer(5)
    layer(sequences())
    if keras.config.backend() != "tensorflow":
        return  # JAX compiles every shape anew, by design
    for time in range(7, 12):
        layer(sequences(batch=time, time=time))
    assert len(calls) <= 3 * 3  # static, then batch and time relaxed


@pytest.mark.parametrize(
    ("row", "variant", "training"),
    [
        *((r, v, TRAINING[-1]) for r, v in VARIANTS if v in ({}, {"reset_after": False})),
        *((r, {}, False) for r in MANUAL_AND_AUTOMATIC if FIRST_BACKEND),
    ],
    ids=variant_id,
)
def test_jit_compile_changes_no_number(row, variant, training):
    """Of any cell, with masks of every kind: as its operations one by one."""
    x = sequences(dtype=PRECISION)
    options = {**variant, "return_sequences": True, "return_state": True, "dtype": PRECISION}
    compiled, other = (row.layer(5, jit_compile=jit, **options) for jit in (True, False))
    for layer in (compiled, other):
        layer.build(x.shape)
    randomize(compiled)
    other.set_weights(compiled.get_weights())
    mask = make_mask("mixed", 4, 6)
    with op_by_op():
        expected = measure(other, x, mask=mask, training=training)
    assert_same(measure(compiled, x, mask=mask, training=training), expected, TIGHT)


@pytest.mark.tensorflow
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("in_a_function", [False, True])
@pytest.mark.parametrize("unroll", [False, True])
def test_xla_compiles_the_steps_where_jit_compile_says_so(
    unroll, in_a_function, training, monkeypatch
):
    import tensorflow as tf
    from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

    by_xla = []
    step = kerasrnn.GRUCell.recurrent_products

    def watched(self, *args):
        by_xla.append(GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()))
        return step(self, *args)

    monkeypatch.setattr(kerasrnn.GRUCell, "recurrent_products", watched)
    x, results = tf.constant(sequences(time=3)), []
    for jit_compile, expected in {
        True: True,
        False: False,
        "auto": in_a_function and training and not unroll,
    }.items():
        by_xla.clear()
        keras.utils.set_random_seed(3)
        layer = kerasrnn.GRU(5, unroll=unroll, jit_compile=jit_compile)
        layer.build(x.shape)
        call = tf.function(layer) if in_a_function else layer
        with tf.GradientTape() as tape:
            y = call(x, training=training)
        results.append([y, *tape.gradient(y, layer.trainable_weights)])
        assert by_xla
        assert set(by_xla) == {expected}
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


@rows
def test_supports_jit_says_whether_xla_may_be_used(row):
    assert row.layer(5).supports_jit
    assert row.layer(5, jit_compile=True).supports_jit
    assert not row.layer(5, jit_compile=False).supports_jit


@manual_and_automatic
def test_under_xla_a_model_trains_to_the_same_weights(row):
    """As a whole, against the loop written out and computed operation by operation."""
    x = sequences(batch=16)
    weights = []
    for jit in (True, False):
        keras.utils.set_random_seed(3)
        model = keras.Sequential([row.layer(5, unroll=not jit), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=jit)
        with contextlib.nullcontext() if jit else op_by_op():
            for rows in (x[:8], x[8:], x[:8], x[8:]):
                model.train_on_batch(rows, np.ones((8, 1)))
        assert model.jit_compile is jit
        weights.append(model.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.tensorflow
@rows
def test_functions_that_run_eagerly(row):
    """As users have it who look for a mistake: the loop is Python's, the numbers are the same.

    So what a cell computes may be tested in this way, which takes no time to trace.
    """
    layer, x = row.layer(5, return_sequences=True, return_state=True), sequences()
    layer.build(x.shape)
    randomize(layer)
    mask = make_mask("mixed", 4, 6)
    expected = measure(layer, x, mask=mask)
    for training in TRAINING:
        with op_by_op():
            assert_same(measure(layer, x, mask=mask, training=training), expected, 1e-5)


@pytest.mark.tensorflow
@probes
def test_tapes_and_functions(row):
    """A persistent tape twice, a retraced function, a second derivative's first half."""
    import tensorflow as tf

    x = tf.constant(sequences())
    layer = row.layer(5)
    layer(x)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        loss = tf.reduce_sum(layer(x) ** 2)
    first, second = tape.gradient(loss, x), tape.gradient(loss, x)
    np.testing.assert_array_equal(first, second)

    @tf.function(reduce_retracing=True)
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer(x) ** 2)
        return tape.gradient(loss, x)

    np.testing.assert_allclose(gradient(x), first, atol=1e-6)
    assert gradient(x[:, :4]).shape == (4, 4, 3)
    assert gradient(x[:2]).shape == (2, 6, 3)
    np.testing.assert_allclose(gradient(x), first, atol=1e-6)


@pytest.mark.tensorflow
@probes
def test_unknown_batch_and_time(row):
    import tensorflow as tf

    layer = row.layer(5, return_sequences=True, go_backwards=True)
    call = tf.function(
        lambda x, mask: layer(x, mask=mask),
        input_signature=[tf.TensorSpec((None, None, 3)), tf.TensorSpec((None, None), tf.bool)],
    )
    for batch, time in ((4, 6), (1, 3)):
        x = sequences(batch, time)
        mask = make_mask("gapped", batch, time)
        np.testing.assert_allclose(call(x, mask), layer(x, mask=mask), atol=1e-6)


def without_steps(layer, training, jit_compile=None, batch=None):
    """Outputs and gradients of a loss of them, where only the graph knows that there are no steps.

    Of rows that begin with states of ones, where the layer returns states.
    """
    import tensorflow as tf

    layer(sequences(2, 6))
    x, mask = np.zeros((2, 0, 3), "float32"), np.zeros((2, 0), bool)
    sizes = keras.tree.flatten(layer.state_size) if layer.return_state else []
    begun = [tf.ones((2, size)) for size in sizes]

    @tf.function(
        jit_compile=jit_compile,
        input_signature=[
            tf.TensorSpec((batch, None, 3)),
            tf.TensorSpec((batch, None), tf.bool),
            [tf.TensorSpec((batch, size)) for size in sizes],
        ],
    )
    def call(x, mask, begun):
        with tf.GradientTape() as tape:
            tape.watch(begun)
            results = layer(x, mask=mask, initial_state=begun or None, training=training)
            loss = sum(tf.reduce_sum(y) for y in tf.nest.flatten(results))
        gradients = tape.gradient(loss, [begun, layer.trainable_weights])
        return results, *gradients

    return call(x, mask, begun)


@pytest.mark.tensorflow
@probes
def test_a_sequence_without_steps_in_a_graph(row):
    """No outputs, the states that it began with, and no gradient of the weights."""
    layer = row.layer(5, return_sequences=True, return_state=True)
    (output, *states), d_begun, d_weights = without_steps(layer, training=True)
    assert output.shape == (2, 0, 5)
    for state, d_state in zip(states, d_begun, strict=True):
        np.testing.assert_array_equal(state, np.ones((2, 5)))
        np.testing.assert_array_equal(d_state, np.ones((2, 5)))
    for d_weight in d_weights:
        np.testing.assert_array_equal(d_weight, np.zeros(d_weight.shape))


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("make", "training", "jit_compile"),
    [
        (lambda: kerasrnn.LSTM(5, checkpoint_every=2, return_state=True), True, None),
        (
            lambda: kerasrnn.UGRNN(
                5, checkpoint_every="sqrt", go_backwards=True, jit_compile=True, return_state=True
            ),
            True,
            None,
        ),
        (lambda: kerasrnn.GRU(5, dropout=0.5, return_state=True), True, True),
        (lambda: kerasrnn.LSTM(5, jit_compile=True, return_state=True), False, None),
        (lambda: kerasrnn.RNN(keras.layers.GRUCell(5, dropout=0.5), return_state=True), True, None),
        (lambda: kerasrnn.RNN([keras.layers.LSTMCell(5), kerasrnn.GRUCell(5)]), False, None),
        (lambda: kerasrnn.Bidirectional(kerasrnn.GRU(5, return_state=True)), True, None),
        (
            lambda: kerasrnn.StackedRNN(
                [kerasrnn.Bidirectional(kerasrnn.GRU(5)), kerasrnn.LSTM(10)], residual=True
            ),
            True,
            None,
        ),
    ],
    ids=[
        "checkpoints",
        "square root and XLA",
        "dropout in XLA",
        "XLA",
        "Keras cell",
        "list of cells",
        "bidirectional",
        "stack",
    ],
)
def test_no_steps_in_other_loops(make, training, jit_compile):
    results, _, d_weights = without_steps(make(), training, jit_compile)
    output, *states = results if isinstance(results, (list, tuple)) else [results]
    np.testing.assert_array_equal(output, np.zeros(output.shape))
    for state in states:
        np.testing.assert_array_equal(state, np.ones((2, 5)))
    for d_weight in d_weights:
        np.testing.assert_array_equal(0 if d_weight is None else d_weight, 0)


@pytest.mark.tensorflow
def test_no_steps_leave_a_stateful_layer_where_it_was():
    layer = kerasrnn.GRU(5, stateful=True)
    y = layer(sequences(2, 6))
    output, _, _ = without_steps(layer, training=True, batch=2)
    np.testing.assert_array_equal(output, np.zeros((2, 5)))
    expected = kerasrnn.GRU(5, stateful=True)
    expected(sequences(2, 6))
    expected.set_weights(layer.get_weights())
    expected.reset_state()
    np.testing.assert_allclose(expected(sequences(2, 6)), y, atol=1e-6)
    expected(sequences(2, 6))  # as `without_steps` does
    np.testing.assert_allclose(layer.states[0], expected.states[0], atol=1e-6)


@pytest.mark.tensorflow
def test_a_masked_keras_cell_over_an_unknown_length():
    """As eagerly; Keras's own loop asks a tuple of inputs for its length."""
    import tensorflow as tf

    layer = kerasrnn.RNN(keras.layers.LSTMCell(5), return_sequences=True)
    x, mask = sequences(2, 6), make_mask("gapped", 2, 6)
    signature = [tf.TensorSpec((None, None, 3)), tf.TensorSpec((None, None), tf.bool)]
    call = tf.function(lambda x, mask: layer(x, mask=mask), input_signature=signature)
    twin = kerasrnn.LSTM(5, return_sequences=True)
    expected = layer(x, mask=mask)
    twin(x)
    twin.set_weights(layer.get_weights())
    np.testing.assert_allclose(expected, twin(x, mask=mask), atol=1e-6)
    np.testing.assert_allclose(call(x, mask), expected, atol=1e-6)
