"""Models with a `kerasrnn.CRF`, trained, saved and loaded."""

import contextlib

import keras
import numpy as np
import pytest
from keras import ops

import kerasrnn
from kerasrnn.losses import CRFLoss
from tests.heads import enumeration
from tests.heads.enumeration import MASK, ROWS, STEPS
from tests.measure import WITHOUT_XLA, op_by_op

TAGS = ["O", "B", "I"]
IDS = np.where(MASK, np.random.default_rng(0).integers(1, 9, MASK.shape), 0)
Y = np.where(MASK, np.random.default_rng(1).integers(0, 3, MASK.shape), 2)


def model_of(crf, jit_compile=WITHOUT_XLA):
    """A small model with a mask, with random weights."""
    ids = keras.Input((None,), dtype="int32", name="ids")
    x = keras.layers.Embedding(9, 4, mask_zero=True)(ids)
    scores = keras.layers.Dense(crf.count, name="scores")(x)
    model = keras.Model(ids, crf(scores))
    random = np.random.default_rng(3)
    model.set_weights([random.normal(size=w.shape) for w in model.get_weights()])
    model.compile(
        keras.optimizers.SGD(0.5), CRFLoss(), metrics=["accuracy"], jit_compile=jit_compile
    )
    return model


def scores_of(model):
    return ops.convert_to_numpy(keras.Model(model.input, model.get_layer("scores").output)(IDS))


def row_losses(scores, crf, y=Y):
    """The negative log-likelihood of each row, by enumeration."""
    weights = [np.asarray(w, "float64") for w in crf.get_weights()]
    losses = []
    for row, valid, tags in zip(scores, MASK, y, strict=True):
        found = enumeration.paths(row.astype("float64"), *weights, valid)
        losses.append(enumeration.log_partition(found) - found[tuple(tags[valid].tolist())])
    return np.array(losses)


def test_the_loss_is_the_mean_over_rows_or_steps():
    crf = kerasrnn.CRF(TAGS)
    model = model_of(crf)
    losses, lengths = row_losses(scores_of(model), crf), MASK.sum(axis=1)
    weights = np.array([1.0, 2.0, 0.0, 0.5, 1.0, 3.0], "float32")
    y_pred = model(IDS)
    for average, counts in (("sequence", lengths > 0), ("token", lengths)):
        loss, used = CRFLoss(average), losses * (lengths > 0)
        assert float(loss(Y, y_pred)) == pytest.approx(used.sum() / counts.sum(), rel=1e-5)
        expected = (used * weights).sum() / (counts * weights).sum()
        assert float(loss(Y, y_pred, weights)) == pytest.approx(expected, rel=1e-5)
        denominator = loss.denominator(Y, y_pred, weights)
        assert float(denominator) == pytest.approx((counts * weights).sum())
    found = model.evaluate(IDS, Y, batch_size=ROWS, sample_weight=weights[:, None], verbose=0)
    expected = (losses * weights * (lengths > 0)).sum() / ((lengths > 0) * weights).sum()
    assert found[0] == pytest.approx(expected, rel=1e-5)
    right = ops.convert_to_numpy(y_pred).argmax(axis=-1) == Y
    assert found[1] == pytest.approx(right[MASK].mean())


