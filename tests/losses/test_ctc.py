"""CTC, compared with the sum over all paths, with TensorFlow's, PyTorch's, finite differences."""

import warnings

import keras
import numpy as np
import pytest
from keras import ops

import kerasrnn
from kerasrnn.losses import CTC
from tests import numpy_models
from tests.catalogue import variant_id
from tests.losses import ctc_oracle
from tests.losses.test_crossentropy import masked
from tests.measure import WITHOUT_XLA, op_by_op

BACKEND = keras.config.backend()
ROWS, FRAMES, CLASSES = 5, 6, 3
# Repeats, padding in the middle and negative ids, as many labels as fit, none, and one.
TARGETS = np.array([[1, 1, 0, 2], [1, 0, -1, 2], [2, 1, 2, 2], [0, 0, 0, -1], [0, 2, 0, 0]])
MASK = np.array(
    [
        [1, 1, 1, 1, 1, 1],
        [0, 1, 0, 1, 1, 0],  # gaps
        [1, 1, 1, 0, 1, 1],
        [0, 0, 0, 0, 0, 0],
        [1, 0, 0, 0, 0, 0],
    ],
    bool,
)


def outputs(seed=0, rows=ROWS, frames=FRAMES, classes=CLASSES, dtype="float32"):
    random = np.random.default_rng(seed)
    return (2 * random.standard_normal((rows, frames, classes))).astype(dtype)


def labels_of(targets, blank=0):
    return [tuple(int(k) for k in row if k >= 0 and k != blank) for row in targets]


def expected(targets, logits, mask=None, blank=0):
    """The loss of each row, by enumeration; masked frames do not exist."""
    p = numpy_models.softmax(logits.astype("float64"))
    rows = []
    for b, labels in enumerate(labels_of(targets, blank)):
        frames = p[b] if mask is None else p[b][mask[b]]
        found = ctc_oracle.enumerate_labels(frames, blank)
        rows.append(-np.log(found[labels]) if labels in found else np.inf)
    return np.array(rows)


def gradient(function, x):
    """Of a scalar with respect to its argument."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        x = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = function(x)
        return tape.gradient(value, x).numpy()
    if BACKEND == "jax":
        import jax

        return np.asarray(jax.grad(function)(x))
    x = ops.convert_to_tensor(x).requires_grad_()
    function(x).backward()
    return ops.convert_to_numpy(x.grad)


@pytest.mark.torch_backend
@pytest.mark.parametrize("use_mask", [False, True])
def test_equals_the_sum_over_all_paths(use_mask):
    logits, mask = outputs(), MASK if use_mask else None
    rows = expected(TARGETS, logits, mask)
    assert np.isfinite(rows).all()
    of_logits = CTC(from_logits=True, reduction=None)
    np.testing.assert_allclose(of_logits(TARGETS, masked(logits, mask)), rows, rtol=1e-5, atol=1e-6)
    p = numpy_models.softmax(logits)
    np.testing.assert_allclose(
        CTC(reduction="none")(TARGETS, masked(p, mask)), rows, rtol=1e-5, atol=1e-6
    )
    weights = np.array([0.5, 0.0, 2.0, 1.0, 3.0], "float32")
    for reduction, total in {
        "sum": (rows * weights).sum(),
        "sum_over_batch_size": (rows * weights).mean(),
        "mean": (rows * weights).mean(),
        "mean_with_sample_weight": (rows * weights).sum() / weights.sum(),
    }.items():
        loss = CTC(from_logits=True, reduction=reduction)
        for given in (weights, weights[:, None]):
            found = loss(TARGETS, masked(logits, mask), sample_weight=given)
            np.testing.assert_allclose(found, total, rtol=1e-5, err_msg=reduction)


def test_another_blank():
    """The last class, as TensorFlow's `ctc_loss` has it, which also pads the targets."""
    logits = outputs(1)
    targets = np.array([[0, 0, 2, 1], [0, 2, 1, 2], [1, 0, 1, -1], [2, 2, 2, 2], [1, 2, 2, 2]])
    loss = CTC(blank=2, from_logits=True, reduction=None)
    np.testing.assert_allclose(loss(targets, logits), expected(targets, logits, blank=2), rtol=1e-5)


