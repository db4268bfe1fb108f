"""Inputs, masks and building of all layers."""

import copy
import threading
import time

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn.base_layer import BaseLayer
from tests.measure import make_mask, op_by_op

X = np.random.default_rng(0).integers(-2, 3, (2, 4, 3))


@pytest.fixture(autouse=True)
def _op_by_op(request):
    """Nothing here depends on traced functions, except where graphs are in the name of a test."""
    if "graphs" in request.node.name or "functional" in request.node.name:
        yield
        return
    with op_by_op():
        yield


def values(result):
    return [np.asarray(x) for x in keras.tree.flatten(result)]


def attending():
    cell = kerasrnn.AttentionCell(kerasrnn.GRUCell(3), kerasrnn.LuongAttention("general"))
    layer = kerasrnn.RNN(cell, return_sequences=True)
    return lambda x: layer(x, memory=x)


def called_cell():
    cell = kerasrnn.LSTMCell(3)
    return lambda x: cell(x[:, 0], [x[:, 1], x[:, 2]])


def deciding():
    decoder = kerasrnn.Decoder(3, [kerasrnn.GRU(4)], kind="values", context="every")
    return lambda x: decoder(x, context=x[:, 0])


def attention():
    layer = kerasrnn.BahdanauAttention(3)
    return lambda x: layer(x, x)


READERS = {
    "simple_rnn": lambda: kerasrnn.SimpleRNN(3),
    "ind_rnn": lambda: kerasrnn.IndRNN(3, activation="relu"),
    "layer_norm_lstm": lambda: kerasrnn.LayerNormLSTM(3),
    "cell": called_cell,
    "list of cells": lambda: kerasrnn.RNN([kerasrnn.LSTMCell(3), kerasrnn.GRUCell(2)]),
    "keras_cell": lambda: kerasrnn.RNN(keras.layers.LSTMCell(3)),
    "feedback": lambda: kerasrnn.RNN(kerasrnn.FeedbackCell(kerasrnn.GRUCell(3), 2)),
    "both ways": lambda: kerasrnn.Bidirectional(
        kerasrnn.GRU(3, return_sequences=True), merge_mode="sum", residual=True
    ),
    "stack": lambda: kerasrnn.StackedRNN([kerasrnn.GRU(3), kerasrnn.LSTM(3)], residual=True),
    "attending": attending,
    "attention": attention,
    "decoder": deciding,
    "pooling": lambda: kerasrnn.SequencePooling("max"),
}


@pytest.mark.parametrize("name", READERS)
def test_inputs_of_any_number_dtype(name):
    layer = READERS[name]()
    for dtype in ("int32", "bool", "uint8"):
        x = X.astype(dtype)
        expected = values(layer(x.astype("float32")))
        for actual, right in zip(values(layer(x)), expected, strict=True):
            assert actual.dtype == "float32"
            np.testing.assert_allclose(actual, right, atol=1e-6, err_msg=dtype)


def test_one_step():
    layer = kerasrnn.SimpleRNN(1, kernel_initializer="ones", recurrent_initializer="zeros")
    x = np.ones((1, 1, 1))
    for dtype in ("int32", "bool"):
        np.testing.assert_allclose(layer(x.astype(dtype)), [[np.tanh(1)]], atol=1e-6)
        symbolic = keras.Input((1, 1), dtype=dtype)
        model = keras.Model(symbolic, layer(symbolic))
        assert model.output.dtype == "float32"
        np.testing.assert_allclose(model(x.astype(dtype)), [[np.tanh(1)]], atol=1e-6)


def test_integers_train_subclassed_models():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.layer = kerasrnn.SimpleRNN(
                1, activation=None, kernel_initializer="ones", recurrent_initializer="zeros"
            )

        def call(self, x):
            return self.layer(x)

    model = Model()
    model.compile(keras.optimizers.SGD(0.25), "mse", run_eagerly=True)
    model.train_on_batch(np.full((1, 1, 1), 2), np.zeros((1, 1)))
    # The gradient of (2 w)^2 at w = 1 is 8; that of (2 w + b)^2 by b is 4.
    np.testing.assert_allclose(model.layer.cell.kernel, [[1 - 0.25 * 8]], atol=1e-6)
    np.testing.assert_allclose(model.layer.cell.bias, [-0.25 * 4], atol=1e-6)


