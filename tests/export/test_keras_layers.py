"""Copies of models with Keras's layers or kerasrnn's."""

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn.export import ParityError, from_keras, keras_layers, parity, to_keras
from kerasrnn.keras_internals import flatten_layers
from tests.catalogue import BUILT_IN, variant_id
from tests.export.models import sequential
from tests.measure import op_by_op, randomize

pytestmark = pytest.mark.tensorflow


@pytest.fixture(autouse=True)
def _small_cases(monkeypatch):
    """Copies are compared on one small batch; tests/export/test_parity.py has all sizes."""
    monkeypatch.setattr(parity, "SIZES", ((3, 4, "end"),))


@op_by_op()
@pytest.mark.torch_backend
@pytest.mark.parametrize("row", BUILT_IN, ids=variant_id)
def test_there_and_back(row):
    """Outputs, configuration and class are those of Keras, with every option."""
    for variant in row.variants:
        own = row.keras_layer(4, return_sequences=True, name="it", **variant)
        own.build((None, None, 3))
        randomize(own)
        x = np.random.default_rng(0).standard_normal((2, 5, 3)).astype("float32")
        ours = from_keras(own)
        assert type(ours) is row.layer
        np.testing.assert_allclose(ours(x), own(x), atol=1e-6)
        back = to_keras(ours)
        assert type(back) is row.keras_layer
        assert {**back.get_config(), "seed": None} == {**own.get_config(), "seed": None}
        for a, b in zip(back.get_weights(), own.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


@op_by_op()
@pytest.mark.torch_backend
def test_models():
    """Layers inside layers, models inside models, several inputs."""

    class Doubled(keras.layers.Layer):  # not registered
        def call(self, x):
            return 2 * x

    layers = keras.layers
    vectors = keras.Input((None, 4))
    inner = keras.Model(vectors, layers.LSTM(3, return_sequences=True)(vectors))
    ids, start = keras.Input((None,), dtype="int32"), keras.Input((6,))
    x = layers.Embedding(7, 4)(ids)
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True), merge_mode="sum")(inner(x))
    x = layers.RNN([layers.GRUCell(5), layers.SimpleRNNCell(6)], return_sequences=True)(x)
    y, h = layers.GRU(6, return_state=True)(Doubled()(x), initial_state=start)
    model = keras.Model([ids, start], [y, layers.Dense(2)(h)])
    randomize(model)
    ours = from_keras(model)
    kinds = [type(layer).__name__ for layer in flatten_layers(ours) if not hasattr(layer, "x")]
    own = (layers.LSTM, layers.GRU, layers.RNN, layers.GRUCell, layers.SimpleRNNCell)
    assert not any(type(layer) in own for layer in flatten_layers(ours))
    assert kinds.count("LSTM") == 3
    given = [np.array([[1, 2, 0], [3, 0, 0]], "int32"), np.ones((2, 6), "float32")]
    for a, b in zip(ours(given), model(given), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    back = to_keras(ours)
    assert not any(type(x).__module__.startswith("kerasrnn") for x in flatten_layers(back))
    for a, b in zip(back(given), model(given), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@op_by_op()
def test_bidirectional_becomes_keras_own():
    layer = kerasrnn.Bidirectional(
        kerasrnn.GRU(3, return_sequences=True, checkpoint_every=2), merge_mode="ave"
    )
    x = np.random.default_rng(0).standard_normal((2, 5, 3)).astype("float32")
    y = layer(x)
    own = to_keras(layer)
    assert type(own) is keras.layers.Bidirectional
    np.testing.assert_allclose(own(x), y, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kerasrnn.PeepholeLSTM(2, name="it"), "it: Keras has no PeepholeLSTM"),
        (lambda: kerasrnn.StackedRNN([kerasrnn.GRU(2)], name="it"), "it: Keras has no StackedRNN"),
        (
            lambda: kerasrnn.Bidirectional(
                kerasrnn.GRU(3, return_sequences=True), "sum", residual=True, name="it"
            ),
            "it: Keras has no Bidirectional with residual=True",
        ),
    ],
)
def test_layers_that_keras_lacks(make, message):
    layer = make()
    layer.build((None, None, 3))
    with pytest.raises(ValueError, match=message):
        to_keras(layer)


def test_bad_input():
    with pytest.raises(ValueError, match="it: not built; expected a layer or a model with weights"):
        from_keras(keras.layers.LSTM(2, name="it"))
    shared = keras.layers.GRU(3, return_sequences=True)
    inner = keras.Sequential([keras.Input((None, 3)), shared])
    x = keras.Input((None, 3))
    with pytest.raises(ValueError, match="it: a layer belongs to several of the nested models"):
        from_keras(keras.Model(x, shared(inner(x)), name="it"))


@op_by_op()
def test_a_difference_is_an_error(monkeypatch):
    def shifted(source, rewrite):
        result = original(source, rewrite)
        result.set_weights([1.1 * w for w in result.get_weights()])
        return result

    original = keras_layers.rewritten
    monkeypatch.setattr(keras_layers, "rewritten", shifted)
    with pytest.raises(ParityError, match="the copy of m differs from the Keras model by up to"):
        from_keras(keras.Sequential([keras.Input((None, 3)), keras.layers.GRU(2)], name="m"))
    layer = sequential(keras.layers.GRU(2, name="it")).layers[0]
    with pytest.raises(ParityError, match="the copy of it differs"):
        from_keras(layer)


@op_by_op()
def test_half_precision():
    """Keras keeps its states in half precision, kerasrnn in single, so that they differ."""
    model = sequential(keras.layers.LSTM(8, dtype="mixed_bfloat16", name="it"))
    ours = from_keras(model, tolerance=0.05)
    assert type(ours.layers[0]) is kerasrnn.LSTM
    assert ours.layers[0].compute_dtype == "bfloat16"
    assert type(from_keras(model.layers[0], tolerance=0.05)) is kerasrnn.LSTM
