"""The transducer's loss, compared with the sum over all paths and with finite differences."""

import warnings

import keras
import numpy as np
import pytest
from keras import ops

from kerasrnn.losses import Transducer
from tests import numpy_models
from tests.catalogue import variant_id
from tests.losses import transducer_oracle
from tests.losses.test_crossentropy import masked
from tests.losses.test_ctc import gradient, labels_of

ROWS, FRAMES, CLASSES = 5, 4, 3
# Padding in the middle and negative ids, as many labels as columns, none, and more than frames.
TARGETS = np.array([[1, 1, 0, 2], [1, 0, -1, 2], [2, 1, 2, 2], [0, 0, 0, -1], [0, 2, 1, 2]])
MASK = np.array(
    [[1, 1, 1, 1], [0, 1, 0, 1], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]],
    bool,
)


def outputs(seed=0, rows=ROWS, frames=FRAMES, labels=4, classes=CLASSES):
    random = np.random.default_rng(seed)
    shape = (rows, frames, labels + 1, classes)
    return (2 * random.standard_normal(shape)).astype("float32")


def moves_of(logits, targets, blank=0):
    """The log-probabilities of the blank and of the next label; 9 where there is no label."""
    log_p = np.log(numpy_models.softmax(logits.astype("float64")))
    moves = np.full((*logits.shape[:3], 2), 9.0)
    moves[..., 0] = log_p[..., blank]
    for b, labels in enumerate(labels_of(targets, blank)):
        for u, label in enumerate(labels):
            moves[b, :, u, 1] = log_p[b, :, u, label]
    return moves


def expected(targets, logits, mask=None, blank=0, total=transducer_oracle.log_likelihood):
    """The loss of each row; masked frames do not exist."""
    moves, rows = moves_of(logits, targets, blank), []
    for b, labels in enumerate(labels_of(targets, blank)):
        frames = moves[b] if mask is None else moves[b][mask[b]]
        rows.append(-total(frames[..., 0], frames[..., 1], len(labels)))
    return np.array(rows)


@pytest.mark.torch_backend
@pytest.mark.parametrize("use_mask", [False, True])
def test_equals_the_sum_over_all_paths(use_mask):
    logits, mask = outputs(), MASK if use_mask else None
    rows = expected(TARGETS, logits, mask)
    assert np.isfinite(rows).all()
    given = {
        "logits": logits,
        "probabilities": numpy_models.softmax(logits),
        "moves": moves_of(logits, TARGETS).astype("float32"),
    }
    for predictions, y in given.items():
        loss = Transducer(predictions, reduction=None)
        np.testing.assert_allclose(loss(TARGETS, masked(y, mask)), rows, rtol=1e-5, atol=1e-6)
    weights = np.array([0.5, 0.0, 2.0, 1.0, 3.0], "float32")
    for reduction, total in {
        "sum": (rows * weights).sum(),
        "sum_over_batch_size": (rows * weights).mean(),
        "mean_with_sample_weight": (rows * weights).sum() / weights.sum(),
    }.items():
        loss = Transducer("logits", reduction=reduction)
        found = loss(TARGETS, masked(logits, mask), sample_weight=weights)
        np.testing.assert_allclose(found, total, rtol=1e-5, err_msg=reduction)


def test_another_blank():
    logits = outputs(1)
    targets = np.array([[0, 0, 2, 1], [0, 2, 1, 2], [1, 0, 1, -1], [2, 2, 2, 2], [1, 2, 2, 2]])
    loss = Transducer("logits", blank=2, reduction=None)
    np.testing.assert_allclose(loss(targets, logits), expected(targets, logits, blank=2), rtol=1e-5)


