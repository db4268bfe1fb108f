"""Accuracies and perplexity over several batches, compared with loops over tokens."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasrnn.metrics import EditDistance, Perplexity, SequenceAccuracy, TokenAccuracy
from tests import numpy_models
from tests.catalogue import variant_id
from tests.losses import oracle
from tests.losses.test_crossentropy import masked

CLASSES = 4
WIDTHS = (3, 8, 5)  # of buckets


def batches(kind, padding):
    """Batches of different lengths: ids, logits that are often right, masks and weights."""
    random = np.random.default_rng(1)
    for rows, time in zip((5, 4, 6), WIDTHS, strict=True):
        y = random.integers(0, CLASSES, (rows, time))
        if padding is not None:
            lengths = random.integers(0, time + 1, rows)
            y = np.where(np.arange(time) < lengths[:, None], y, padding)
        logits = random.standard_normal((rows, time, CLASSES)) + 1.5 * np.eye(CLASSES)[y]
        mask = random.random((rows, time)) < 0.8 if "mask" in kind else None
        weights = None
        if "rows" in kind:
            weights = random.random(rows).astype("float32")
        if "tokens" in kind:
            weights = random.random((rows, time)) * (random.random((rows, time)) < 0.8)
            weights = weights.astype("float32")
        yield y, logits.astype("float32"), mask, weights


@pytest.mark.parametrize("kind", ["plain", "mask rows", "mask tokens"])
@pytest.mark.parametrize("padding", [0, None, 3])
def test_equal_the_counts_over_all_batches(kind, padding):
    names = ("tokens", "right tokens", "rows", "right rows", "nats")
    sums = dict.fromkeys(names, 0.0)
    metrics = [TokenAccuracy(padding), SequenceAccuracy(padding), Perplexity(True, padding)]
    for y, logits, mask, weights in batches(kind, padding):
        for metric in metrics:
            metric.update_state(y, masked(logits, mask), sample_weight=weights)
        p, predicted = numpy_models.softmax(logits.astype("float64")), logits.argmax(axis=-1)
        for b, of_row, places in oracle.counted(y, padding, mask, weights):
            for w, t in places:
                sums["tokens"] += w
                sums["right tokens"] += w * (predicted[b, t] == y[b, t])
                sums["nats"] += w * oracle.token_loss(y[b, t], p[b, t])
            sums["rows"] += of_row
            sums["right rows"] += of_row * all(predicted[b, t] == y[b, t] for _, t in places)
    expected = [
        sums["right tokens"] / sums["tokens"],
        sums["right rows"] / sums["rows"],
        np.exp(sums["nats"] / sums["tokens"]),
    ]
    assert all(0.1 < accuracy < 0.9 for accuracy in expected[:2])
    np.testing.assert_allclose([metric.result() for metric in metrics], expected, rtol=1e-5)


def test_a_token_counts_the_same_in_every_bucket():
    """Eight tokens of sixteen are right; Keras's metric returns 10 / 11."""
    ours = TokenAccuracy(ignore_class=0)
    theirs = keras.metrics.SparseCategoricalAccuracy()
    for width, predicted in ((4, 1), (40, 2)):
        y = np.zeros((2, width), "int32")
        y[:, :4] = 1
        scores = np.eye(5, dtype="float32")[np.full((2, width), predicted)]
        ours.update_state(y, scores)
        theirs.update_state(y, masked(scores, y > 0))
    assert float(ours.result()) == 0.5
    np.testing.assert_allclose(
        theirs.result(), 10 / 11
    )  # if this fails, remove it from the documentation


def test_ids_that_are_equal_in_half_precision():
    y = np.array([[256, 258]])
    scores = ops.cast(np.eye(300, dtype="float32")[[[257, 258]]], "bfloat16")
    metric = TokenAccuracy()
    metric.update_state(y, scores)
    assert float(metric.result()) == 0.5
    theirs = keras.metrics.SparseCategoricalAccuracy()
    theirs.update_state(y, scores)
    assert float(theirs.result()) == 1.0  # if this fails, remove it from the documentation


def test_perplexity_of_uniform_probabilities():
    metric = Perplexity(ignore_class=0)
    assert float(metric.result()) == 1.0
    metric.update_state(np.array([[3, 1, 0]]), np.full((1, 3, 7), 1 / 7))
    np.testing.assert_allclose(metric.result(), 7, rtol=1e-6)


def test_perplexity_of_one_class():
    """1 / p, to the last digit, of class 0, which is not padding by default."""
    metric = Perplexity()
    metric.update_state(np.zeros((1, 2)), np.array([[[0.997, 0.003], [0.997, 0.003]]], "float32"))
    np.testing.assert_allclose(metric.result(), 1 / 0.997, rtol=1e-6)


def test_masks_and_padding():
    """By default 0 is a class, and masks exclude tokens."""
    y = np.array([[0, 1, 0], [1, 0, 0]])
    predicted = np.array([[0, 1, 1], [0, 0, 1]])  # 3 of 6, and no whole row
    scores = np.eye(2, dtype="float32")[predicted]
    mask = np.array([[1, 1, 0], [0, 1, 0]], bool)  # 3 of 3, 2 of 2
    for given, token, row, edits in ((scores, 3 / 6, 0, 3 / 6), (masked(scores, mask), 1, 1, 0)):
        found = []
        for metric in (TokenAccuracy(), SequenceAccuracy(), EditDistance()):
            metric.update_state(y, given)
            found.append(float(metric.result()))
        np.testing.assert_allclose(found, [token, row, edits], rtol=1e-6)


@pytest.mark.parametrize(
    "metric",
    [
        TokenAccuracy(None, "a"),
        SequenceAccuracy(3, "b"),
        Perplexity(False, -1, "c"),
        EditDistance(2, None, "d"),
    ],
    ids=lambda metric: type(metric).__name__,
)
def test_configuration(metric):
    config = keras.saving.serialize_keras_object(metric)
    assert config["registered_name"] == f"kerasrnn>{type(metric).__name__}"
    again = keras.saving.deserialize_keras_object(config)
    assert again.get_config() == metric.get_config()
    assert {"name", "ignore_class", "dtype"} <= set(metric.get_config())


IDS = np.ones((2, 3), "int64")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TokenAccuracy("0"), "ignore_class='0': expected an integer or None"),
        (lambda: Perplexity(ignore_class=True), "ignore_class=True: expected an integer or None"),
        (lambda: TokenAccuracy()(IDS, IDS[0]), r"y_pred of the shape \(3,\): expected ids"),
        (lambda: TokenAccuracy()(IDS, IDS + 0.5), r"y_pred\[0, 0\]=1\.5: expected an integer from"),
        (lambda: SequenceAccuracy()(IDS, IDS, IDS * np.nan), "sample_weight: .* found nan"),
        (lambda: SequenceAccuracy()(IDS, IDS[:, :2]), r"y_true of the shape \(2, 3\): expected"),
        (lambda: Perplexity()(IDS, IDS), r"y_pred of the shape \(2, 3\): expected \(batch, time, "),
    ],
    ids=variant_id,
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
