"""Outputs with many classes: their loss in NumPy; models that generate, saved and exported."""

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn import zoo
from kerasrnn.decoding import Beam
from kerasrnn.losses.structured import tokens_of
from tests.measure import WITHOUT_XLA, op_by_op, randomize
from tests.zoo.models import assert_exports_to_onnx, assert_saves

CLASSES = 30
OUTPUTS = [
    zoo.AdaptiveClasses(CLASSES, [5, 12], factor=2.0),
    zoo.SampledClasses(CLASSES, 8, [1.0] * CLASSES),
]
IDS = np.array([[4, 9, 2, 17], [29, 3, 0, 0], [6, 6, 1, 20]], "int32")
Y = np.array([[9, 2, 17, 5], [3, 12, 0, 0], [6, 1, 20, 11]], "int32")


@pytest.fixture(scope="module", params=OUTPUTS, ids=["adaptive", "sampled"])
def model(request):
    model = zoo.next_step(request.param, "gru", units=12)
    randomize(model)
    return model


@op_by_op()
def test_the_loss_of_probabilities_and_of_what_is_behind_them(model):
    """Masked steps are excluded. In training, the loss of samples is another one."""
    p = model(IDS)
    assert tuple(p.shape) == (3, 4, CLASSES)
    assert tokens_of(p) is not None
    q = np.asarray(p)
    np.testing.assert_allclose(q.sum(axis=-1), 1, atol=1e-5)
    log_p = np.log(np.take_along_axis(q, Y[..., None], axis=-1)[..., 0])
    expected = -log_p[IDS > 0].mean()
    loss = model.output_type.loss(model.head)
    np.testing.assert_allclose(float(loss(Y, p)), expected, rtol=1e-4)
    in_training = float(loss(Y, model(IDS, training=True)))
    sampled = isinstance(model.output_type, zoo.SampledClasses)
    assert (abs(in_training - expected) > 1e-3) == sampled
    for metric in model.output_type.metrics(model.head):
        metric.update_state(Y, model(IDS))
        np.testing.assert_allclose(float(metric.result()), np.exp(expected), rtol=1e-4)


@op_by_op()
def test_a_beam_and_the_decoder_step(model):
    """The sums of the logarithms of the probabilities of all steps."""
    write = zoo.generator(model, Beam(3, n_best=2), 3, start=1, return_scores=True)
    found, scores = map(np.asarray, write(IDS[:2]))
    for n, prompt in enumerate(([4, 9, 2, 17], [29, 3])):
        for k in range(2):
            fed = np.array([[1, *prompt, *found[n, k, :-1]]])
            log_p = np.log(np.asarray(model(fed))[0, len(prompt) :])
            np.testing.assert_allclose(scores[n, k], log_p[range(3), found[n, k]].sum(), rtol=1e-4)
    _, step = zoo.encoder_and_step(model)
    decoder = model.get_layer("decoder")
    states = decoder.initial_states(batch_size=3)
    y, *_ = step([IDS[:, 0], *states])
    np.testing.assert_allclose(y, np.asarray(model(IDS))[:, 0], atol=1e-6)


@pytest.mark.traced
def test_trained_saved_and_exported(model, tmp_path):
    """In a graph, the loss of `evaluate` is that of the probabilities that `predict` returns."""
    model = zoo.next_step(model.output_type, "gru", units=12)
    model.compile(keras.optimizers.Adam(0.05), jit_compile=WITHOUT_XLA)
    ids = np.random.default_rng(0).integers(1, 4, (32, 4)).astype("int32")
    losses = model.fit(ids, ids, batch_size=32, epochs=12, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
    results = model.evaluate(ids, ids, batch_size=32, verbose=0, return_dict=True)
    with op_by_op():
        p = np.asarray(model(ids))
        expected = -np.log(np.take_along_axis(p, ids[..., None], axis=-1)).mean()
        np.testing.assert_allclose(results["loss"], expected, rtol=1e-4)
        assert_saves(model, ids, tmp_path)
    if isinstance(model.output_type, zoo.AdaptiveClasses):
        np.testing.assert_allclose(results["perplexity"], np.exp(expected), rtol=1e-4)
        if keras.config.backend() == "tensorflow":
            writer = zoo.generator(model, max_length=3, start=1)
            names = (["prompt"], ["sequences"])
            assert_exports_to_onnx(writer, [IDS], tmp_path, names)


@op_by_op()
def test_other_topologies():
    """With an encoder and attention; without a decoder."""
    of_words = OUTPUTS[0]
    seq = zoo.encoder_decoder(
        zoo.Tokens(9, 4), of_words, cell="gru", units=12, attention="luong", input_feeding=False
    )
    randomize(seq)
    source = np.array([[4, 2, 8], [7, 6, 0], [3, 0, 0]], "int32")
    write = zoo.generator(seq, max_length=3, start=1, return_log_probabilities=True)
    found, log_p = map(np.asarray, write(source))
    fed = np.insert(found[:, :-1], 0, 1, axis=1)
    p = np.asarray(seq([source, fed]))
    chosen = np.take_along_axis(p, found[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(log_p, np.log(chosen), rtol=1e-3, atol=1e-5)
    tags = zoo.many_to_many(zoo.Tokens(9, 4), of_words, "gru", units=12)
    y = tags(source)
    assert tokens_of(y) is not None
    ids = np.asarray(zoo.decoded(tags)(source))
    assert (ids == np.asarray(y).argmax(axis=-1)).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: zoo.AdaptiveClasses(10, [10]), "cutoffs="),
        (lambda: zoo.AdaptiveClasses(10, [3], factor=0), "factor=0"),
        (lambda: zoo.SampledClasses(0, 3), "count=0"),
        (lambda: zoo.SampledClasses(3, 2, [1.0, 0.0, 2.0]), "frequencies="),
        (
            lambda: zoo.many_to_many(zoo.Vectors(2), OUTPUTS[0], feedback=True),
            "expected zoo.Classes, MultiLabel or Values",
        ),
        (lambda: zoo.next_step(OUTPUTS[0], tied=True), "tied=True: expected False with a softmax"),
        (
            lambda: kerasrnn.Decoder(
                5, [kerasrnn.GRU(3)], softmax=kerasrnn.AdaptiveSoftmax(6, [2])
            ),
            "of 5 classes",
        ),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