@pytest.mark.torch_backend
@pytest.mark.gradients
def test_masked_frames_have_no_influence():
    """Even NaN; and the gradient is that of the frames without them."""
    logits = outputs(2)
    loss = CTC(from_logits=True, reduction="sum")
    wrong = np.where(MASK[..., None], logits, np.nan).astype("float32")
    found = gradient(lambda x: loss(TARGETS, masked(x, MASK)), wrong)
    assert (found[~MASK] == 0).all()
    for b in (1, 4):  # gaps, and a single frame
        alone = gradient(lambda x, b=b: loss(TARGETS[b : b + 1], x), logits[b : b + 1, MASK[b]])
        np.testing.assert_allclose(found[b][MASK[b]], alone[0], atol=1e-6)


@pytest.mark.torch_backend
@pytest.mark.gradients
def test_the_gradient_equals_finite_differences():
    """Of the sum over all paths, in float64, with respect to logits; with weights and a mask."""
    logits = outputs(3).astype("float64")
    weights = np.array([1.0, 0.5, 2.0, 1.0, 0.0])
    loss = CTC(from_logits=True, reduction="sum")

    def total(x):
        return (expected(TARGETS, x, MASK) * weights)[weights > 0].sum()

    found = gradient(
        lambda x: loss(TARGETS, masked(x, MASK), sample_weight=weights), logits.astype("float32")
    )
    random = np.random.default_rng(0)
    for _ in range(6):
        direction = random.standard_normal(logits.shape)
        step = 1e-5 * direction
        slope = (total(logits + step) - total(logits - step)) / 2e-5
        np.testing.assert_allclose((found * direction).sum(), slope, rtol=2e-5, atol=2e-5)


def long_batch(dtype="float32"):
    """Longer than can be enumerated, of different lengths."""
    random = np.random.default_rng(4)
    frames, lengths = np.array([40, 33, 25, 12]), np.array([9, 10, 1, 0])
    logits = outputs(5, 4, 40, 7, dtype)
    targets = random.integers(1, 7, (4, 10)) * (np.arange(10) < lengths[:, None])
    return targets, logits, np.arange(40) < frames[:, None], frames, lengths


@pytest.mark.traced
@pytest.mark.tensorflow
def test_equals_that_of_tensorflow():
    import tensorflow as tf

    targets, logits, mask, frames, lengths = long_batch()

    def theirs(x):
        rows = tf.nn.ctc_loss(targets, x, lengths, frames, logits_time_major=False, blank_index=0)
        return tf.reduce_sum(rows)

    def ours(x):
        return CTC(from_logits=True, reduction="sum")(targets, masked(x, mask))

    np.testing.assert_allclose(ours(logits), theirs(tf.constant(logits)), rtol=1e-6)
    np.testing.assert_allclose(gradient(ours, logits), gradient(theirs, logits), atol=2e-5)
    # In half precision, the sums are those of the rounded outputs in float32.
    for dtype in ("float16", "bfloat16"):
        rounded = tf.cast(logits, dtype)
        found = ours(rounded)
        assert found.dtype == "float32"
        np.testing.assert_allclose(found, theirs(tf.cast(rounded, "float32")), rtol=1e-6)


@pytest.mark.traced
@pytest.mark.tensorflow
@pytest.mark.parametrize("jit_compile", [False, True])
def test_in_a_graph_of_unknown_sizes(jit_compile):
    """Like the eager call, which has values to check; also if XLA compiles it."""
    import tensorflow as tf

    targets, logits, mask, *_ = long_batch()
    loss = CTC(from_logits=True)
    signature = [
        tf.TensorSpec((None, None), tf.int32),
        tf.TensorSpec((None, None, 7)),
        tf.TensorSpec((None, None), tf.bool),
    ]

    @tf.function(autograph=False, jit_compile=jit_compile, input_signature=signature)
    def value_and_gradient(y, x, mask):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = loss(y, masked(x, mask))
        return value, tape.gradient(value, x)

    value, slope = value_and_gradient(tf.constant(targets, tf.int32), logits, mask)
    np.testing.assert_allclose(value, loss(targets, masked(logits, mask)), rtol=1e-6)
    expected_slope = gradient(lambda x: loss(targets, masked(x, mask)), logits)
    np.testing.assert_allclose(slope, expected_slope, atol=1e-6)


@pytest.mark.torch
def test_equals_that_of_pytorch():
    import torch

    targets, logits, mask, frames, lengths = long_batch()
    x = torch.tensor(logits, requires_grad=True)
    rows = torch.nn.functional.ctc_loss(
        x.log_softmax(-1).transpose(0, 1),
        torch.tensor(targets),
        torch.tensor(frames),
        torch.tensor(lengths),
        reduction="none",
    )
    rows.sum().backward()
    loss = CTC(from_logits=True, reduction=None)
    np.testing.assert_allclose(
        loss(targets, masked(logits, mask)), rows.detach().numpy(), rtol=1e-5
    )
    total = CTC(from_logits=True, reduction="sum")
    found = gradient(lambda x: total(targets, masked(x, mask)), logits)
    np.testing.assert_allclose(found, x.grad.numpy(), atol=2e-5)


