"""What is published of a trained model."""

import keras
import numpy as np
import pytest

import kerasrnn
from benchmarks.quality import publish_model

pytestmark = pytest.mark.tensorflow


def test_rounding_is_to_nine_significant_bits():
    """The nearest number of nine bits, as NumPy's fractions and powers of two say it."""
    values = np.random.default_rng(0).standard_normal(5000).astype("float32") * 2.0**-20
    fractions, powers = np.frexp(values)
    expected = np.ldexp(np.rint(fractions * 2**9), powers - 9)
    np.testing.assert_array_equal(publish_model.rounded(values), expected)
    few = values[:10]
    assert publish_model.rounded(few) is few


def test_a_compressed_file_is_the_same_model(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(500, 16, mask_zero=True),
            kerasrnn.Bidirectional(kerasrnn.LSTM(16, dropout=0.1)),
        ]
    )
    for weight in model.weights:
        if weight.dtype == "float32":
            weight.assign(publish_model.rounded(np.asarray(weight)))
    publish_model.save(model, tmp_path / "small.keras")
    model.save(tmp_path / "whole.keras")
    sizes = [(tmp_path / name).stat().st_size for name in ("small.keras", "whole.keras")]
    assert sizes[0] < 0.6 * sizes[1]
    loaded = keras.saving.load_model(tmp_path / "small.keras")
    for one, other in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_array_equal(one, other)
