"""Saved models, weight files and clones: all cells as the branches of one model."""

import keras
import numpy as np
import pytest

import kerasrnn
from tests.catalogue import BUILT_IN, ROWS, VARIANTS, Row
from tests.measure import op_by_op, randomize

TOKENS = np.array([[1, 2, 3, 4], [5, 6, 0, 0], [0, 0, 7, 8], [0, 0, 0, 0]], "int32")


def branches(layers):
    """A model with two layers of each kind above one embedding; `layers`: constructors by name."""
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    x = keras.layers.Embedding(11, 3, mask_zero=True)(tokens)
    outputs = {}
    for name, layer in layers.items():
        y = layer(5, return_sequences=True, dropout=0.1, name=f"{name}_first")(x)
        outputs[name] = layer(4, name=f"{name}_second")(y)
    return keras.Model(tokens, outputs)


def computed(model):
    with op_by_op():
        return {name: np.asarray(y) for name, y in model(TOKENS).items()}


def assert_same_outputs(actual, expected, tolerance=0.0):
    assert actual.keys() == expected.keys()
    for name, y in expected.items():
        np.testing.assert_allclose(actual[name], y, rtol=0, atol=tolerance, err_msg=name)


def of_variant(row: Row, variant):
    return lambda units, **options: row.layer(units, **variant, **options)


@pytest.fixture(scope="module")
def model():
    """Every cell, and every variant of those that Keras has too."""
    layers = {
        f"{row.name}_{n}": of_variant(row, variant)
        for n, (row, variant) in enumerate(VARIANTS)
        if row in BUILT_IN or variant == row.variants[0]
    }
    assert {name.rpartition("_")[0] for name in layers} == {row.name for row in ROWS}
    model = branches(layers)
    randomize(model)
    return model


def test_saved_models_are_the_same(model, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert_same_outputs(computed(loaded), computed(model))


def test_clones_have_the_same_configuration_and_outputs(model):
    clone = keras.models.clone_model(model)
    configurations, expected = (
        {layer.name: layer.get_config() for layer in each.layers} for each in (clone, model)
    )
    assert configurations == expected
    clone.set_weights(model.get_weights())
    assert_same_outputs(computed(clone), computed(model))


def test_a_loaded_model_predicts_the_same(tmp_path):
    model = branches({"lstm": kerasrnn.LSTM})
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    actual, expected = (each.predict(TOKENS, verbose=0) for each in (loaded, model))
    assert_same_outputs(actual, expected)


def test_weight_files_are_interchangeable_with_the_builtin_layers(tmp_path):
    ours, builtin, again = (
        branches({row.name: row.layer if ours else row.twin for row in BUILT_IN})
        for ours in (True, False, False)
    )
    builtin.save_weights(tmp_path / "builtin.weights.h5")
    ours.load_weights(tmp_path / "builtin.weights.h5")
    expected = computed(builtin)
    assert_same_outputs(computed(ours), expected, 1e-6)
    ours.save_weights(tmp_path / "ours.weights.h5")
    again.load_weights(tmp_path / "ours.weights.h5")
    assert_same_outputs(computed(again), expected, 1e-6)


def test_the_error_without_kerasrnn_names_the_package(tmp_path, monkeypatch):
    """As if it were not imported: Keras imports no other package (see the README)."""
    keras.Sequential([keras.Input((None, 3)), kerasrnn.LSTM(2)]).save(tmp_path / "model.keras")
    monkeypatch.delitem(keras.saving.get_custom_objects(), "kerasrnn>LSTM")
    message = r"Could not locate class 'LSTM'\..*: \{'module': 'kerasrnn\."
    with pytest.raises(TypeError, match=message):
        keras.saving.load_model(tmp_path / "model.keras")
