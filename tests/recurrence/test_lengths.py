"""Sequences of unknown length: compiled for a few lengths, with the results of every length."""

import gc
import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.python.framework import ops as framework

import kerasrnn
from kerasrnn.recurrence.loop import never_exported
from kerasrnn.recurrence.tensorflow import later
from kerasrnn.recurrence.tensorflow.padding import bucket
from tests.catalogue import PROBES, variant_id
from tests.measure import make_mask, op_by_op, randomize
from tests.processes import Call

pytestmark = pytest.mark.tensorflow

BUCKETS = [4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048]


def test_buckets():
    steps = np.arange(1, 2049, dtype="int32")
    expected = [min(b for b in BUCKETS if b >= n) for n in steps]
    np.testing.assert_array_equal(bucket(tf.constant(steps)), expected)
    assert int(bucket(tf.constant(2**30 + 1))) == 2**30 + 2**29


def sequences(batch=3, time=5):
    return np.random.default_rng(time).standard_normal((batch, time, 3))


def differentiated(layer, jit_compile):
    """A function of sequences of any length: outputs, states and gradients."""
    layer.jit_compile = jit_compile

    def function(x, mask):
        with tf.GradientTape() as tape:
            tape.watch(x)
            results = layer(x, mask=mask, training=True)
            # The gradient of a step depends on its position and on the output.
            loss = sum(tf.reduce_sum(tf.sin(3 * y) * tf.cast(tf.size(y), y.dtype)) for y in results)
        return results, tape.gradient(loss, [x, *(w.value for w in layer.trainable_weights)])

    return tf.function(
        function,
        input_signature=[
            tf.TensorSpec((None, None, 3), tf.float64),
            tf.TensorSpec((None, None), tf.bool),
        ],
    )


WAYS = {
    "outputs": {"return_sequences": True},
    "last output": {},
    "backwards": {"return_sequences": True, "go_backwards": True},
    "last of backwards, zeros": {"go_backwards": True, "zero_output_for_mask": True},
    "truncated": {"return_sequences": True, "truncate_every": 3},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("row", PROBES, ids=variant_id)
def test_padding_to_a_bucket_changes_nothing(row, way):
    """Values and gradients are those of the same operations one by one, without padding."""
    if way != "outputs" and row is not PROBES[list(WAYS).index(way) % len(PROBES)]:
        pytest.skip("tested on another probe")
    layer = row.layer(4, return_state=True, dtype="float64", **WAYS[way])
    layer.build((None, None, 3))
    randomize(layer)
    compiled = differentiated(layer, "auto")
    for batch, time in ((4, 1), (1, 4), (4, 9)):
        x, mask = sequences(batch, time), make_mask("mixed", batch, time)
        found = compiled(x, mask)
        with op_by_op():
            expected = differentiated(layer, False)(tf.constant(x), tf.constant(mask))
        tf.nest.map_structure(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11), found, expected
        )


class NormalizingCell(kerasrnn.SimpleRNNCell):
    """Its inputs are divided by their norm, which is not differentiable at zero."""

    def input_part(self, x, weights):
        return super().input_part(x / keras.ops.norm(x, axis=-1, keepdims=True), weights)


def test_padding_is_as_finite_as_the_steps():
    layer = kerasrnn.RNN(NormalizingCell(4, dtype="float64"), return_state=True, dtype="float64")
    layer.build((None, None, 3))
    randomize(layer)
    x, mask = sequences(2, 5), np.ones((2, 5), bool)
    found = differentiated(layer, "auto")(x, mask)
    with op_by_op():
        expected = differentiated(layer, False)(tf.constant(x), tf.constant(mask))
    assert np.isfinite(found[1][0]).all()
    tf.nest.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11), found, expected
    )


def test_second_derivatives_of_padded_sequences():
    layer = kerasrnn.GRU(4, dtype="float64")
    layer.build((None, None, 3))
    randomize(layer)

    def penalty(x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x, training=True)
            loss = tf.reduce_sum(tape.gradient(y, x) ** 2)
        return loss, outer.gradient(loss, x)

    unknown = tf.function(penalty, input_signature=[tf.TensorSpec((None, None, 3), tf.float64)])
    for time in (3, 6):
        x = sequences(2, time)
        loss, gradient = unknown(x)
        direction = np.random.default_rng(0).standard_normal(x.shape)
        step = 1e-5
        ahead, behind = (float(unknown(x + s * direction)[0]) for s in (step, -step))
        assert (ahead - behind) / (2 * step) == pytest.approx(
            float(np.sum(gradient * direction)), rel=1e-6
        )
        with op_by_op():
            assert float(loss) == pytest.approx(float(penalty(tf.constant(x))[0]), rel=1e-9)


