"""How the loop runs: compiled when eager, under XLA, retraced only when it must be."""

import contextlib

import keras
import numpy as np
import pytest

import kerasrnn
from tests.catalogue import ROWS, VARIANTS, variant_id
from tests.measure import (
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


@rows
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
@rows
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


@rows
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
    ("row", "variant"),
    [(r, v) for r, v in VARIANTS if v in ({}, {"reset_after": False})],
    ids=variant_id,
)
def test_jit_compile_changes_no_number(row, variant):
    x = sequences(dtype=PRECISION)
    options = {**variant, "return_sequences": True, "return_state": True, "dtype": PRECISION}
    layers = [row.layer(5, jit_compile=jit, **options) for jit in (True, False)]
    for layer in layers:
        layer.build(x.shape)
    randomize(layers[0])
    layers[1].set_weights(layers[0].get_weights())
    mask = make_mask("mixed", 4, 6)
    assert_same(*(measure(layer, x, mask=mask) for layer in layers), TIGHT)


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
    x, results = tf.constant(sequences()), []
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


@rows
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
    """As users have it who look for a mistake: the loop is Python's, the numbers are the same."""
    layer, x = row.layer(5, return_sequences=True, return_state=True), sequences()
    layer.build(x.shape)
    randomize(layer)
    mask = make_mask("mixed", 4, 6)
    expected = measure(layer, x, mask=mask)
    for training in TRAINING:
        with op_by_op():
            assert_same(measure(layer, x, mask=mask, training=training), expected, 1e-5)


@pytest.mark.tensorflow
@rows
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
@rows
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


@pytest.mark.tensorflow
@rows
def test_a_sequence_without_steps_puts_out_zeros_in_a_graph(row):
    """Where the length is known only when the graph runs, no steps means the initial state."""
    import tensorflow as tf

    layer = row.layer(5, return_state=True)
    call = tf.function(layer, input_signature=[tf.TensorSpec((None, None, 3))])
    output, *states = call(np.zeros((2, 0, 3), "float32"))
    for tensor in (output, *states):
        np.testing.assert_array_equal(tensor, np.zeros((2, 5)))