@pytest.mark.traced
@pytest.mark.torch_backend
@pytest.mark.gradients
def test_a_step_of_fit_follows_the_gradient_of_all_weights(tmp_path):
    """The loss of the next step is that of the weights moved against the differences of the loss,
    in a loaded model, too. XLA compiles the first, as it does by default."""
    crf = kerasrnn.CRF(TAGS, regularizer=None)
    model = model_of(crf, jit_compile="auto")
    model.save(tmp_path / "model.keras")
    before, scores = crf.get_weights(), scores_of(model)
    rows = MASK.any(axis=1)

    def loss():
        return row_losses(scores, crf)[rows].mean()

    expected = []
    for n, weight in enumerate(before):
        gradient = np.zeros_like(weight)
        for index in np.ndindex(weight.shape):
            ends = []
            for step in (1e-3, -1e-3):
                moved = [w.copy() for w in before]
                moved[n][index] += step
                crf.set_weights(moved)
                ends.append(loss())
            gradient[index] = (ends[0] - ends[1]) / 2e-3
        expected.append(weight - 0.5 * gradient)
    crf.set_weights(before)
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert isinstance(loaded.loss, CRFLoss)
    model.fit(IDS, Y, batch_size=ROWS, verbose=0)
    with op_by_op():
        loaded.fit(IDS, Y, batch_size=ROWS, verbose=0)
    for each in (model, loaded):
        for found, e in zip(each.layers[-1].get_weights(), expected, strict=True):
            np.testing.assert_allclose(found, e, atol=2e-4)


@pytest.mark.traced
def test_transitions_are_learned_that_a_softmax_cannot_know():
    """The inputs say nothing, and the tags alternate: log 2 is lost once, not at each step.

    At each step both tags are equally probable, which is all that a softmax can learn.
    """
    x = np.zeros((8, 6, 1), "float32")
    y = (np.arange(6) + np.arange(8)[:, None]) % 2
    inputs = keras.Input((6, 1))
    crf = kerasrnn.CRF(2)
    model = keras.Model(inputs, crf(keras.layers.Dense(2)(inputs)))
    model.compile(keras.optimizers.Adam(0.3), CRFLoss(), jit_compile=WITHOUT_XLA)
    losses = [model.train_on_batch(x, y) for _ in range(60)]
    assert losses[0] == pytest.approx(6 * np.log(2), rel=1e-5)
    with op_by_op():
        assert model.evaluate(x, y, verbose=0) == pytest.approx(np.log(2), abs=0.02)
        np.testing.assert_allclose(model(x), 0.5, atol=0.02)
        tags, _ = crf.decode(ops.zeros((1, 6, 2)), n=2)
    found = {tuple(row) for row in ops.convert_to_numpy(tags)[0].tolist()}
    assert found == {(0, 1, 0, 1, 0, 1), (1, 0, 1, 0, 1, 0)}


@pytest.mark.traced
def test_several_outputs_with_weights_of_each(tmp_path):
    """Two fields on the same scores, and another output: each loss reads its own field."""
    inputs = keras.Input((STEPS, 2))
    scores = keras.layers.Dense(3)(inputs)
    outputs = {
        "all": kerasrnn.CRF(3, initializer="glorot_uniform", name="all")(scores),
        "other": keras.layers.Dense(1, name="other")(inputs),
        "bio": kerasrnn.CRF(TAGS, "BIO", initializer="glorot_uniform", name="bio")(scores),
    }
    model = keras.Model(inputs, outputs)
    losses = {"all": CRFLoss(), "bio": CRFLoss("token"), "other": "mse"}
    loss_weights = {"all": 1.0, "bio": 10.0, "other": 0.0}
    model.compile("sgd", losses, loss_weights=loss_weights, jit_compile=WITHOUT_XLA)
    x = np.random.default_rng(0).normal(size=(2, STEPS, 2)).astype("float32")
    y = np.array([[0, 1, 2, 0], [1, 2, 2, 2]])
    targets = {"all": y, "bio": y, "other": np.zeros((2, STEPS, 1))}
    weights = {"all": np.array([1.0, 3.0]), "bio": np.array([1.0, 0.0]), "other": np.ones((2, 1))}
    values = keras.Model(inputs, scores)(x)
    fields = {name: model.get_layer(name) for name in ("all", "bio")}
    rows = {name: -ops.convert_to_numpy(f.log_likelihood(values, y)) for name, f in fields.items()}
    expected = (rows["all"] @ [1, 3]) / 4 + 10 * rows["bio"][0] / STEPS
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    for each, context in ((model, contextlib.nullcontext()), (again, op_by_op())):
        with context:
            found = each.evaluate(x, targets, sample_weight=weights, verbose=0, return_dict=True)
        assert found["loss"] == pytest.approx(expected, rel=1e-5)


