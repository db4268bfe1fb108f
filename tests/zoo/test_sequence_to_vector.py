"""many_to_one: its numbers by hand, its options, its errors."""

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn import zoo
from kerasrnn.cells.layer import snake_case
from tests.catalogue import ROWS, variant_id


def padded():
    random = np.random.default_rng(0)
    x = random.standard_normal((3, 6, 4)).astype("float32")
    x[1, 4:] = 0
    return x


@pytest.mark.parametrize("row", ROWS, ids=variant_id)
def test_the_model_is_a_layer_and_a_softmax(row):
    """Standardized inputs, the last valid state, a softmax: written out by hand."""
    mean, deviation = [0.5, 0.0, -1.0, 2.0], [1.0, 2.0, 0.5, 4.0]
    model = zoo.many_to_one(4, 3, cell=row.cell, units=5, mean=mean, deviation=deviation)
    layer = row.layer(5)
    layer.build((None, None, 4))
    *weights, kernel, bias = model.get_weights()
    layer.set_weights(weights)
    x = padded()
    y = model.predict(x, verbose=0)
    standardized = ((x - np.array(mean)) / np.array(deviation)).astype("float32")
    for n, length in enumerate((6, 4, 6)):
        h = np.asarray(layer(standardized[n : n + 1, :length]))[0]
        logits = h @ kernel + bias
        expected = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose(y[n], expected, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [{"depth": 3}, {"bidirectional": True}, {"depth": 2, "bidirectional": True}],
    ids=variant_id,
)
def test_padding_changes_nothing(options, tmp_path):
    model = zoo.many_to_one(4, 3, cell="gru", units=5, dropout=0.4, **options)
    x = padded()
    y = model.predict(x, verbose=0)
    np.testing.assert_allclose(model.predict(x[1:2, :4], verbose=0), y[1:2], atol=1e-6)
    np.testing.assert_allclose(y.sum(axis=-1), 1, atol=1e-6)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), y)


def test_the_global_seed_decides_and_is_left_alone():
    weights = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        weights.append(zoo.many_to_one(4, 3, units=5).get_weights())
    for a, b in zip(*weights[:2], strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.abs(weights[0][0] - weights[2][0]).max() > 0
    after_one, after_two = (zoo.many_to_one(4, 3, units=5).get_weights()[0] for _ in range(2))
    assert np.abs(after_one - after_two).max() > 0


def test_cells_by_name_class_and_layer():
    for row in ROWS:
        assert zoo.layer_class(row.cell) is row.layer
        assert zoo.layer_class(row.layer) is row.layer
        assert zoo.layer_class(snake_case(row.name)) is row.layer
    assert zoo.layer_class("simple_rnn") is kerasrnn.SimpleRNN
    assert zoo.layer_class("ind_rnn") is kerasrnn.IndRNN
    assert zoo.layer_class("layer_norm_lstm") is kerasrnn.LayerNormLSTM
    names = ", ".join(sorted(snake_case(row.name) for row in ROWS))
    with pytest.raises(ValueError, match=rf"cell='lstmm': expected one of {names}\."):
        zoo.many_to_one(4, 3, cell="lstmm")
    with pytest.raises(ValueError, match="expected a name, a kerasrnn cell class"):
        zoo.layer_class(keras.layers.LSTM)


@pytest.mark.parametrize("name", ["features", "classes", "depth"])
def test_bad_numbers(name):
    with pytest.raises(ValueError, match=f"{name}=0: expected a positive integer"):
        zoo.many_to_one(**{"features": 4, "classes": 3, "depth": 1, name: 0})
