"""`zoo.Tags`: an output whose tags of all steps are one prediction."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasrnn import zoo

NAMES = ["O", "B-X", "I-X"]
WORDS = np.array([[4, 7, 2, 3], [3, 9, 0, 0], [5, 0, 0, 0]])
Y = np.array([[0, 1, 2, 2], [1, 0, 0, 0], [1, 2, 2, 2]])


@pytest.fixture
def model():
    model = zoo.many_to_many(zoo.Tokens(10, 4), zoo.Tags(NAMES, "BIO", [(1, 1)]), "gru", units=4)
    random = np.random.default_rng(2)
    model.set_weights([2 * random.normal(size=w.shape) for w in model.get_weights()])
    model.compile(keras.optimizers.SGD(0.1), jit_compile=False)
    return model


def test_models_are_trained_decoded_and_loaded(model, tmp_path):
    """With the field and the scores of the output layer."""
    crf = model.head.crf
    features = keras.Model(model.input, model.layers[-2].output)(WORDS)
    scores = model.head.scores(features)
    likelihoods = ops.convert_to_numpy(crf.log_likelihood(scores, Y, WORDS > 0))
    loss, accuracy, span_f1 = model.evaluate(WORDS, Y, verbose=0)
    assert loss == pytest.approx(-likelihoods.mean(), rel=1e-5)
    p = model.predict(WORDS, verbose=0)
    assert accuracy == pytest.approx((p.argmax(axis=-1) == Y)[WORDS > 0].mean())
    tags = ops.convert_to_numpy(crf.decode(scores, WORDS > 0)[0])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert loaded.output_type == model.output_type == zoo.Tags(NAMES, "BIO", [("B-X", "B-X")])
    expected = [loss, accuracy, span_f1]
    np.testing.assert_allclose(loaded.evaluate(WORDS, Y, verbose=0), expected, rtol=1e-5)
    for each in (model, loaded):
        decoded = zoo.decoded(each)
        np.testing.assert_array_equal(decoded.predict(WORDS, verbose=0), tags)
    decoded.save(tmp_path / "decoded.keras")
    again = keras.saving.load_model(tmp_path / "decoded.keras", safe_mode=True)
    np.testing.assert_array_equal(again.predict(WORDS, verbose=0), tags)
    losses = loaded.fit(WORDS, Y, epochs=3, verbose=0).history["loss"]
    assert losses[2] < losses[1] < losses[0]


def test_half_precision_predicts_in_full_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = zoo.many_to_many(zoo.Tokens(10, 4), zoo.Tags(3), "gru", units=4)
    model.compile("sgd", jit_compile=False)
    assert np.isfinite(model.evaluate(WORDS, Y, verbose=0)).all()
    p = model.predict(WORDS, verbose=0)
    assert p.dtype == "float32"
    np.testing.assert_allclose(p.sum(axis=-1), WORDS > 0, atol=1e-6)


def test_metrics_are_those_that_the_tags_have():
    assert zoo.Tags(3).metrics(None) == ["accuracy"]
    accuracy, spans = zoo.Tags(NAMES, "BIO").metrics(None)
    assert (accuracy, spans.tags, spans.scheme) == ("accuracy", NAMES, "BIO")


def test_wrong_tags_and_targets_are_refused(model):
    with pytest.raises(ValueError, match=r"tags\[1\]='X': expected 'O' or B, I before"):
        zoo.Tags(["O", "X"], "BIO")
    with pytest.raises(ValueError, match=r"y\[0, 0\]=3: expected an integer from 0 to 2"):
        model.fit(WORDS, Y + 3, verbose=0)
    with pytest.raises(ValueError, match="expected a sequence, with its steps"):
        zoo.many_to_one(zoo.Vectors(3), zoo.Tags(3))
