"""`kerasrnn.metrics.SpanF1` compared with spans found by regular expressions, and with seqeval's
numbers."""

import re

import keras
import numpy as np
import pytest
from keras import ops

import kerasrnn
from kerasrnn.keras_internals import set_keras_mask
from kerasrnn.metrics import SpanF1
from tests.measure import op_by_op

# The spans of a type k in the tags of a row, each followed by a space. What they cannot find,
# tags that IOB1 does not allow, is not drawn.
SPANS = {
    "BIO": "B-{k} (I-{k} )*",
    "IOB1": "B-{k} (I-{k} )*|(I-{k} )+",
    "BIOES": "S-{k} |B-{k} (I-{k} )*E-{k} ",
    "BILOU": "U-{k} |B-{k} (I-{k} )*L-{k} ",
    "BMES": "S-{k} |B-{k} (M-{k} )*E-{k} ",
}
LETTERS = {"BIO": "BI", "IOB1": "BI", "BIOES": "BIES", "BILOU": "BILU", "BMES": "BMES"}


def names_of(scheme):
    return ["O", *(f"{letter}-{k}" for k in ("X", "Y") for letter in LETTERS[scheme])]


def spans(names, row, scheme, k):
    text = "".join(f"{names[n]} " for n in row)
    return {
        (text[: match.start()].count(" "), text[: match.end()].count(" "))
        for match in re.finditer(SPANS[scheme].format(k=k), text)
    }


def counted(names, y, p, valid, scheme, weights):
    """`{type: (true, predicted, correct)}`"""
    counts = {k: np.zeros(3) for k in ("X", "Y")}
    for a, b, used, weight in zip(y, p, valid, weights, strict=True):
        for k, total in counts.items():
            true, found = (spans(names, row[used], scheme, k) for row in (a, b))
            total += weight * np.array([len(true), len(found), len(true & found)])
    return counts


def f1(counts):
    true, predicted, correct = counts
    return 2 * correct / (true + predicted)


def masked(p, mask):
    p = ops.convert_to_tensor(p)
    set_keras_mask(p, ops.convert_to_tensor(mask))
    return p


@pytest.mark.parametrize("scheme", SPANS)
def test_spans_are_those_of_regular_expressions(scheme):
    """With gaps in the masks, weights of rows, and tags that the scheme does not allow."""
    names = names_of(scheme)
    random = np.random.default_rng(0)
    y = random.integers(0, len(names), (2, 30, 8))
    p = np.where(random.random(y.shape) < 0.6, y, random.integers(0, len(names), y.shape))
    if scheme == "IOB1":
        crf = kerasrnn.CRF(names, scheme)
        with op_by_op():
            y, p = (
                np.stack([crf.decode(10.0 * np.eye(len(names))[rows])[0] for rows in each])
                for each in (y, p)
            )
    valid = random.random(y.shape) < 0.8
    if scheme == "IOB1":
        valid[:] = True  # without a step, they may no longer be allowed
    valid[0, 0] = False
    weights = random.integers(0, 3, y.shape[:2]).astype("float32")
    metric = SpanF1(names, scheme)
    totals = {k: np.zeros(3) for k in metric.types}
    with op_by_op():
        for batch in zip(y, p, valid, weights, strict=True):
            a, b, used, of_rows = batch
            metric.update_state(np.where(used, a, -7), masked(np.where(used, b, 99), used), of_rows)
            for k, counts in counted(names, a, b, used, scheme, of_rows).items():
                totals[k] += counts
    assert all(counts.min() > 5 for counts in totals.values())
    assert float(metric.result()) == pytest.approx(f1(sum(totals.values())))
    for k, scores in metric.by_type().items():
        true, predicted, correct = totals[k]
        expected = (correct / predicted, correct / true, f1(totals[k]), true)
        assert scores == pytest.approx(expected)


def ids(names, *rows):
    return np.array([[names.index(tag) for tag in row.split()] for row in rows])