def test_inputs_take_the_compute_dtype():
    layer = kerasrnn.LSTM(3, dtype="mixed_float16")
    y = layer(X)
    assert keras.backend.standardize_dtype(y.dtype) == "float16"
    np.testing.assert_allclose(y, layer(X.astype("float16")), atol=1e-6)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X.astype(str), r"sequences has the dtype str\d+; expected numbers"),
        (X.astype(object), "sequences has the dtype object; expected numbers"),
        (X.astype("complex64"), "sequences has the dtype complex64; expected real numbers"),
        ([X[0], X[1]], "sequences is a list of length 2; expected one array.*np.stack.*pad_seq"),
        ({"x": X}, "sequences is a dict of length 1; expected one array"),
    ],
)
def test_invalid_inputs_are_refused(x, message):
    for layer in (
        kerasrnn.LSTM(3),
        kerasrnn.Bidirectional(kerasrnn.GRU(3)),
        kerasrnn.StackedRNN([kerasrnn.GRU(3)]),
        kerasrnn.SequencePooling(),
    ):
        with pytest.raises(ValueError, match=f"{layer.name}: {message}"):
            layer(x)
        assert not layer.built
    with pytest.raises(ValueError, match="initial_state has the dtype complex64"):
        kerasrnn.GRU(3)(X, initial_state=[np.zeros((2, 3), "complex64")])


@pytest.mark.tensorflow
def test_ragged_and_sparse_tensors():
    import tensorflow as tf

    ragged = tf.ragged.constant([[[1.0, 2.0]], [[3.0, 4.0], [5.0, 6.0]]], ragged_rank=1)
    layer = kerasrnn.LSTM(3)
    with pytest.raises(ValueError, match=r"sequences is a RaggedTensor; .*to_tensor.*sequence_mas"):
        layer(ragged)
    # As the message recommends.
    y = layer(ragged.to_tensor(), mask=tf.sequence_mask(ragged.row_lengths()))
    np.testing.assert_allclose(y[:1], layer(ragged[0][None]), atol=1e-6)
    with pytest.raises(ValueError, match="sequences is a SparseTensor; expected a dense tensor"):
        layer(tf.sparse.from_dense(np.ones((2, 4, 3), "float32")))
    with pytest.raises(ValueError, match="sequences has the dtype string"):
        kerasrnn.LSTM(3)(keras.Input((None, 3), dtype="string"))


# Masks.


def masked(name):
    x = X.astype("float32")
    if name == "attention":
        return lambda mask: kerasrnn.BahdanauAttention(3)(x, x, keys_mask=mask)
    if name == "memory":
        cell = kerasrnn.AttentionCell(kerasrnn.GRUCell(3), kerasrnn.LuongAttention("general"))
        return lambda mask: kerasrnn.RNN(cell)(x, memory=x, memory_mask=mask)
    layer = {
        "lstm": lambda: kerasrnn.LSTM(3),
        "both ways": lambda: kerasrnn.Bidirectional(kerasrnn.GRU(3)),
        "stack": lambda: kerasrnn.StackedRNN([kerasrnn.GRU(3)]),
        "decoder": lambda: kerasrnn.Decoder(3, [kerasrnn.GRU(4)], kind="values"),
        "pooling": lambda: kerasrnn.SequencePooling("attention"),
    }[name]()
    return lambda mask: layer(x, mask=mask)


@pytest.mark.parametrize(
    "name", ["lstm", "both ways", "stack", "decoder", "pooling", "attention", "memory"]
)
def test_masks(name):
    call = masked(name)
    mask = make_mask("gapped", 2, 4)
    keras.utils.set_random_seed(0)
    expected = values(call(mask))
    for dtype in ("int32", "float32"):
        keras.utils.set_random_seed(0)
        for actual, right in zip(values(call(mask.astype(dtype))), expected, strict=True):
            np.testing.assert_array_equal(actual, right)
    for wrong, value in ((mask * 0.5, "0.5"), (mask * 2, "2"), (np.where(mask, np.nan, 0), "nan")):
        with pytest.raises(ValueError, match=rf"mask holds the value {value}; expected booleans"):
            call(wrong)
    for wrong in (mask[..., None], mask[:, :3]):
        with pytest.raises(ValueError, match=r"mask has the shape \(2, .*\); expected \(batch, "):
            call(wrong)


@pytest.mark.tensorflow
def test_masks_in_graphs():
    import tensorflow as tf

    layer, mask = kerasrnn.LSTM(3), make_mask("gapped", 2, 4)
    call = tf.function(lambda x, mask: layer(x, mask=mask))
    x = X.astype("float32")
    np.testing.assert_allclose(call(x, mask * 2), layer(x, mask=mask), atol=1e-6)