@pytest.mark.torch_backend
@pytest.mark.gradients
@pytest.mark.parametrize("predictions", ["logits", "moves"])
def test_the_gradient_equals_finite_differences(predictions):
    """In float64; with weights, a mask, and NaN where nothing is used."""
    logits = outputs(3).astype("float64")
    weights = np.array([1.0, 0.5, 2.0, 1.0, 0.0])
    loss = Transducer(predictions, reduction="sum")
    lengths = np.array([len(labels) for labels in labels_of(TARGETS)])
    used = MASK[:, :, None] & (np.arange(5) <= lengths[:, None])[:, None]
    x = logits if predictions == "logits" else moves_of(logits, TARGETS)

    def total(x):
        if predictions == "logits":
            rows = expected(TARGETS, x, MASK)
        else:
            rows = [
                -transducer_oracle.log_likelihood(y[m][..., 0], y[m][..., 1], n)
                for y, m, n in zip(x, MASK, lengths, strict=True)
            ]
        return (rows * weights)[weights > 0].sum()

    wrong = np.where(used[..., None], x, np.nan).astype("float32")
    found = gradient(lambda x: loss(TARGETS, masked(x, MASK), sample_weight=weights), wrong)
    assert (found[~used] == 0).all()
    random = np.random.default_rng(0)
    for _ in range(6):
        direction = random.standard_normal(x.shape) * used[..., None]
        step = 1e-5 * direction
        slope = (total(x + step) - total(x - step)) / 2e-5
        np.testing.assert_allclose((found * direction).sum(), slope, rtol=2e-5, atol=2e-5)


def long_batch():
    """Larger than can be enumerated, of different lengths."""
    random = np.random.default_rng(4)
    frames, lengths = np.array([40, 33, 25, 12]), np.array([9, 12, 1, 0])
    targets = random.integers(1, 7, (4, 12)) * (np.arange(12) < lengths[:, None])
    return targets, outputs(5, 4, 40, 12, 7), np.arange(40) < frames[:, None]


@pytest.mark.tensorflow
def test_in_a_graph_of_unknown_sizes_and_in_half_precision():
    """Like the recursion node by node, also if XLA compiles it; sums are in float32."""
    import tensorflow as tf

    targets, logits, mask = long_batch()
    rows = expected(targets, logits, mask, total=transducer_oracle.recursion)
    loss = Transducer("logits")
    np.testing.assert_allclose(loss(targets, masked(logits, mask)), rows.mean(), rtol=1e-6)
    slope = gradient(lambda x: loss(targets, masked(x, mask)), logits)
    signature = [
        tf.TensorSpec((None, None), tf.int32),
        tf.TensorSpec((None, None, None, 7)),
        tf.TensorSpec((None, None), tf.bool),
    ]

    def value_and_gradient(y, x, mask):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = loss(y, masked(x, mask))
        return value, tape.gradient(value, x)

    for jit_compile in (False, True):
        compute = tf.function(
            value_and_gradient,
            autograph=False,
            jit_compile=jit_compile,
            input_signature=signature,
        )
        value, found = compute(tf.constant(targets, tf.int32), logits, mask)
        np.testing.assert_allclose(value, rows.mean(), rtol=1e-6)
        np.testing.assert_allclose(found, slope, atol=5e-6)
    for dtype in ("float16", "bfloat16"):
        rounded = tf.cast(logits, dtype)
        found = loss(targets, masked(rounded, mask))
        assert found.dtype == "float32"
        exact = expected(
            targets,
            tf.cast(rounded, "float32").numpy(),
            mask,
            total=transducer_oracle.recursion,
        )
        np.testing.assert_allclose(found, exact.mean(), rtol=1e-6)


@pytest.mark.torch_backend
@pytest.mark.gradients
def test_rows_without_frames_have_a_warning_and_no_gradient():
    logits = outputs(6, 3)
    mask = MASK[[0, 3, 3]]  # the last two have no frames; the last one has no labels either
    targets = np.array([[1, 2, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]])
    loss = Transducer("logits", reduction=None)
    named = r"Transducer: 1 row of the batch .* masked: row 1, \[1, 1\]\. The loss is infinite"
    with pytest.warns(UserWarning, match=named):
        found = ops.convert_to_numpy(loss(targets, masked(logits, mask)))
    np.testing.assert_allclose(found, expected(targets, logits, mask), rtol=1e-5)
    assert np.isinf(found).tolist() == [False, True, False]
    zero = Transducer("logits", impossible="zero", reduction=None)
    np.testing.assert_allclose(zero(targets, masked(logits, mask)), [found[0], 0, 0], rtol=1e-6)
    for impossible in ("warn", "zero"):
        loss = Transducer("logits", impossible=impossible, reduction="sum")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore" if impossible == "warn" else "error", "Transducer")
            slope = gradient(lambda x, loss=loss: loss(targets, masked(x, mask)), logits)
        assert (slope[1:] == 0).all()
        assert np.abs(slope[0]).max() > 0.1
    # A weight of 0 excludes a row, without a warning.
    weighted = Transducer("logits")(targets, masked(logits, mask), np.array([1.0, 0.0, 1.0]))
    np.testing.assert_allclose(weighted, found[0] / 3, rtol=1e-6)