# Targets that their frames cannot write: two repeats need a blank, and three labels three frames.
IMPOSSIBLE = np.array([[1, 2, 0], [1, 1, 0], [1, 2, 1]])
NAMED = r"2 targets of the batch .* row 1, \[1, 1\], needs 3 frames and has 2; row 2, \[1, 2, 1\],"


@pytest.mark.torch_backend
@pytest.mark.gradients
def test_impossible_targets_have_a_warning_and_no_gradient():
    logits = outputs(6, 3, 2)
    loss = CTC(from_logits=True, reduction=None)
    with pytest.warns(UserWarning, match=NAMED):
        found = np.asarray(ops.convert_to_numpy(loss(IMPOSSIBLE, logits)))
    np.testing.assert_allclose(found, expected(IMPOSSIBLE, logits), rtol=1e-5)
    assert np.isinf(found).tolist() == [False, True, True]
    zero = CTC(from_logits=True, impossible="zero", reduction=None)
    np.testing.assert_allclose(zero(IMPOSSIBLE, logits), [found[0], 0, 0], rtol=1e-6)
    for impossible in ("warn", "zero"):
        loss = CTC(from_logits=True, impossible=impossible, reduction="sum")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore" if impossible == "warn" else "error", "CTC")
            slope = gradient(lambda x, loss=loss: loss(IMPOSSIBLE, x), logits)
        assert (slope[1:] == 0).all()
        assert np.abs(slope[0]).max() > 0.1
    # A weight of 0 excludes a row, without a warning.
    loss = CTC(from_logits=True)
    weights = np.array([1.0, 0.0, 0.0], "float32")
    np.testing.assert_allclose(loss(IMPOSSIBLE, logits, weights), found[0] / 3, rtol=1e-6)
    # Masked frames cannot write.
    with pytest.warns(UserWarning, match=r"row 0, \[1, 2\], needs 2 frames and has 1\. Its loss"):
        loss(np.array([[1, 2]]), masked(logits[:1], np.array([[False, True]])))


@pytest.mark.torch_backend
@pytest.mark.gradients
def test_classes_without_probability():
    """Logits of minus infinity exclude a class: of a target that has it, the loss is infinite."""
    logits = outputs(9, 2, 4)
    logits[:, :, 2] = -np.inf
    targets = np.array([[1, 1], [1, 2]])
    rows = CTC(from_logits=True, reduction=None)
    found = ops.convert_to_numpy(rows(targets, logits))
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(found, expected(targets, logits), rtol=1e-5)
    assert np.isinf(found).tolist() == [False, True]
    slope = gradient(lambda x: CTC(from_logits=True, reduction="sum")(targets, x), logits)
    alone = gradient(lambda x: CTC(from_logits=True)(targets[:1], x), logits[:1])
    np.testing.assert_allclose(slope, [alone[0], np.zeros_like(alone[0])], atol=1e-6)


@pytest.mark.traced
def test_compiled_code_warns_where_it_can():
    """A TensorFlow graph and `jax.jit`; what XLA compiles on TensorFlow is infinite, no more."""
    if BACKEND == "torch":
        pytest.skip("Nothing is compiled there.")
    logits = ops.convert_to_tensor(outputs(6, 3, 2))
    loss = CTC(from_logits=True)
    if BACKEND == "jax":
        import jax

        def run():
            return jax.block_until_ready(jax.jit(loss)(IMPOSSIBLE, logits)), jax.effects_barrier()
    else:
        import tensorflow as tf

        def run():
            return tf.function(loss, autograph=False)(tf.constant(IMPOSSIBLE), logits), None

        compiled = tf.function(loss, autograph=False, jit_compile=True)
        assert np.isposinf(compiled(tf.constant(IMPOSSIBLE), logits))
    with pytest.warns(UserWarning, match=NAMED):
        value, _ = run()
    assert np.isposinf(value)