# Subclasses that override `call`.


class Twice(kerasrnn.LSTM):
    """With Keras's own arguments."""

    def call(self, sequences, initial_state=None, mask=None, training=False):
        y = super().call(sequences, initial_state=initial_state, mask=mask, training=training)
        return keras.tree.map_structure(lambda x: 2 * x, y)


class TwiceOfAny(kerasrnn.LSTM):
    def call(self, *args, **kwargs):
        return 2 * super().call(*args, **kwargs)


class TwiceWithMask(kerasrnn.LSTM):
    def call(self, x, mask=None):
        return 2 * super().call(x, mask=mask)


class TwiceOfOne(kerasrnn.LSTM):
    def call(self, inputs):
        return 2 * super().call(inputs)


class Scaled(kerasrnn.LSTM):
    """With its own argument, weight and configuration."""

    def __init__(self, units, scale=2.0, **kwargs):
        super().__init__(units, **kwargs)
        self.scale = scale

    def build(self, input_shape):
        super().build(input_shape)
        self.factor = self.add_weight(shape=(), initializer="ones", name="factor")

    def call(self, sequences, training=None, **kwargs):
        return self.scale * self.factor * super().call(sequences, training=training, **kwargs)

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}


class TwiceInLoop(kerasrnn.LSTM):
    def inner_loop(self, sequences, initial_state, mask, training=False):
        last, outputs, states = super().inner_loop(sequences, initial_state, mask, training)
        return 2 * last, 2 * outputs, states


TWICE = (Twice, TwiceOfAny, TwiceWithMask, TwiceOfOne, Scaled, TwiceInLoop)
subclasses = pytest.mark.parametrize("cls", TWICE, ids=lambda cls: cls.__name__)


def unchanged_layer(layer, **options):
    twin = kerasrnn.LSTM(3, **options)
    twin.build((None, None, 3))
    twin.set_weights(layer.cell.get_weights())
    return twin


@subclasses
def test_subclasses_of_layers(cls, tmp_path):
    x, mask = X.astype("float32"), make_mask("gapped", 2, 4)
    masked = keras.layers.Masking()(np.where(mask[..., None], x, 0))
    layer = cls(3, return_sequences=True)
    y = layer(masked)
    expected = 2 * np.asarray(unchanged_layer(layer, return_sequences=True)(x, mask=mask))
    np.testing.assert_allclose(y, expected, atol=1e-6)
    # In other layers; `Bidirectional` copies it.
    both = kerasrnn.Bidirectional(cls(3, return_sequences=True))
    halves = np.split(np.asarray(both(masked)), 2, axis=-1)
    for n, (half, direction) in enumerate(
        zip(halves, (both.forward_layer, both.backward_layer), strict=True)
    ):
        assert type(direction) is cls
        options = {"return_sequences": True, "zero_output_for_mask": True, "go_backwards": n == 1}
        right = 2 * np.asarray(unchanged_layer(direction, **options)(x, mask=mask))
        np.testing.assert_allclose(half, right[:, ::-1] if n else right, atol=1e-6)
    stack = kerasrnn.StackedRNN([cls(3), cls(3)])
    y = stack(masked)
    first, second = stack.layers
    below = 2 * np.asarray(unchanged_layer(first, return_sequences=True)(x, mask=mask))
    np.testing.assert_allclose(
        y, 2 * np.asarray(unchanged_layer(second)(below, mask=mask)), atol=1e-6
    )
    if cls not in (Twice, Scaled):
        return
    # Saved and loaded.
    model = keras.Sequential([keras.Input((None, 3)), stack, keras.layers.Reshape((1, 3)), both])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(
        tmp_path / "model.keras", custom_objects={cls.__name__: cls}, compile=False
    )
    np.testing.assert_allclose(loaded(x), model(x), atol=1e-6)