def test_taggers_share_the_weights_and_are_saved(tmp_path):
    crf = kerasrnn.CRF(TAGS, scheme="BIO", initializer="glorot_uniform")
    model = model_of(crf)
    scores = model.get_layer("scores").output
    tagger = keras.Model(model.input, crf.decode(scores))
    assert {id(w) for w in tagger.weights} == {id(w) for w in model.weights}
    y = ops.convert_to_numpy(tagger(IDS)[0])
    assert not any("OI" in "".join(TAGS[k] for k in row) for row in y)
    tagger.save(tmp_path / "tagger.keras")
    loaded = keras.saving.load_model(tmp_path / "tagger.keras", safe_mode=True)
    for a, b in zip(loaded(IDS), tagger(IDS), strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(a), ops.convert_to_numpy(b))


@pytest.mark.traced
def test_mixed_precision_trains():
    keras.config.set_dtype_policy("mixed_float16")
    model = model_of(kerasrnn.CRF(TAGS))
    losses = model.fit(IDS, Y, epochs=3, verbose=0).history["loss"]
    assert losses[2] < losses[0]
    with op_by_op():
        assert model.predict(IDS, verbose=0).dtype == "float32"


# What cannot be computed.


def test_the_output_of_another_layer_is_refused():
    crf = kerasrnn.CRF(3)
    y = np.zeros((2, 4), "int32")
    with pytest.raises(ValueError, match=r"is not the output of a kerasrnn\.CRF"):
        CRFLoss()(y, np.full((2, 4, 3), 1 / 3, "float32"))
    with pytest.raises(ValueError, match=r"is not the output of a kerasrnn\.CRF"):
        CRFLoss()(y, crf(np.zeros((2, 4, 3), "float32")) * 1)
    inputs = keras.Input((4, 3))
    model = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    model.compile("sgd", CRFLoss())
    with pytest.raises(ValueError, match=r"is not the output of a kerasrnn\.CRF"):
        model.fit(np.zeros((2, 4, 3)), y, verbose=0)


def test_weights_of_single_steps_are_refused():
    y_pred = kerasrnn.CRF(3)(np.zeros((2, 4, 3), "float32"))
    with pytest.raises(ValueError, match=r"sample_weight of the shape \(2, 4\): expected"):
        CRFLoss()(np.zeros((2, 4)), y_pred, np.ones((2, 4)))
    with pytest.raises(
        ValueError, match=r"sample_weight of the shape \(1,\): expected the weights"
    ):
        CRFLoss()(np.zeros((2, 4)), y_pred, np.ones(1))
    with pytest.raises(ValueError, match=r"sample_weight: expected finite numbers; found nan"):
        CRFLoss()(np.zeros((2, 4)), y_pred, [np.nan, 1.0])


@pytest.mark.traced
def test_targets_that_are_not_allowed_or_not_tags_are_refused():
    y_pred = kerasrnn.CRF(TAGS, "BIO")(np.zeros((2, 2, 3), "float32"))
    with pytest.raises(ValueError, match=r"the tags of row 1 are not allowed by the scheme"):
        CRFLoss()([[0, 1], [0, 2]], y_pred)
    with pytest.raises(ValueError, match=r"tags: expected numbers from 0 to 2; found 3"):
        CRFLoss()([[0, 1], [0, 3]], y_pred)
    inputs = keras.Input((2, 3))
    model = keras.Model(inputs, kerasrnn.CRF(TAGS, "BIO")(inputs))
    model.compile("sgd", CRFLoss(), jit_compile=WITHOUT_XLA)
    for wrong, loss in ((2, np.inf), (3, np.nan)):
        found = model.evaluate(np.zeros((2, 2, 3)), np.array([[0, 1], [0, wrong]]), verbose=0)
        np.testing.assert_equal(found, loss)