def model_of(layer):
    inputs = keras.Input((None, 3))
    model = keras.Model(inputs, layer(inputs))
    model.compile(keras.optimizers.SGD(0.01), "mse", jit_compile=False)
    return model


def programs(function, folder):
    """The XLA programs of a process that runs a function, as XLA writes them down."""
    environment = {
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_dump_to={folder / 'xla'}"
        " --xla_dump_hlo_as_text"
    }
    process = Call(folder / "output.txt", function, environment=environment)
    assert process.wait() == 0, process.output()
    return [
        path.name
        for path in (folder / "xla").glob("*before_optimizations.txt")
        if "_inference_" in path.name
    ]


def train_on_all_lengths():
    model = model_of(kerasrnn.LSTM(4))
    for time in [48, *range(33, 65)]:
        model.train_on_batch(sequences(2, time), np.zeros((2, 4)))


def test_few_lengths_are_compiled(tmp_path):
    """The length of the first batch, when none is unknown yet, and two buckets: for each, the two
    passes of training."""
    found = programs(train_on_all_lengths, tmp_path)
    assert len(found) == 3 * 2, found


def predict_and_call_eagerly():
    later.STEPS_BEFORE_COMPILING = 200
    model = model_of(kerasrnn.LSTM(4))
    for time in [*range(33, 41), *range(49, 54), 100, 100]:  # compiled: 48 and 64 steps
        model.predict_on_batch(sequences(2, time))
    layer = kerasrnn.LSTM(4)
    for time in (100, 100, 100, 99):  # compiled: 100 steps
        layer(sequences(2, time))


def test_what_runs_often_is_compiled(tmp_path):
    found = programs(predict_and_call_eagerly, tmp_path)
    assert len(found) == 3, found


def stored(cell, name):
    return [value for key, value in cell._kerasrnn_loops.items() if key[0] == name]


def test_few_shapes_are_compiled(monkeypatch):
    monkeypatch.setattr(later, "STEPS_BEFORE_COMPILING", 1)
    monkeypatch.setattr(later, "MOST_PROGRAMS", 2)
    model, layer = model_of(kerasrnn.LSTM(4)), kerasrnn.LSTM(4)
    for batch, time in ((1, 5), (2, 9), (3, 5), (1, 5)):
        model.predict_on_batch(sequences(batch, time))
        layer(sequences(batch, time))
    (table,) = stored(model.layers[-1].cell, "steps run")
    keys, steps = table.export()
    found = dict(zip(keys.numpy().tolist(), steps.numpy().tolist(), strict=True))
    # The first batch was traced with its own length.
    assert found == {2**32 + 5: 5, 2 * 2**32 + 12: 9, 3 * 2**32 + 8: 0, -1: 2}
    (of_layer,) = stored(layer.cell, "steps run eagerly")
    assert of_layer == {(1, 5): 5, (2, 9): 9, -1: 2}


PREDICTED = {
    "outputs": {"return_sequences": True},
    "backwards": {"return_sequences": True, "go_backwards": True},
    "last of backwards, zeros": {"go_backwards": True, "zero_output_for_mask": True},
    "checkpoints, last output": {"checkpoint_every": 3},
}


@pytest.mark.parametrize("way", PREDICTED)
@pytest.mark.parametrize("row", PROBES, ids=variant_id)
def test_compiling_later_changes_nothing(row, way, monkeypatch):
    """The graph, and what replaces it after its first step, predict what operations one by one do;
    batches of one row, of one part and of several."""
    if way != "outputs" and row is not PROBES[list(PREDICTED).index(way) % len(PROBES)]:
        pytest.skip("tested on another probe")
    monkeypatch.setattr(later, "STEPS_BEFORE_COMPILING", 1)
    inputs = keras.Input((None, 3)), keras.Input((None,), dtype="bool")
    layer = row.layer(4, return_state=True, **PREDICTED[way])
    model = keras.Model(inputs, layer(inputs[0], mask=inputs[1]))
    model.compile(jit_compile=False)
    randomize(layer)
    for batch, time in ((1, 4), (3, 5), (33, 6)):
        x, mask = sequences(batch, time).astype("float32"), make_mask("mixed", batch, time)
        with op_by_op():
            expected = layer(tf.constant(x), mask=tf.constant(mask))
        for _ in range(2):
            found = [model.predict_on_batch([x, mask]), layer(x, mask=mask)]
            for results in found:
                tf.nest.map_structure(
                    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
                    list(results),
                    list(expected),
                )