def test_the_numbers_of_seqeval():
    """Of seqeval 1.2.2 with mode="strict"; the first example is its own."""
    names = ["O", "B-MISC", "I-MISC", "B-PER", "I-PER"]
    y = ids(names, "O O O B-MISC I-MISC I-MISC O", "B-PER I-PER O O O O O")
    p = ids(names, "O O B-MISC I-MISC I-MISC I-MISC O", "B-PER I-PER O O O O O")
    with op_by_op():
        metric = SpanF1(names)
        metric.update_state(y, p)
        assert float(metric.result()) == 0.5
        assert metric.by_type() == {"MISC": (0, 0, 0, 1), "PER": (1, 1, 1, 1)}
        # I-PER begins no span, and ends the one before.
        metric.reset_state()
        y = ids(names, "B-MISC I-PER B-PER I-PER", "I-PER I-PER O B-PER")
        metric.update_state(y, ids(names, "B-MISC I-PER B-PER O", "I-PER I-PER O B-PER"))
        assert float(metric.result()) == pytest.approx(2 / 3)
        # B-PER is no span after O or MISC.
        metric = SpanF1(names, "IOB1")
        y = ids(names, "I-PER B-PER I-PER I-MISC B-PER", "O B-PER O I-MISC I-MISC")
        metric.update_state(y, ids(names, "I-PER B-PER O I-MISC O", "O O O I-MISC I-MISC"))
        assert metric.by_type() == {"MISC": (1, 1, 1, 2), "PER": (0.5, 0.5, 0.5, 2)}
        # Without an end, or interrupted, there is no span.
        names = ["O", "B", "I", "E", "S"]
        metric = SpanF1(names, "BIOES")
        y = ids(names, "B I O S", "B E B E", "B B E I")
        metric.update_state(y, ids(names, "B I E S", "B E B I", "O B E E"))
        assert float(metric.result()) == pytest.approx(6 / 8)
        assert metric.by_type() == {"": pytest.approx((0.75, 0.75, 0.75, 4))}


def test_without_spans_it_is_zero():
    metric = SpanF1(["O", "B", "I"])
    assert float(metric.result()) == 0
    with op_by_op():
        metric.update_state(np.zeros((2, 3), "int32"), np.zeros((2, 3), "int32"))
    assert float(metric.result()) == 0


def test_the_most_probable_sequence_of_a_crf_is_read(tmp_path):
    """The most probable tags of the steps are no spans."""
    names = ["O", "B", "I"]
    inputs = keras.Input((None, 3))
    model = keras.Model(inputs, kerasrnn.CRF(names, "BIO")(keras.layers.Masking()(inputs)))
    loss = kerasrnn.losses.CRFLoss()
    model.compile("sgd", loss, metrics=[SpanF1(names), "accuracy"], jit_compile=False)
    x = np.log(
        [[[0.672, 0.32, 1], [0.245, 0.235, 0.52], [1, 1, 1]], [[1, 9, 1], [1, 1, 9], [9, 1, 1]]]
    )
    x = x.astype("float32")
    y = np.array([[1, 2, 2], [1, 2, 0]])
    assert ops.convert_to_numpy(model(x)).argmax(axis=-1).tolist() == [[0, 0, 0], [1, 2, 0]]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert loaded.evaluate(x, y, verbose=0, return_dict=True)["span_f1"] == 1
    if keras.backend.backend() != "jax":  # Keras's `fit` loses what is attached there
        assert model.fit(x, y, verbose=0).history["span_f1"] == [1]


def test_scores_of_other_layers_are_read_where_they_are_highest():
    metric = SpanF1(["O", "B", "I"])
    p = np.array([[[0.1, 0.8, 0.1], [0.2, 0.1, 0.7], [0.9, 0.1, 0.0]]])
    with op_by_op():
        metric.update_state(np.array([[1, 2, 0]]), p)
    assert float(metric.result()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tags": ["O", "B", "B"]}, "names that differ, and mark spans"),
        ({"tags": ["O"]}, "names that differ, and mark spans"),
        ({"tags": ["O", "S-X"]}, r"tags\[1\]='S-X': expected 'O' or B, I before"),
        ({"tags": ["O", "B"], "scheme": "IOE"}, "scheme='IOE': expected 'BIO'"),
        ({"tags": [0, 1]}, r"tags\[0\]=0"),
        ({"tags": "OB"}, "tags='OB': expected a list"),
        ({"tags": 3}, "tags=3: expected a list"),
    ],
)
def test_constructor_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        SpanF1(**arguments)


def test_updates_are_refused():
    metric = SpanF1(["O", "B", "I"])
    y = np.zeros((2, 3), "int32")
    with pytest.raises(ValueError, match="y_true: expected numbers of tags, 0 to 2; found 3"):
        metric.update_state(y + 3, y)
    with pytest.raises(ValueError, match="y_pred: expected numbers of tags, 0 to 2; found -1"):
        metric.update_state(y, y - 1)
    with pytest.raises(ValueError, match=r"sample_weight of the shape \(2, 3\): expected the w"):
        metric.update_state(y, y, np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"sample_weight of the shape \(1,\): expected the w"):
        metric.update_state(y, y, np.ones(1))
    with pytest.raises(ValueError, match=r"y_pred of the shape \(2, 3, 4\): expected .*time, 3\)"):
        metric.update_state(y, np.ones((2, 3, 4)))
    with pytest.raises(ValueError, match=r"y_true of the shape \(2, 2\)"):
        metric.update_state(y[:, :2], y)
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        tf.function(metric.update_state)(tf.constant(y + 3), tf.constant(y))
        assert np.isnan(float(metric.result()))
