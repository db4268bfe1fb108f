"""How the time loop runs: compiled in eager calls, under XLA, and traced again only if necessary.

Each way of running it is tested on probes. XLA compiles every cell in
`tests/recurrence/test_in_place.py`, and on JAX wherever a loop runs.
"""

import contextlib
import itertools

import keras
import numpy as np
import pytest

import kerasrnn
from tests.catalogue import MANUAL_AND_AUTOMATIC, PROBES, variant_id
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

probes = pytest.mark.parametrize("row", PROBES, ids=variant_id)
manual_and_automatic = pytest.mark.parametrize("row", MANUAL_AND_AUTOMATIC, ids=variant_id)
MANUAL, AUTOMATIC = MANUAL_AND_AUTOMATIC


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


@manual_and_automatic
def test_eager_calls_trace_the_step_a_fixed_number_of_times(row, monkeypatch):
    """Independent of the number of steps; once more for other shapes, at most."""
    calls = count_steps(monkeypatch, row.cell)
    layer = row.layer(5, return_sequences=True)
    layer(sequences(time=50))
    traced = len(calls)
    assert 1 <= traced <= 3
    layer(sequences(time=50))
    assert len(calls) == traced
    if not FIRST_BACKEND:
        return  # JAX compiles for every shape, by design
    for size in range(7, 12):
        layer(sequences(batch=size, time=size))
    assert len(calls) <= 3 * 3  # static shapes, then unknown batch and time