@pytest.mark.torch_backend
@pytest.mark.gradients
def test_classes_without_probability():
    """Logits of minus infinity exclude a class: of a target that has it, the loss is infinite."""
    logits = outputs(9, 2, labels=2)
    logits[..., 2] = -np.inf
    targets = np.array([[1, 1], [1, 2]])
    found = ops.convert_to_numpy(Transducer("logits", reduction=None)(targets, logits))
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(found, expected(targets, logits), rtol=1e-5)
    assert np.isinf(found).tolist() == [False, True]
    slope = gradient(lambda x: Transducer("logits", reduction="sum")(targets, x), logits)
    alone = gradient(lambda x: Transducer("logits")(targets[:1], x), logits[:1])
    np.testing.assert_allclose(slope, [alone[0], np.zeros_like(alone[0])], atol=1e-6)


def test_its_configuration():
    options = {
        "predictions": "logits",
        "blank": 2,
        "impossible": "zero",
        "reduction": "sum",
        "name": "x",
    }
    again = keras.losses.deserialize(keras.losses.serialize(Transducer(**options)))
    assert isinstance(again, Transducer)
    assert again.get_config() == options


P = np.full((2, 4, 3, 3), 1 / 3, "float32")
Y = np.ones((2, 2), "int32")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Transducer("scores"), "predictions='scores': expected"),
        (lambda: Transducer(blank=-1), "blank=-1: expected an integer of at least 0"),
        (lambda: Transducer(impossible="error"), "impossible='error': expected 'warn' or 'zero'"),
        (lambda: Transducer()(Y, P), r"'moves': y_pred of the shape \(2, 4, 3, 3\): expected"),
        (lambda: Transducer("logits")(Y, P[0]), r"y_pred of the shape \(4, 3, 3\): expected"),
        (lambda: Transducer("logits", 3)(Y, P), "blank=3: expected a class of y_pred, 0 to 2"),
        (lambda: Transducer("logits")(Y[:, :1], P), r"expected \(batch, time, 2, \.\.\.\)"),
        (lambda: Transducer("logits")(Y[0], P), r"y_true of the shape \(2,\): expected ids"),
        (lambda: Transducer("logits")(Y + 2, P - 1), "expected ids from 0 to 2, .*; found 3"),
        (lambda: Transducer()(Y, P[..., :2] + 1), "expected the log-probabilities .* sum to"),
        (lambda: Transducer("probabilities")(Y, P - 1), "For logits, set predictions='logits'"),
        (
            lambda: Transducer("logits")(Y, P),
            r"expected logits; .* Set predictions='prob",
        ),
        (
            lambda: Transducer("probabilities")(Y, P, np.ones((2, 4))),
            r"sample_weight of the shape \(2, 4\): expected the",
        ),
        (
            lambda: Transducer("logits")(Y, masked(P - 1, np.ones((2, 5), bool))),
            r"mask of the shape \(2, 5\): expected \(batch, time\)",
        ),
    ],
    ids=variant_id,
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.tensorflow
def test_in_a_graph_bad_values_give_nan():
    import tensorflow as tf

    moves = np.log(np.full((2, 4, 3, 2), 0.4, "float32"))
    moves[1, 2, 1, 0] = 0.5
    compute = tf.function(Transducer(reduction=None), autograph=False)
    found = compute(tf.constant(Y), tf.constant(moves)).numpy()
    assert np.isnan(found).tolist() == [False, True]
    compute = tf.function(Transducer("probabilities", reduction=None), autograph=False)
    found = compute(tf.constant([[1, 5], [1, 2]]), tf.constant(P)).numpy()
    assert np.isnan(found).tolist() == [True, False]
