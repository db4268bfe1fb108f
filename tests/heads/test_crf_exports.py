"""ONNX files of a `kerasrnn.CRF`: its probabilities and what it decodes."""

import keras
import numpy as np
import pytest

import kerasrnn

pytestmark = pytest.mark.tensorflow


def test_probabilities_and_tags_in_one_file(tmp_path):
    """Of unknown sizes, with a mask that has gaps; the loops are those of ONNX."""
    scores = keras.Input((None, 3), name="scores")
    crf = kerasrnn.CRF(["O", "B", "I"], "BIO", initializer="glorot_uniform", name="crf")
    masked = keras.layers.Masking(0.0)(scores)
    best, several = crf.decode(masked), crf.decode(masked, n=2)
    outputs = {"p": crf(masked), "tags": best[0], "score": best[1], "several": several[0]}
    model = keras.Model(scores, outputs)
    x = np.random.default_rng(0).normal(size=(3, 5, 3)).astype("float32")
    x[0, 3:] = x[1, 0] = x[1, 2] = x[2] = 0
    report = kerasrnn.export.to_onnx(model, tmp_path / "crf.onnx", check=[[x]])
    assert report.difference < 1e-6
