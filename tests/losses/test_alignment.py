"""Guided alignment: its value in NumPy, masks, and a model that learns to attend."""

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn import zoo
from tests.measure import op_by_op


def by_hand(aligned, alpha):
    losses = np.zeros(alpha.shape[:2])
    for n, t, j in np.ndindex(*alpha.shape):
        if aligned[n, t, j]:
            losses[n, t] -= aligned[n, t, j] / aligned[n, t].sum() * np.log(alpha[n, t, j] + 1e-7)
    return losses


def test_equations_and_masks():
    """Several positions, weights of alignments, symbols without one, and a weight of 0."""
    random = np.random.default_rng(0)
    alpha = random.dirichlet(np.ones(4), (3, 5)).astype("float32")
    aligned = np.where(random.random((3, 5, 4)) < 0.4, random.integers(1, 4, (3, 5, 4)), 0)
    aligned[0, 1], alpha[1, 2] = 0, [0, 1, 0, 0]
    aligned[1, 2] = [1, 1, 0, 0]
    expected = by_hand(aligned, alpha)
    loss = kerasrnn.losses.GuidedAlignment(reduction=None)
    np.testing.assert_allclose(loss(aligned, alpha), expected, rtol=1e-5)
    weights = random.random((3, 5)).astype("float32")
    np.testing.assert_allclose(loss(aligned, alpha, weights), weights * expected, rtol=1e-5)
    # Rows are not steps, even if there are as many.
    for rows in (weights[:, 0], weights[:, :1]):
        of_rows = rows.reshape(3, 1) * expected[:, :3]
        np.testing.assert_allclose(loss(aligned[:, :3], alpha[:, :3], rows), of_rows, rtol=1e-5)


def test_bad_shapes_and_alignments():
    loss = kerasrnn.losses.GuidedAlignment()
    with pytest.raises(
        ValueError, match=r"y_true has the shape \(1, 2, 3\), and y_pred \(1, 2, 4\)"
    ):
        loss(np.ones((1, 2, 3)), np.ones((1, 2, 4)))
    for wrong in (-1.0, np.nan):
        with pytest.raises(ValueError, match=f"y_true: expected finite numbers .*found {wrong}"):
            loss(np.full((1, 2, 3), wrong), np.ones((1, 2, 3)))
    with pytest.raises(
        ValueError, match=r"sample_weight of the shape \(3,\): expected that of rows"
    ):
        loss([[[1.0, 0.0]]], [[[0.5, 0.5]]], np.ones(3))


@op_by_op()
def test_a_model_with_attention_as_an_output(tmp_path):
    """The alignment of a symbol is in the loss, that of padding is not; saved with its losses, and
    generating like a model with one output."""
    keras.utils.set_random_seed(0)
    model = zoo.encoder_decoder(
        zoo.Tokens(6, 4), zoo.Classes(7), cell="gru", units=4, attention="bahdanau",
        return_attention=True,
    )  # fmt: skip
    source = np.array([[2, 3, 4, 0], [5, 2, 3, 4]])
    previous = np.array([[6, 2, 3], [6, 4, 0]])
    y, aligned = np.array([[2, 3, 5], [4, 5, 0]]), np.zeros((2, 3, 4))
    aligned[:, range(3), range(3)] = 1
    targets = {"probabilities": y, "attention": aligned}
    losses = {
        "probabilities": "sparse_categorical_crossentropy",
        "attention": kerasrnn.losses.GuidedAlignment(),
    }
    model.compile(keras.optimizers.Adam(0.1), losses, jit_compile=False)
    p, alpha = model([source, previous])
    assert tuple(alpha.shape) == (2, 3, 4)
    found = model.evaluate([source, previous], targets, verbose=0, return_dict=True)
    expected = by_hand(aligned, np.asarray(alpha, "float64"))[previous > 0].mean()
    crossentropy = -np.log(np.take_along_axis(np.asarray(p), y[..., None], axis=2)[..., 0])
    np.testing.assert_allclose(found["attention_loss"], expected, rtol=1e-4)
    total = expected + crossentropy[previous > 0].mean()
    np.testing.assert_allclose(found["loss"], total, rtol=1e-4)
    for _ in range(5):
        model.train_on_batch([source, previous], targets)
    alpha = np.asarray(model([source, previous])[1])
    assert by_hand(aligned, alpha.astype("float64"))[previous > 0].mean() < 0.95 * expected
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded([source, previous])[1], alpha)
    write = zoo.generator(loaded, max_length=3, start=6, end=5, return_attention=True)
    symbols, weights = write(source)
    fed = np.insert(np.asarray(symbols)[:, :-1], 0, 6, axis=1)
    for n, length in enumerate((np.asarray(symbols) > 0).sum(axis=1)):
        again = np.asarray(model([source, fed])[1])[n, :length]
        np.testing.assert_allclose(np.asarray(weights)[n, :length], again, atol=1e-5)