def test_masks_of_subclasses_without_the_argument_in_functional_models():
    """Keras computes the mask again there: it is not the tensor of the sequences."""
    mask = make_mask("gapped", 2, 4)
    x = np.where(mask[..., None], X, 0).astype("float32")
    layer, both = TwiceOfOne(3), kerasrnn.Bidirectional(TwiceOfOne(3))
    inputs = keras.Input((None, 3))
    masked = keras.layers.Masking()(inputs)
    model = keras.Model(inputs, [layer(masked), both(masked)])
    right = 2 * np.asarray(unchanged_layer(layer)(x, mask=mask))
    ways = [
        2 * np.asarray(unchanged_layer(each, go_backwards=each.go_backwards)(x, mask=mask))
        for each in (both.forward_layer, both.backward_layer)
    ]
    for y, y_both in (model(x), model.predict(x, verbose=0)):
        np.testing.assert_allclose(y, right, atol=1e-6)
        np.testing.assert_allclose(y_both, np.concatenate(ways, axis=-1), atol=1e-6)
    # An explicit mask takes precedence over that of the sequences, which keep theirs.
    below, other = keras.layers.Masking()(x), make_mask("gapped", 2, 4)[:, ::-1].copy()
    right = 2 * np.asarray(unchanged_layer(layer)(x, mask=other))
    np.testing.assert_allclose(layer(below, mask=other), right, atol=1e-6)
    np.testing.assert_array_equal(below._keras_mask, mask)


def test_arguments_that_a_subclass_lacks():
    x, h = X.astype("float32"), [np.zeros((2, 3), "float32")] * 2
    with pytest.raises(ValueError, match=r"initial_state was given; TwiceOfOne.call has no such"):
        TwiceOfOne(3)(x, initial_state=h)
    with pytest.raises(ValueError, match=r"mask was given; TwiceOfOne.call has no such argument"):
        TwiceOfOne(3)(x, mask=make_mask("gapped", 2, 4))
    layer = Twice(3, return_state=True)
    results = layer(x, initial_state=h)
    for actual, right in zip(results, unchanged_layer(layer, return_state=True)(x), strict=True):
        np.testing.assert_allclose(actual, 2 * np.asarray(right), atol=1e-6)


def test_subclasses_that_override_call_have_no_single_step():
    for cls in (Twice, TwiceInLoop):
        with pytest.raises(ValueError, match=f"{cls.__name__} overrides `call` or `inner_loop`"):
            kerasrnn.StackedRNN([cls(3)]).get_initial_state(2)
        with pytest.raises(ValueError, match=f"{cls.__name__} overrides `call` or `inner_loop`"):
            kerasrnn.Decoder(7, [cls(3)])


# Building.


def test_every_layer_has_the_base():
    layers = [
        cls
        for cls in (getattr(kerasrnn, name) for name in kerasrnn.__all__)
        if isinstance(cls, type) and issubclass(cls, keras.layers.Layer)
    ]
    assert len(layers) > 20
    assert [cls for cls in layers if not issubclass(cls, BaseLayer)] == []


@keras.saving.register_keras_serializable(package="tests")
class Slow(keras.initializers.Initializer):
    """Slow, so that other threads find the layer unbuilt."""

    def __call__(self, shape, dtype=None, **kwargs):
        time.sleep(0.05)
        return keras.random.normal(shape, dtype=dtype)


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda cell: kerasrnn.RNN(cell), 3),
        (lambda cell: kerasrnn.Bidirectional(kerasrnn.RNN(cell)), 6),
        (lambda cell: kerasrnn.StackedRNN([kerasrnn.RNN(cell), kerasrnn.GRU(3)]), 6),
    ],
)
def test_concurrent_first_calls_build_once(make, count):
    layer = make(kerasrnn.GRUCell(3, kernel_initializer=Slow()))
    x, threads, results = X.astype("float32"), 8, []
    together = threading.Barrier(threads)

    def call():
        together.wait()
        results.append(np.asarray(layer(x)))

    running = [threading.Thread(target=call) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert len(layer.weights) == count
    assert len(results) == threads
    for result in results:
        np.testing.assert_array_equal(result, np.asarray(layer(x)))


def test_a_failed_build_releases_the_lock():
    def fail(shape, dtype=None):
        raise RuntimeError("no weights")

    with pytest.raises(RuntimeError, match="no weights"):
        kerasrnn.GRU(3, kernel_initializer=fail)(X)
    thread = threading.Thread(target=kerasrnn.GRU(3), args=(X,))
    thread.start()
    thread.join(timeout=60)
    assert not thread.is_alive()


def test_copies_are_built():
    layer = kerasrnn.LSTM(3)
    y = np.asarray(layer(X))
    for other in (copy.copy(layer), copy.deepcopy(layer)):  # Keras pickles both
        np.testing.assert_array_equal(np.asarray(other(X)), y)
        assert other.weights[0] is not layer.weights[0]
