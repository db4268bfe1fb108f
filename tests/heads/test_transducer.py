"""The layer `kerasrnn.Transducer`, compared with NumPy, and trained in `fit`."""

import keras
import numpy as np
import pytest
from keras import ops

import kerasrnn
from tests.catalogue import variant_id
from tests.heads import transducer_oracle
from tests.losses import transducer_oracle as paths
from tests.losses.test_ctc import labels_of
from tests.measure import op_by_op, randomize

ROWS, FRAMES, FEATURES, CLASSES = 4, 4, 3, 4
# Padding in the middle and negative ids, as many as columns, none, and another length.
TARGETS = np.array([[1, 0, -1, 3], [3, 1, 2, 2], [0, 0, 0, 0], [2, 2, 0, 0]])
MASK = np.array([[1, 1, 1, 1], [0, 1, 0, 1], [1, 1, 0, 0], [1, 0, 1, 1]], bool)
X = np.random.default_rng(5).standard_normal((ROWS, FRAMES, FEATURES)).astype("float32")


def head_of(**options):
    """A built layer with random weights."""
    layers = [kerasrnn.SimpleRNN(4)]
    head = kerasrnn.Transducer(CLASSES, layers, units=5, embedding_units=3, **options)
    head.build((None, None, FEATURES), (None, None))
    randomize(head)
    return head


def losses_of(w, x, mask=MASK):
    """The loss of each row, from the definitions."""
    rows = []
    for frames, valid, labels in zip(x, mask, labels_of(TARGETS), strict=True):
        moves = transducer_oracle.moves(w, frames[valid].astype("float64"), labels)
        rows.append(-paths.log_likelihood(*moves, len(labels)))
    return np.array(rows)


@pytest.mark.torch_backend
def test_the_moves_are_those_of_the_equations():
    """Also in half precision; masked frames may be NaN."""
    head = head_of()
    w = transducer_oracle.Weights.of(head)
    wrong = np.where(MASK[..., None], X, np.nan)
    with op_by_op():
        found = ops.convert_to_numpy(head(wrong, TARGETS, mask=MASK))
        classes = ops.convert_to_numpy(head.log_probabilities(X, TARGETS))
        half = head_of(dtype="mixed_bfloat16")(X, TARGETS)
        losses = kerasrnn.losses.Transducer(reduction=None)(TARGETS, head(wrong, TARGETS, MASK))
    assert keras.backend.standardize_dtype(half.dtype) == "float32"
    for b, labels in enumerate(labels_of(TARGETS)):
        n = len(labels)
        lattice = transducer_oracle.lattice(w, X[b], labels)
        np.testing.assert_allclose(classes[b, :, : n + 1], lattice, atol=1e-5)
        blank, label = transducer_oracle.moves(w, X[b], labels)
        used = MASK[b]
        np.testing.assert_allclose(found[b, used, : n + 1, 0], blank[used], atol=1e-5)
        np.testing.assert_allclose(found[b, used, :n, 1], label[used, :n], atol=1e-5)
        np.testing.assert_allclose(half[b, :, :n, 1], label[:, :n], atol=0.1)
    np.testing.assert_allclose(losses, losses_of(w, X), rtol=1e-5)


def model_of(head, jit_compile=False):
    x = keras.Input((None, FEATURES), name="x")
    labels = keras.Input((None,), dtype="int32", name="labels")
    model = keras.Model([x, labels], head(keras.layers.Masking()(x), labels))
    loss = kerasrnn.losses.Transducer()
    model.compile(keras.optimizers.SGD(1.0), loss, jit_compile=jit_compile)
    return model


@pytest.mark.torch_backend
@pytest.mark.gradients
def test_a_step_of_fit_follows_finite_differences(tmp_path):
    """Of the sum over all paths, with respect to all weights; in a loaded model."""
    head, x = head_of(), np.where(MASK[..., None], X, 0)
    model = model_of(head)
    model.save(tmp_path / "model.keras")
    model = keras.saving.load_model(tmp_path / "model.keras")
    head = model.layers[-1]
    w = transducer_oracle.Weights.of(head)
    before = losses_of(w, x).mean()
    assert model.evaluate([x, TARGETS], TARGETS, verbose=0) == pytest.approx(before, rel=1e-5)
    model.fit([x, TARGETS], TARGETS, batch_size=ROWS, verbose=0)
    change = [a - b for a, b in zip(transducer_oracle.Weights.of(head), w, strict=True)]
    random = np.random.default_rng(0)
    for n, d in enumerate(change):
        direction = random.standard_normal(d.shape)
        slope = 0
        for sign in (1, -1):
            moved = list(w)
            moved[n] = w[n] + sign * 1e-5 * direction
            slope += sign * losses_of(transducer_oracle.Weights(*moved), x).mean() / 2e-5
        assert -(d * direction).sum() == pytest.approx(slope, rel=1e-3, abs=1e-5), w._fields[n]


@pytest.mark.tensorflow
@pytest.mark.gradients
def test_the_gradient_of_the_frames_under_xla():
    """The same with and without XLA, and like that of the written-out joiner."""
    import tensorflow as tf

    head = head_of()
    loss = kerasrnn.losses.Transducer()
    written_out = kerasrnn.losses.Transducer("logits")

    def of_moves(x):
        return loss(TARGETS, head(x, TARGETS, mask=MASK))

    def of_classes(x):
        y = head.log_probabilities(x, TARGETS)
        y._keras_mask = tf.constant(MASK)
        return written_out(TARGETS, y)

    def gradient(function, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = function(x)
        return tape.gradient(value, x)

    expected = gradient(of_classes, tf.constant(X))
    for jit_compile in (False, True):
        compute = tf.function(
            lambda x: gradient(of_moves, x), autograph=False, jit_compile=jit_compile
        )
        np.testing.assert_allclose(compute(tf.constant(X)), expected, atol=1e-6)


def test_its_configuration():
    head = head_of(dropout=0.2, seed=3)
    again = kerasrnn.Transducer.from_config(head.get_config())
    assert again.get_config() == head.get_config()
    again.build((None, None, FEATURES), (None, None))
    again.set_weights(head.get_weights())
    np.testing.assert_array_equal(again(X, TARGETS), head(X, TARGETS))
    dropped = ops.convert_to_numpy(head(X, TARGETS, training=True))
    assert np.abs(dropped - ops.convert_to_numpy(head(X, TARGETS))).max() > 0.01


LAYERS = [kerasrnn.GRU(2)]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kerasrnn.Transducer(1, LAYERS), "classes=1: expected an integer of at least 2"),
        (lambda: kerasrnn.Transducer(3, []), r"layers=\[\]: expected at least one layer"),
        (lambda: kerasrnn.Transducer(3, LAYERS, dropout=1), "dropout=1: expected"),
        (
            lambda: kerasrnn.Transducer(3, [kerasrnn.Bidirectional(kerasrnn.GRU(2))]),
            "expected unidirectional recurrent layers",
        ),
        (lambda: head_of()(X, TARGETS + 1), "labels: expected ids from 0 to 3; found 4"),
        (lambda: head_of()(X, TARGETS[:1]), r"labels of the shape \(1, 4\): expected ids"),
        (lambda: head_of()(X, TARGETS, mask=MASK[:, :2]), r"mask has the shape \(4, 2\)"),
        (lambda: head_of()(X[:, :0], TARGETS), "encoded of shape .* have no steps"),
        (
            lambda: head_of()(keras.Input((None,)), keras.Input((None,))),
            r"encoded of the shape \(None, None\) and labels",
        ),
    ],
    ids=variant_id,
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