@pytest.mark.traced
@pytest.mark.gradients
@pytest.mark.torch_backend
def test_a_model_trains_with_its_mask_and_is_loaded(tmp_path):
    """In `fit`, half of the frames masked: the loss reported is that of the definition."""
    x = outputs(7, ROWS, FRAMES, 4)
    x[~MASK] = 0
    model = keras.Sequential(
        [
            keras.Input((FRAMES, 4)),
            keras.layers.Masking(),
            keras.layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.2), CTC(), jit_compile=WITHOUT_XLA)
    with op_by_op():
        before = model.evaluate(x, TARGETS, verbose=0)
    p = ops.convert_to_numpy(model(x))
    np.testing.assert_allclose(before, expected(TARGETS, np.log(p), MASK).mean(), rtol=1e-4)
    model.fit(x, TARGETS, epochs=20, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    with op_by_op():
        after = model.evaluate(x, TARGETS, verbose=0)
        assert after < 0.9 * before
        assert again.evaluate(x, TARGETS, verbose=0) == pytest.approx(after, rel=1e-5)


def test_its_configuration():
    options = {
        "blank": 2,
        "from_logits": True,
        "impossible": "zero",
        "reduction": "sum",
        "name": "x",
    }
    again = keras.losses.deserialize(keras.losses.serialize(CTC(**options)))
    assert isinstance(again, CTC)
    assert again.get_config() == options


def test_the_denominators_of_parts_add_up():
    logits, weights = outputs(8), np.array([1.0, 2.0, 0.5, 0.0, 1.0], "float32")
    for reduction in ("sum_over_batch_size", "mean_with_sample_weight"):
        loss = CTC(from_logits=True, reduction=reduction)
        whole = loss(TARGETS, logits, weights)
        parts = [slice(0, 2), slice(2, 5)]
        sums = [
            loss(TARGETS[k], logits[k], weights[k])
            * loss.denominator(TARGETS[k], logits[k], weights[k])
            for k in parts
        ]
        number = sum(loss.denominator(TARGETS[k], logits[k], weights[k]) for k in parts)
        np.testing.assert_allclose(sum(sums) / number, whole, rtol=1e-6)
    with pytest.raises(ValueError, match="reduction='sum': expected 'sum_over_batch_size' or"):
        CTC(reduction="sum").denominator(TARGETS, logits)


P = np.full((2, 4, 3), 1 / 3, "float32")
Y = np.ones((2, 2), "int32")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CTC(blank=-1), "blank=-1: expected an integer of at least 0"),
        (lambda: CTC(impossible="error"), "impossible='error': expected 'warn' or 'zero'"),
        (lambda: CTC(reduction="max"), "reduction='max': expected"),
        (lambda: CTC(blank=3)(Y, P), r"blank=3: expected a class of y_pred, 0 to 2"),
        (lambda: CTC()(Y, P[0]), r"y_pred of the shape \(4, 3\): expected \(batch, time, classes"),
        (lambda: CTC()(Y[0], P), r"y_true of the shape \(2,\): expected ids \(batch, labels\)"),
        (lambda: CTC()(Y[:1], P), r"y_true of the shape \(1, 2\): expected ids"),
        (lambda: CTC()(Y + 2, P), "y_true: expected ids from 0 to 2, .*; found 3"),
        (lambda: CTC()(Y + 0.5, P), r"y_true\[0, 0\]=1\.5: expected an integer"),
        (
            lambda: CTC()(Y, P, np.ones((2, 4))),
            r"sample_weight of the shape \(2, 4\): expected the",
        ),
        (lambda: CTC()(Y, P, np.ones(3)), r"sample_weight of the shape \(3,\): expected the"),
        (lambda: CTC()(Y, 2 * P), "from_logits=False: expected non-negative probabilities"),
        (lambda: CTC(from_logits=True)(Y, P), "from_logits=True: expected logits"),
        (
            lambda: CTC()(Y, masked(P, np.ones((2, 5), bool))),
            r"mask of the shape \(2, 5\): expected \(batch, time\)",
        ),
    ],
    ids=variant_id,
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.traced
@pytest.mark.tensorflow
def test_in_a_graph_bad_values_give_nan():
    import tensorflow as tf

    compute = tf.function(CTC(reduction=None), autograph=False)
    y = tf.constant([[1, 5], [1, 2], [1, 2]])
    p = tf.constant(np.stack([P[0], P[0] * [[2], [1], [1], [1]], P[0]]).astype("float32"))
    found = compute(y, p).numpy()
    assert np.isnan(found).tolist() == [True, True, False]
    assert kerasrnn.losses.CTC is CTC


@pytest.mark.tensorflow
def test_ragged_targets_are_refused():
    import tensorflow as tf

    ragged = tf.ragged.constant([[1, 2], [1]])
    with pytest.raises(ValueError, match=r"y_true is a RaggedTensor: expected a dense array\. Pad"):
        CTC()(ragged, np.full((2, 4, 3), 1 / 3, "float32"))
