"""Pointer networks: training, pointing, saved and exported; targets and their errors."""

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn import zoo
from kerasrnn.decoding import Beam
from tests.measure import FIRST_BACKEND, WITHOUT_XLA, op_by_op, randomize
from tests.zoo.models import assert_exports_to_onnx, assert_saves

SOURCE = np.array([[4, 2, 8, 3], [7, 0, 6, 0], [5, 0, 0, 0]], "int32")


@pytest.fixture(scope="module")
def tokens():
    """A model of symbols, whose padding has gaps."""
    model = zoo.pointer_network(zoo.Tokens(9, 5), "at_most_once", cell="gru", units=6)
    randomize(model)
    return model


def numbers(rows, count, seed=0):
    x = np.random.default_rng(seed).random((rows, count, 1)).astype("float32")
    return x, *zoo.pointer_targets(x[..., 0].argsort(axis=1))


@pytest.mark.traced
def test_it_learns_to_sort():
    """Five numbers, with a beam. What it has learned holds for six."""
    keras.utils.set_random_seed(0)
    model = zoo.pointer_network(
        zoo.Vectors(1, padding=None), "exactly_once", cell="gru", units=24, jit_compile=False
    )
    model.compile(keras.optimizers.Adam(0.01), jit_compile=WITHOUT_XLA)
    x, previous, y = numbers(1024, 5)
    history = model.fit([x, previous], y, batch_size=64, epochs=8, verbose=0).history
    assert history["loss"][-1] < 0.1
    assert history["accuracy"][-1] > 0.95
    for count, share in ((5, 0.85), (6, 0.5)):
        x, _, y = numbers(64, count, seed=1)
        with op_by_op():
            ids = np.asarray(zoo.generator(model, Beam(3), max_length=count + 1)(x))
        assert (ids == y).all(axis=1).mean() > share
        assert all(sorted(row) == [*range(count)] for row in zoo.pointed(ids))


@op_by_op()
def test_predictions_and_loss(tokens):
    """The probability of padding and of gaps is 0; the loss is that of the pointers."""
    previous, y = zoo.pointer_targets([[2, 0, 3], [2, 0], [0]])
    p = np.asarray(tokens([SOURCE, previous]))
    assert p.shape == (3, 4, 6)
    np.testing.assert_allclose(p.sum(axis=-1), 1, atol=1e-5)
    assert not p[..., 0].any()
    gaps = np.broadcast_to((SOURCE == 0)[:, None], (3, 4, 4))
    assert not p[..., 2:][gaps].any()
    chosen = np.take_along_axis(p, y[..., None], axis=-1)[..., 0]
    expected = -np.log(chosen[y > 0]).mean()
    loss = tokens.output_type.loss(tokens.head)(y, tokens([SOURCE, previous]))
    np.testing.assert_allclose(float(loss), expected, rtol=1e-5)


@pytest.mark.tensorflow
@pytest.mark.traced
def test_saved_and_exported(tokens, tmp_path):
    """The model of all steps; a beam as ONNX, whose sources have any length; encoder and step."""
    previous, _ = zoo.pointer_targets([[2, 0, 3], [2, 0], [0]])
    batch = [SOURCE, previous]
    assert_saves(tokens, batch, tmp_path)
    names = (["source", "previous"], ["probabilities"])
    assert_exports_to_onnx(tokens, [batch], tmp_path, names)
    beam = zoo.generator(tokens, Beam(3), max_length=5, return_scores=True)
    expected = [np.asarray(x) for x in beam(SOURCE)]
    assert_saves(beam, SOURCE, tmp_path)
    greedy = zoo.generator(tokens, max_length=5)
    assert_exports_to_onnx(greedy, [SOURCE, SOURCE[:1, :3]], tmp_path, (["source"], ["sequences"]))
    # The scores of a beam are those of the model of all steps, for the pointers that it found.
    ids, scores = expected
    fed = np.insert(np.where(ids == 1, 0, ids)[:, :-1], 0, 1, axis=1)
    p = np.asarray(tokens([SOURCE, fed]))
    chosen = np.take_along_axis(p, ids[..., None], axis=-1)[..., 0]
    total = np.log(np.where(ids > 0, chosen, 1)).sum(axis=1)
    np.testing.assert_allclose(scores, total, rtol=1e-4)
    encoder, step = zoo.encoder_and_step(tokens)
    found = encoder(SOURCE)
    for t in range(2):
        y, *after = step([previous[:, t], *found])
        np.testing.assert_allclose(y[:2], p_of(tokens, batch)[:2, t], atol=1e-6)
        states = [name for name in step.output_names if name.startswith("state_")]
        found = [*after[: len(states)], *found[len(states) :]]


def p_of(model, batch):
    return np.asarray(model(batch))


@pytest.mark.traced
@pytest.mark.skipif(not FIRST_BACKEND, reason="JAX compiles every graph with XLA")
def test_with_xla(tokens):
    beam = zoo.generator(tokens, Beam(3), max_length=3)
    with op_by_op():
        eager = np.asarray(beam(SOURCE))
    beam.compile(jit_compile=True)
    assert beam.predict(SOURCE, verbose=0).tolist() == eager.tolist()


def test_ids():
    previous, y = zoo.pointer_targets([[1, 1, 0], []])
    assert previous.tolist() == [[1, 3, 3, 2], [1, 0, 0, 0]]
    assert y.tolist() == [[3, 3, 2, 1], [1, 0, 0, 0]]
    assert zoo.pointed(y) == [[1, 1, 0], []]
    assert zoo.pointed(np.array([[3, 1, 4], [4, 0, 3]])) == [[1], [2]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: zoo.pointer_targets([[0, -1]]), r"positions\[0\]\[1\]=-1: expected"),
        (lambda: zoo.pointer_targets([0]), r"positions\[0\]=0: expected a list"),
        (lambda: zoo.pointed([1, 2]), r"ids has the shape \(2,\)"),
        (lambda: zoo.pointed([[0.5]]), "ids"),
        (lambda: zoo.Pointers("never"), "visits='never': expected"),
        (lambda: zoo.pointer_network(zoo.Tokens(5), mode="first"), "mode='first': expected"),
        (lambda: zoo.pointer_network(zoo.Labels(5)), "Labels"),
        (
            lambda: zoo.Pointers("at_most_once").check_targets("y", np.array([[2, 1], [3, 3]])),
            r"y\[1\]=\[3, 3\]: expected no id twice",
        ),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_ensemble_of_pointers(tokens):
    with pytest.raises(ValueError, match=r"model\[0\] is a pointer network"):
        zoo.generator([tokens, tokens], max_length=3)
    assert isinstance(tokens.get_layer("decoder"), kerasrnn.decoding.PointerDecoder)
