"""Averaged weights: the mean of saved models and weights."""

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn.training import average_weights


def new_model(seed=0):
    keras.utils.set_random_seed(seed)
    layers = [keras.Input((3, 2)), kerasrnn.GRU(4, dropout=0.2, seed=1), keras.layers.Dense(1)]
    return keras.Sequential(layers)


def test_the_mean_of_models_and_weights(tmp_path):
    """Of both kinds of files; the output is that of the mean."""
    models = [new_model(seed) for seed in range(3)]
    files = [tmp_path / "0.keras", tmp_path / "1.weights.h5", tmp_path / "2.weights.h5"]
    models[0].save(files[0])
    for model, file in zip(models[1:], files[1:], strict=True):
        model.save_weights(file)
    model = new_model(7)
    assert average_weights(model, files) is model
    for mean, *each in zip(
        model.get_weights(), *(other.get_weights() for other in models), strict=True
    ):
        np.testing.assert_allclose(mean, np.mean(each, axis=0, dtype="float64"), atol=1e-7)
    assert np.abs(model.get_weights()[0] - models[0].get_weights()[0]).max() > 0.1


def test_other_files(tmp_path):
    """The model is then unchanged."""
    model, file, other = new_model(), tmp_path / "0.weights.h5", tmp_path / "other.weights.h5"
    new_model(1).save_weights(file)
    keras.Sequential([keras.Input((3, 2)), kerasrnn.GRU(5)]).save_weights(other)
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"files=\[\]: expected a list of files"):
        average_weights(model, [])
    with pytest.raises(ValueError, match="files=None: expected a list of files"):
        average_weights(model, None)
    diverged, lost = new_model(1), tmp_path / "lost.weights.h5"
    diverged.set_weights([w * np.nan for w in diverged.get_weights()])
    diverged.save_weights(lost)
    with pytest.raises(ValueError, match=r"files: .*kernel of .*lost.weights.h5 is not finite"):
        average_weights(model, [file, lost])
    with pytest.raises((ValueError, KeyError)):
        average_weights(model, [file, other])
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