@pytest.mark.parametrize(
    ("row", "jit_compile"), [(MANUAL, "auto"), (AUTOMATIC, False)], ids=variant_id
)
def test_later_training_steps_trace_no_loop(row, jit_compile, monkeypatch):
    """Nor do they compile one, as JAX would in every call if the model is not compiled."""
    calls = count_steps(monkeypatch, row.cell, "recurrent_products")
    model = keras.Sequential([row.layer(5, jit_compile=jit_compile), keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
    traced = []
    for _ in range(3):
        model.train_on_batch(sequences(), np.ones((4, 1)))
        model(sequences())
        traced.append(len(calls))
    assert 0 < traced[0] == traced[1] == traced[2]


@probes
def test_jit_compile_changes_no_values(row):
    """XLA against the same operations one by one, in training, with masks of every kind.

    GRU with a product inside the step.
    """
    training, variant = TRAINING[-1], {"reset_after": False} if row.name == "GRU" else {}
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
@pytest.mark.parametrize("unroll", [False, True])
def test_xla_compiles_the_steps_according_to_jit_compile(unroll, monkeypatch):
    """Forward and backward; inside a function they are only traced."""
    import tensorflow as tf
    from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

    by_xla = []
    recurrent_products = kerasrnn.SimpleRNNCell.recurrent_products

    def watched(self, *args):
        by_xla.append(GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()))
        return recurrent_products(self, *args)

    monkeypatch.setattr(kerasrnn.SimpleRNNCell, "recurrent_products", watched)
    x = tf.constant(sequences(time=2))

    def results_of(layer, training):
        with tf.GradientTape() as tape:
            outputs = layer(x, training=training)
        if tf.inside_function() and not training:
            return outputs
        return [*outputs, *tape.gradient(outputs, layer.trainable_weights)]

    for in_a_function, training in itertools.product([False, True], repeat=2):
        results = []
        for jit_compile, expected in {
            True: True,
            False: False,
            "auto": in_a_function and training and not unroll,
        }.items():
            by_xla.clear()
            keras.utils.set_random_seed(3)
            layer = kerasrnn.SimpleRNN(2, return_state=True, unroll=unroll, jit_compile=jit_compile)
            layer.build(x.shape)
            if in_a_function:
                tf.function(results_of).get_concrete_function(layer, training)
            else:
                results.append(results_of(layer, training))
            assert by_xla
            assert set(by_xla) == {expected}
        for a, b, c in zip(*results, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
            np.testing.assert_allclose(a, c, atol=1e-5)


def test_supports_jit_is_false_without_jit_compile():
    """Keras compiles a model with XLA only if all of its layers support it."""
    assert kerasrnn.LSTM(5).supports_jit
    assert kerasrnn.LSTM(5, jit_compile=True).supports_jit
    assert not kerasrnn.LSTM(5, jit_compile=False).supports_jit


def test_under_xla_a_model_trains_to_the_same_weights():
    """The entire model, against unrolled steps, operation by operation."""
    x = sequences(batch=16)
    weights = []
    for jit in (True, False):
        keras.utils.set_random_seed(3)
        layers = [
            MANUAL.layer(5, return_sequences=True, unroll=not jit),
            AUTOMATIC.layer(5, unroll=not jit),
            keras.layers.Dense(1),
        ]
        model = keras.Sequential(layers)
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=jit)
        with contextlib.nullcontext() if jit else op_by_op():
            for rows in (x[:8], x[8:], x[:8], x[8:]):
                model.train_on_batch(rows, np.ones((8, 1)))
        assert model.jit_compile is jit
        weights.append(model.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.tensorflow
@manual_and_automatic
def test_persistent_tapes_and_functions(row):
    """One gradient taken twice; with the manual gradient also in a function, for two shapes."""
    import tensorflow as tf

    layer, x = row.layer(5), tf.constant(sequences())
    layer.build(x.shape)

    def gradients(x):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer(x) ** 2)
        return tape.gradient(loss, x), tape.gradient(loss, x)

    functions = [gradients]
    if row is MANUAL:
        functions.append(tf.function(gradients, reduce_retracing=True))
    for function in functions:
        for part in (x[:2, :4], x):
            with op_by_op():
                expected, _ = gradients(part)
            for actual in function(part):
                np.testing.assert_allclose(actual, expected, atol=1e-6)


# Graphs in which the batch and the number of steps are unknown.


def in_a_graph(layer, training, jit_compile=None, batch=None):
    """A function `(x, mask, states) -> (results, d_states, d_weights)`, and the same in a graph.

    The gradients are those of the sum of all results.
    """
    import tensorflow as tf

    layer.build((batch, None, 3))
    randomize(layer)
    sizes = keras.tree.flatten(layer.state_size) if layer.return_state else []

    def call(x, mask, states):
        with tf.GradientTape() as tape:
            tape.watch(states)
            results = layer(x, mask=mask, initial_state=states or None, training=training)
            loss = sum(tf.reduce_sum(y) for y in tf.nest.flatten(results))
        gradients = tape.gradient(loss, [states, layer.trainable_weights])
        return results, *gradients

    signature = [
        tf.TensorSpec((batch, None, 3)),
        tf.TensorSpec((batch, None), tf.bool),
        [tf.TensorSpec((batch, size)) for size in sizes],
    ]
    return call, tf.function(call, jit_compile=jit_compile, input_signature=signature)


def without_steps(layer, in_graph):
    """The results for two rows without steps, with initial states of ones."""
    import tensorflow as tf

    sizes = keras.tree.flatten(layer.state_size) if layer.return_state else []
    states = [tf.ones((2, size)) for size in sizes]
    return in_graph(np.zeros((2, 0, 3), "float32"), np.zeros((2, 0), bool), states)


@pytest.mark.tensorflow
@probes
def test_unknown_batch_and_time(row):
    """Values and gradients; without steps, there are no outputs, and the states do not change."""
    import tensorflow as tf

    layer = row.layer(5, return_sequences=True, return_state=True, go_backwards=True)
    eager, in_graph = in_a_graph(layer, training=True)
    for batch, time in ((4, 6), (1, 3)):
        x = tf.constant(sequences(batch, time))
        states = [tf.ones((batch, 5)) for _ in row.cell.state_names]
        arguments = (x, tf.constant(make_mask("gapped", batch, time)), states)
        with op_by_op():
            expected = eager(*arguments)
        for a, b in zip(
            tf.nest.flatten(in_graph(*arguments)), tf.nest.flatten(expected), strict=True
        ):
            np.testing.assert_allclose(a, b, atol=1e-5)
    (output, *states), d_states, d_weights = without_steps(layer, in_graph)
    assert output.shape == (2, 0, 5)
    for state in (*states, *d_states):
        np.testing.assert_array_equal(state, np.ones((2, 5)))
    for d_weight in d_weights:
        np.testing.assert_array_equal(d_weight, np.zeros(d_weight.shape))


def simple_rnn(units=5, **options):
    return kerasrnn.SimpleRNN(units, **options)


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("make", "training", "jit_compile"),
    [
        (lambda: simple_rnn(checkpoint_every=2, return_state=True), True, None),
        (
            lambda: simple_rnn(
                checkpoint_every="sqrt", go_backwards=True, jit_compile=True, return_state=True
            ),
            True,
            None,
        ),
        (lambda: simple_rnn(dropout=0.5, return_state=True), True, True),
        (lambda: simple_rnn(jit_compile=True, return_state=True), False, None),
        (
            lambda: kerasrnn.RNN(keras.layers.SimpleRNNCell(5, dropout=0.5), return_state=True),
            True,
            None,
        ),
        (
            lambda: kerasrnn.RNN([keras.layers.SimpleRNNCell(5), kerasrnn.SimpleRNNCell(5)]),
            False,
            None,
        ),
        (lambda: kerasrnn.Bidirectional(simple_rnn(return_state=True)), True, None),
        (
            lambda: kerasrnn.StackedRNN(
                [kerasrnn.Bidirectional(simple_rnn()), simple_rnn(10)], residual=True
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
def test_other_loops_without_steps(make, training, jit_compile):
    layer = make()
    _, in_graph = in_a_graph(layer, training, jit_compile)
    results, _, d_weights = without_steps(layer, in_graph)
    output, *states = results if isinstance(results, (list, tuple)) else [results]
    np.testing.assert_array_equal(output, np.zeros(output.shape))
    for state in states:
        np.testing.assert_array_equal(state, np.ones((2, 5)))
    for d_weight in d_weights:
        np.testing.assert_array_equal(0 if d_weight is None else d_weight, 0)


@pytest.mark.tensorflow
def test_sequences_without_steps_keep_the_states_of_a_stateful_layer():
    layer = simple_rnn(stateful=True)
    _, in_graph = in_a_graph(layer, training=True, batch=2)
    with op_by_op():
        y = np.asarray(layer(sequences(2, 6)))
    output, _, _ = without_steps(layer, in_graph)
    np.testing.assert_array_equal(output, np.zeros((2, 5)))
    np.testing.assert_array_equal(layer.states[0], y)
    assert (y != 0).all()


@pytest.mark.tensorflow
@pytest.mark.parametrize("batch", [1, 3])
def test_batches_of_other_lengths_train_to_the_builtin_layers_weights(batch):
    """From the second length on, TensorFlow traces for any number of steps but for these rows."""
    models = []
    for layers in (kerasrnn, keras.layers):
        layer = layers.LSTM(2, return_sequences=True)
        model = keras.Sequential([keras.Input((None, 3)), layer])
        model.compile(keras.optimizers.SGD(0.5), "mse", jit_compile=False)
        models.append(model)
    models[1].set_weights(models[0].get_weights())
    for time in (5, 4, 6):
        x = sequences(batch, time)
        for model in models:
            model.train_on_batch(x, x[..., :2])
    for found, expected in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.tensorflow
def test_a_masked_keras_cell_with_an_unknown_number_of_steps():
    """Keras's own loop would read the length from a tuple of inputs."""
    import tensorflow as tf

    layer = kerasrnn.RNN(keras.layers.SimpleRNNCell(5), return_sequences=True)
    twin = simple_rnn(return_sequences=True)
    x, mask = sequences(2, 6), make_mask("gapped", 2, 6)
    for each in (layer, twin):
        each.build(x.shape)
    twin.set_weights(layer.get_weights())
    signature = [tf.TensorSpec((None, None, 3)), tf.TensorSpec((None, None), tf.bool)]
    call = tf.function(lambda x, mask: layer(x, mask=mask), input_signature=signature)
    with op_by_op():
        eager, expected = (each(x, mask=mask) for each in (layer, twin))
    np.testing.assert_allclose(eager, expected, atol=1e-6)
    np.testing.assert_allclose(call(x, mask), expected, atol=1e-6)