def test_only_graphs_that_stay_may_compile_later():
    """A graph of the user's may be saved, and a table cannot."""
    layer = kerasrnn.LSTM(4)
    signature = [tf.TensorSpec((None, None, 3))]

    def operations():
        traced = tf.function(lambda x: layer(x), signature).get_concrete_function()
        return {operation.type for operation in traced.graph.get_operations()}

    layer.build((None, None, 3))
    assert "Case" not in operations()
    with never_exported():
        assert {"Case", "LookupTableFindV2"} <= operations()
    assert "Case" not in operations()


class ByTape(keras.Model):
    """Predicts the gradient of its output with respect to its input."""

    def predict_step(self, data):
        (data,) = data
        with tf.GradientTape() as tape:
            tape.watch(data)
            y = self(data, training=False)
        return tape.gradient(y, data)


class BySymbols(keras.Model):
    def predict_step(self, data):
        (data,) = data
        return tf.gradients(self(data, training=False), data)[0]


@pytest.mark.parametrize("model_class", [ByTape, BySymbols])
def test_gradients_in_prediction(model_class, monkeypatch):
    monkeypatch.setattr(later, "STEPS_BEFORE_COMPILING", 1)
    inputs = keras.Input((None, 3))
    model = model_class(inputs, kerasrnn.LSTM(4)(inputs))
    model.compile(jit_compile=False)
    x = tf.constant(sequences(2, 5), tf.float32)
    with op_by_op(), tf.GradientTape() as tape:
        tape.watch(x)
        y = model(x)
    expected = tape.gradient(y, x)
    for _ in range(2):
        found = model.predict_on_batch(x)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_exports_are_free_of_xla(tmp_path, monkeypatch):
    """Keras's export and TensorFlow's, although `fit` and `predict` have compiled the loop."""
    monkeypatch.setattr(later, "STEPS_BEFORE_COMPILING", 1)
    model = model_of(kerasrnn.LSTM(4, return_sequences=True))
    x = sequences(2, 7).astype("float32")
    expected = model.predict_on_batch(x)
    model.train_on_batch(x, np.zeros((2, 7, 4)))
    model.set_weights([0.5 * w for w in model.get_weights()])
    model.export(tmp_path / "keras", verbose=False)
    signature = [tf.TensorSpec((None, None, 3))]
    serve = tf.function(lambda x: {"output_0": model(x)}, input_signature=signature)
    module = tf.Module()
    module.layers = model.layers
    tf.saved_model.save(module, tmp_path / "tensorflow", signatures=serve)
    for name in ("keras", "tensorflow"):
        folder = tmp_path / name
        graph = SavedModel.FromString((folder / "saved_model.pb").read_bytes()).meta_graphs[0]
        compiled = [
            node.name
            for function in graph.graph_def.library.function
            for node in function.node_def
            if node.attr["_XlaMustCompile"].b
        ]
        assert not compiled
        serve = tf.saved_model.load(folder).signatures["serving_default"]
        (found,) = serve(tf.constant(x)).values()
        np.testing.assert_allclose(found, model.predict_on_batch(x), atol=1e-6)
        assert np.abs(found - expected).max() > 0.01


def test_a_freed_gradient_leaves_no_name():
    """Under its name a saved model may register another, and a dead one has TensorFlow's error."""
    before = set(registered_gradients())
    layer = kerasrnn.LSTM(4, jit_compile=False)
    layer(tf.zeros((2, 5, 3)), training=True)
    assert set(registered_gradients()) - before
    del layer
    keras.backend.clear_session()
    gc.collect()
    assert not set(registered_gradients()) - before


def registered_gradients():
    return framework.gradient_registry.list()
