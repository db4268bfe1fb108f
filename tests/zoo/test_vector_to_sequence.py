"""`one_to_many`: its modes in NumPy, training, exports, errors."""

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn import zoo
from kerasrnn.keras_internals import get_keras_mask
from tests import numpy_models
from tests.catalogue import variant_id
from tests.measure import op_by_op, randomize
from tests.zoo.models import assert_exports, assert_exports_to_onnx, assert_saves, learn

PREVIOUS = np.array([[1, 3, 4, 5], [1, 4, 2, 2]])


def label_model(mode="first", **options):
    return zoo.one_to_many(zoo.Labels(3, 4), zoo.Classes(7), mode, units=5, **options)


@pytest.mark.parametrize("mode", ["first", "every", "state"])
def test_symbols_from_labels(mode, tmp_path):
    model = label_model(mode, depth=2, residual=True, skip=True, dropout=0.3)
    labels = np.array([2, 0])
    (table,) = model.get_layer("embedding").get_weights()
    logits = numpy_models.decode(model.get_layer("decoder"), PREVIOUS, table[labels])
    y = model([labels, PREVIOUS])
    np.testing.assert_allclose(y, numpy_models.softmax(logits), atol=1e-6)
    np.testing.assert_array_equal(get_keras_mask(y), PREVIOUS != 0)
    assert_saves(model, [labels, PREVIOUS], tmp_path)
    writer = zoo.generator(model, max_length=3, start=1, end=2, return_log_probabilities=True)
    assert_saves(writer, labels, tmp_path)


def test_symbols_from_images():
    source = zoo.Images((4, 4, 1), filters=(2,), units=8)
    model = zoo.one_to_many(source, zoo.Classes(7), "first", "gru", units=5, tied=True)
    randomize(model)
    x = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 1)).astype("float32")
    c = numpy_models.convolutional_encoder(model.get_layer("image_encoder"), x)
    assert np.abs(c[0] - c[1]).max() > 0.01
    logits = numpy_models.decode(model.get_layer("decoder"), PREVIOUS, c)
    np.testing.assert_allclose(model([x, PREVIOUS]), numpy_models.softmax(logits), atol=1e-5)


@pytest.mark.parametrize("outputs", [zoo.MultiLabel(2), zoo.Values(2)], ids=repr)
def test_frames_from_vectors(outputs):
    source = zoo.Vectors(3, mean=1.0)
    model = zoo.one_to_many(source, outputs, "every", "gru", units=5, embedding_units=4)
    x = np.random.default_rng(0).normal(size=(2, 3)).astype("float32")
    previous = np.random.default_rng(1).integers(0, 2, (2, 4, 2)).astype("float32")
    logits = numpy_models.decode(model.get_layer("decoder"), previous, x - 1)
    expected = numpy_models.ACTIVATIONS[outputs.kind](logits)
    np.testing.assert_allclose(model([x, previous]), expected, atol=1e-6)


@pytest.mark.traced
def test_learning_to_count():
    """The targets of label n are n times the symbol 3, then the end symbol 2."""
    counts = np.array([1, 2, 3, 4])
    rows = [[1] + [3] * n + [2] + [0] * (4 - n) for n in counts]
    symbols = np.array(rows)
    model = zoo.one_to_many(zoo.Labels(5, 8), zoo.Classes(4), "first", "gru", 24, jit_compile=False)
    assert learn(model, [counts, symbols[:, :-1]], symbols[:, 1:], steps=60, rate=0.03) < 0.1
    writer = zoo.generator(model, max_length=5, start=1, end=2, return_lengths=True)
    with op_by_op():
        written, lengths = map(np.asarray, writer(np.array([4, 1, 3])))
    assert lengths.tolist() == [5, 2, 4]
    assert written.tolist() == [[3, 3, 3, 3, 2], [3, 2, 0, 0, 0], [3, 3, 3, 2, 0]]


@pytest.mark.tensorflow
@pytest.mark.traced
def test_exports(tmp_path):
    """One mode in ONNX, the others in one SavedModel."""
    modes = ("first", "every", "state")
    models = [label_model(mode, cell="simple_rnn", name=mode) for mode in modes]
    for model in models:
        randomize(model)
    labels, previous = np.array([2, 0], "int32"), PREVIOUS.astype("int32")
    check = [[labels, previous], [labels[:1], previous[:1, :2]]]
    assert_exports_to_onnx(models[0], check, tmp_path, (["source", "previous"], ["probabilities"]))
    inputs = models[0].inputs
    together = keras.Model(inputs, [model(inputs) for model in models[1:]])
    assert_exports(together, check, tmp_path)


def test_scores_of_a_beam_are_the_models():
    model = label_model("state")
    randomize(model)
    beam = kerasrnn.decoding.Beam(4, length_penalty=1.0, n_best=3)
    writer = zoo.generator(
        model, beam, 5, start=1, end=2, return_lengths=True, min_length=1, return_scores=True
    )
    assert writer.output_names == ["sequences", "lengths", "scores"]
    labels = np.array([2, 0, 1])
    written, lengths, scores = map(np.asarray, writer(labels))
    assert (written[..., 0] != 2).all()
    for n in range(3):
        previous = np.insert(written[:, n, :-1], 0, 1, axis=1)
        p = np.take_along_axis(np.array(model([labels, previous])), written[:, n, :, None], axis=2)
        log_p = np.where(written[:, n] > 0, np.log(p[..., 0]), 0).sum(axis=1)
        np.testing.assert_allclose(scores[:, n], log_p * 6 / (5 + lengths[:, n]), atol=1e-5)


def test_the_generator_shares_the_weights():
    model = label_model("state")
    writer = zoo.generator(model, max_length=3, start=1)
    kernel, _ = model.get_layer("decoder").readout.get_weights()
    model.get_layer("decoder").readout.set_weights([0 * kernel, 9.0 * (np.arange(7) == 5)])
    assert np.asarray(writer(np.array([0]))).tolist() == [[5, 5, 5]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: label_model("both"), "mode='both': expected one of 'first', 'every', 'state'"),
        (lambda: label_model(depth=0), "depth=0: expected a positive integer"),
        (lambda: label_model(dropout=1), r"dropout=1: expected a number in \[0, 1\)"),
        (lambda: label_model(cell="lstmm"), "cell='lstmm': expected one of"),
        (lambda: zoo.one_to_many(zoo.Tokens(3), zoo.Classes(3)), "tokens come in sequences"),
        (lambda: zoo.one_to_many(zoo.Labels(3), 3), "outputs=3: expected zoo.Classes"),
        (
            lambda: zoo.generator(zoo.one_to_one(zoo.Vectors(2), zoo.Classes(2)), start=1),
            "model='one_to_one': has 0 decoders; expected one",
        ),
        (
            lambda: zoo.generator(label_model(), start=1, prompt_lengths=True),
            "prompt_lengths=True: expected prompt=True",
        ),
        (lambda: zoo.generator(label_model()), "start=None: expected a prompt"),
    ],
    ids=variant_id,
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
