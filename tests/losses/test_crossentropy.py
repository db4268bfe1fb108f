"""The sequence cross-entropy, compared with its equations, Keras's, and finite differences."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasrnn.keras_internals import set_keras_mask
from kerasrnn.losses import SequenceCrossentropy, sequence_crossentropy
from kerasrnn.metrics import Perplexity
from tests import numpy_models
from tests.catalogue import variant_id
from tests.losses import oracle

# Most tests are of logits, padded with 0.
OF_LOGITS = {"from_logits": True, "ignore_class": 0}

ROWS, TIME, CLASSES = 4, 4, 6  # equal, so that a confusion of rows and steps raises no error

OPTIONS = [
    {},
    {"label_smoothing": 0.2},
    {"label_smoothing": 0.2, "ignore_class": None},
    {"label_smoothing": 0.3, "average": "sequence"},
    {"average": "sequence", "ignore_class": 2},
    {"label_smoothing": 0.1, "ignore_class": -1},
]


def batch(seed=0, padding=0, dtype="float32"):
    """Ids with gaps of padding and one empty row, and logits."""
    random = np.random.default_rng(seed)
    y = random.integers(0, CLASSES, (ROWS, TIME))
    if padding is not None:
        y = np.where(random.random(y.shape) < 0.3, padding, y)
        y[2] = padding
    return y, 2 * random.standard_normal((ROWS, TIME, CLASSES)).astype(dtype)


def masked(logits, mask):
    """Predictions with the mask of a layer."""
    tensor = ops.convert_to_tensor(logits)
    if mask is not None:
        set_keras_mask(tensor, ops.convert_to_tensor(mask))
    return tensor


def weights_of(kind):
    random = np.random.default_rng(5)
    tokens = random.random((ROWS, TIME)).astype("float32") * (random.random((ROWS, TIME)) < 0.7)
    rows = np.array([0.5, 2.0, 1.0, 3.0], "float32")
    return {"none": None, "rows": rows, "column": rows[:, None], "tokens": tokens}[kind]


@pytest.mark.parametrize("options", OPTIONS, ids=variant_id)
def test_equals_its_equations(options):
    padding = options.get("ignore_class", 0)
    y, logits = batch(padding=padding)
    loss = SequenceCrossentropy(**OF_LOGITS | options)
    p = numpy_models.softmax(logits.astype("float64"))
    settings = {
        "smoothing": options.get("label_smoothing", 0.0),
        "average": options.get("average", "token"),
        "padding": padding,
    }
    some = np.random.default_rng(3).random((ROWS, TIME)) < 0.6
    for mask in (None, some):
        for kind in ("none", "rows", "column", "tokens"):
            weights = weights_of(kind)
            expected = oracle.loss(y, p, **settings, mask=mask, weights=weights)
            actual = loss(y, masked(logits, mask), sample_weight=weights)
            np.testing.assert_allclose(actual, expected, rtol=2e-6, err_msg=kind)
            # The denominator, with which the losses of parts add up to that of the whole.
            counts = loss.denominator(y, masked(logits, mask), weights)
            rows = list(oracle.counted(y, padding, mask, weights))
            tokens = sum(weight for *_, places in rows for weight, _ in places)
            of_rows = sum(of_row for _, of_row, _ in rows)
            divisor = tokens if settings["average"] == "token" else of_rows
            np.testing.assert_allclose(counts, divisor, rtol=1e-6, err_msg=kind)
    # Probabilities, and targets with an axis of size 1, as Keras accepts them.
    loss = SequenceCrossentropy(**{"ignore_class": 0} | options)
    np.testing.assert_allclose(loss(y[..., None], p), oracle.loss(y, p, **settings), rtol=2e-6)


@pytest.mark.tensorflow
def test_the_logits_of_a_softmax_are_used():
    """Probabilities cannot represent a loss of 200 nats: exp(-200) is 0 in float32."""
    import tensorflow as tf

    logits, y = tf.constant([[[200.0, 0.0, 0.0]]]), np.array([[1]])
    loss = SequenceCrossentropy()

    def run(activation):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(y, activation(logits))
        return value, tape.gradient(value, logits)

    # Keras's softmax attaches its logits in eager calls, too.
    for call in (run, tf.function(run, autograph=False)):
        value, gradient = call(keras.activations.softmax)
        np.testing.assert_allclose(value, 200.0)
        np.testing.assert_allclose(gradient, [[[1.0, -1.0, 0.0]]], atol=1e-6)
    np.testing.assert_allclose(tf.function(run, autograph=False)(tf.nn.softmax)[0], 200.0)
    # Without the logits, or if the last operation is no softmax, p is at least epsilon.
    raised = -np.log(keras.config.epsilon())
    np.testing.assert_allclose(run(tf.nn.softmax)[0], raised, rtol=1e-5)
    times_one = tf.function(run, autograph=False)
    found, _ = times_one(lambda x: 1.0 * keras.activations.softmax(x))
    np.testing.assert_allclose(found, raised, rtol=1e-5)


def test_the_worked_example():
    """K = 4, epsilon = 0.3: q' is 0.8 for class 2, 0.1 for 1 and 3, 0 for padding."""
    p = np.array([[[0.1, 0.2, 0.4, 0.3], [0.25, 0.25, 0.25, 0.25]]])
    loss = SequenceCrossentropy(label_smoothing=0.3, ignore_class=0)
    expected = -(0.8 * np.log(0.4) + 0.1 * np.log(0.2) + 0.1 * np.log(0.3))
    np.testing.assert_allclose(loss(np.array([[2, 0]]), p), expected, rtol=1e-6)


@pytest.mark.torch_backend
def test_equals_keras_where_they_coincide():
    """Keras divides by the sum of the weights on request."""
    y, logits = batch(padding=None)
    mask = np.random.default_rng(1).random((ROWS, TIME)) < 0.7
    theirs = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )
    ours = SequenceCrossentropy(from_logits=True)
    for weights in (None, weights_of("tokens")):
        a, b = (loss(y, masked(logits, mask), sample_weight=weights) for loss in (ours, theirs))
        np.testing.assert_allclose(a, b, rtol=1e-6)
    smoothed = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2)
    ours = SequenceCrossentropy(label_smoothing=0.2, from_logits=True)
    np.testing.assert_allclose(
        ours(y, logits), smoothed(np.eye(CLASSES)[y], ops.convert_to_tensor(logits)), rtol=1e-6
    )


@pytest.mark.parametrize("average", ["token", "sequence"])
def test_excluded_tokens_have_no_effect(average):
    """Padding, masks and weights of 0 are equivalent; the values there do not matter."""
    y, logits = batch(padding=None)
    y = np.maximum(y, 1)
    used = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]], bool)
    loss = SequenceCrossentropy(label_smoothing=0.1, average=average, **OF_LOGITS)
    padded = float(loss(np.where(used, y, 0), logits))
    elsewhere = np.where(used[..., None], logits, np.nan).astype("float32")
    for again in (
        loss(y, masked(elsewhere, used)),
        loss(y, elsewhere, sample_weight=used.astype("float32")),
        loss(
            np.pad(np.where(used, y, 0), ((0, 3), (0, 2))), np.pad(logits, [(0, 3), (0, 2), (0, 0)])
        ),
    ):
        np.testing.assert_allclose(again, padded, rtol=1e-6)
    assert float(loss(np.zeros_like(y), logits)) == 0
    assert float(loss(y[:0], logits[:0])) == 0  # an empty batch


def test_each_token():
    y, logits = batch()
    p = numpy_models.softmax(logits.astype("float64"))
    losses = np.asarray(sequence_crossentropy(y, logits, 0.2, **OF_LOGITS))
    for b, t in np.ndindex(y.shape):
        expected = oracle.token_loss(y[b, t], p[b, t], 0.2, 0) if y[b, t] else 0.0
        np.testing.assert_allclose(losses[b, t], expected, rtol=2e-6)


def test_a_class_with_probability_zero():
    """For padding the loss is finite, smoothed or not; for a target it is infinite."""
    y, logits = batch()
    logits[..., 0] = -np.inf
    for smoothing in (0.0, 0.2):
        loss = SequenceCrossentropy(label_smoothing=smoothing, **OF_LOGITS)
        p = numpy_models.softmax(logits.astype("float64"))
        np.testing.assert_allclose(loss(y, logits), oracle.loss(y, p, smoothing), rtol=2e-6)
        assert np.all(np.isfinite(gradient(loss, y, logits)))
    assert SequenceCrossentropy(from_logits=True)(y * 0, logits) == np.inf


def compiled(function):
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=True, autograph=False)
    import jax

    return jax.jit(function)


def test_a_target_that_is_no_class_is_an_error():
    y, logits = batch()
    for wrong in (-1, CLASSES):
        y[0, 0] = wrong
        loss = SequenceCrossentropy(**OF_LOGITS)
        with pytest.raises(ValueError, match=f"y_true: expected ids from 0 to 5; found {wrong}"):
            loss(y, logits)
        assert np.isnan(compiled(loss)(ops.convert_to_tensor(y), ops.convert_to_tensor(logits)))
        assert np.isfinite(SequenceCrossentropy(from_logits=True, ignore_class=wrong)(y, logits))


@pytest.mark.parametrize("wrong", [2**32 + 1, 0.5])
def test_in_a_graph_a_target_that_is_no_int32_gives_nan(wrong):
    if keras.config.backend() == "jax" and isinstance(wrong, int):
        pytest.skip("JAX has no 64 bits")
    y, logits = batch()
    y = y.astype("float64" if isinstance(wrong, float) else "int64")
    loss = SequenceCrossentropy(**OF_LOGITS)
    y, logits = ops.convert_to_tensor(y), ops.convert_to_tensor(logits)
    assert np.isfinite(compiled(loss)(y, logits))
    y = ops.convert_to_tensor(np.where(np.arange(y.shape[1]) == 0, wrong, ops.convert_to_numpy(y)))
    assert np.isnan(compiled(loss)(y, logits))


@pytest.mark.torch_backend
def test_zero_is_a_class_by_default():
    """Such as the first tag of a tagger."""
    p = np.array([[[0.8, 0.2], [0.1, 0.9]]], "float32")
    y = np.array([[0, 1]])
    np.testing.assert_allclose(SequenceCrossentropy()(y, p), -np.log(0.8 * 0.9) / 2, rtol=1e-6)
    np.testing.assert_allclose(SequenceCrossentropy(ignore_class=0)(y, p), -np.log(0.9), rtol=1e-6)
    # Keras's mask excludes a step in either case.
    first = masked(p, np.array([[True, False]]))
    np.testing.assert_allclose(SequenceCrossentropy()(y, first), -np.log(0.8), rtol=1e-6)


@pytest.mark.parametrize(
    ("from_logits", "predicted", "message"),
    [
        (False, lambda z, p: z, "from_logits=False: .* found the value -"),
        (False, lambda z, p: np.abs(z), "from_logits=False: .* found the sum"),
        (False, lambda z, p: 1.02 * p, r"from_logits=False: .* found the sum 1\.02"),
        (True, lambda z, p: p, "from_logits=True: expected logits; y_pred contains probabilities"),
    ],
    ids=["logits", "positive", "scaled", "probabilities"],
)
def test_predictions_that_contradict_the_setting(from_logits, predicted, message):
    y, logits = batch()
    p = numpy_models.softmax(logits.astype("float64")).astype("float32")
    wrong = predicted(logits, p).astype("float32")
    options = {"from_logits": from_logits, "ignore_class": 0}
    for call in (
        SequenceCrossentropy(**options),
        Perplexity(**options).update_state,
        lambda y, p: sequence_crossentropy(y, p, **options),
    ):
        with pytest.raises(ValueError, match=message):
            call(y, wrong)
    # In a graph, where values are unknown, the loss is NaN.
    loss = SequenceCrossentropy(**options)
    if not from_logits:
        assert np.isnan(compiled(loss)(ops.convert_to_tensor(y), ops.convert_to_tensor(wrong)))
    # Excluded tokens are not checked, and half precision is close enough.
    right = np.where((y != 0)[..., None], logits if from_logits else p, wrong)
    for dtype in ("float32", "bfloat16"):
        assert np.isfinite(loss(y, ops.cast(right, dtype)))


@pytest.mark.torch_backend
@pytest.mark.gradients
def test_fit_reports_the_value_of_a_call():
    """Although Keras first calls the loss on ones, to infer shapes."""
    random = np.random.default_rng(0)
    x, y = random.standard_normal((4, 3, 2)).astype("float32"), random.integers(0, 4, (4, 3))
    model = keras.Sequential([keras.Input((3, 2)), keras.layers.Dense(4, activation="softmax")])
    p = numpy_models.softmax((x @ ops.convert_to_numpy(model.weights[0])).astype("float64"))
    expected = oracle.loss(y, p)
    model.compile("sgd", SequenceCrossentropy(ignore_class=0), metrics=[Perplexity(ignore_class=0)])
    history = model.fit(x, y, epochs=1, verbose=0).history
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(history["perplexity"], np.exp(expected), rtol=1e-5)


@pytest.mark.tensorflow
@pytest.mark.parametrize("jit_compile", [False, True])
def test_fit_refuses_the_wrong_kind_of_output(jit_compile):
    """By the operation of the output, since no value is known before a step runs."""
    x, y = np.ones((2, 3, 2), "float32"), np.ones((2, 3), "int32")
    for activation, from_logits, message in (
        ("softmax", True, "from_logits=True: expected logits; y_pred is the output of a softmax"),
        (None, False, "from_logits=False: .* output of a layer without an activation"),
    ):
        model = keras.Sequential(
            [keras.Input((3, 2)), keras.layers.Dense(4, activation=activation)]
        )
        model.compile("sgd", SequenceCrossentropy(from_logits=from_logits), jit_compile=jit_compile)
        with pytest.raises(ValueError, match=message):
            model.train_on_batch(x, y)
        model.compile("sgd", SequenceCrossentropy(from_logits=not from_logits))
        assert np.isfinite(model.train_on_batch(x, y))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_only_the_logits_are_in_half_precision(dtype):
    """Thousands of classes, with ids that are equal in half precision."""
    random = np.random.default_rng(0)
    y = np.array([[2049, 2051, 0], [257, 2999, 2053]])
    logits = ops.cast(random.standard_normal((2, 3, 3000)).astype("float32"), dtype)
    rounded = ops.convert_to_numpy(ops.cast(logits, "float32")).astype("float64")
    expected = oracle.loss(y, numpy_models.softmax(rounded), 0.1)
    loss = SequenceCrossentropy(label_smoothing=0.1, **OF_LOGITS)(y, logits)
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def gradient(loss, y, logits, weights=None):
    """In the compiled graph of a training step."""
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        @tf.function(jit_compile=True, autograph=False)
        def differentiate(logits):
            with tf.GradientTape() as tape:
                tape.watch(logits)
                value = loss(y, logits, sample_weight=weights)
            return tape.gradient(value, logits)

        return differentiate(tf.constant(logits)).numpy()
    import jax

    return np.asarray(jax.jit(jax.grad(lambda z: loss(y, z, sample_weight=weights)))(logits))


@pytest.mark.parametrize("options", [OPTIONS[1], OPTIONS[3]], ids=variant_id)
def test_gradient_by_finite_differences(options):
    """The oracle's, in float64."""
    y, logits = batch()
    weights = weights_of("tokens")
    smoothing, average = options["label_smoothing"], options.get("average", "token")

    def at(z):
        return oracle.loss(y, numpy_models.softmax(z), smoothing, average, weights=weights)

    expected, step = np.zeros(logits.shape), 1e-5
    for place in np.ndindex(logits.shape):
        z = logits.astype("float64")
        z[place] += step
        up = at(z)
        z[place] -= 2 * step
        expected[place] = (up - at(z)) / (2 * step)
    loss = SequenceCrossentropy(**OF_LOGITS | options)
    np.testing.assert_allclose(gradient(loss, y, logits, weights), expected, atol=1e-6)
    # NaN at excluded tokens affects no gradient, neither of logits nor of probabilities.
    used = (y != 0) & (weights != 0)
    spoilt = np.where(used[..., None], logits, np.nan).astype("float32")
    actual = gradient(loss, y, spoilt, weights)
    np.testing.assert_allclose(actual, np.where(used[..., None], expected, 0), atol=1e-6)
    loss = SequenceCrossentropy(**{"ignore_class": 0} | options)
    of_p = gradient(loss, y, numpy_models.softmax(spoilt), weights)
    assert np.isfinite(of_p).all()
    assert not of_p[~used].any()
    assert of_p[used].any(axis=-1).all()


def test_configuration():
    loss = SequenceCrossentropy(0.1, "sequence", True, -1, name="mine")
    config = keras.saving.serialize_keras_object(loss)
    assert config["registered_name"] == "kerasrnn>SequenceCrossentropy"
    again = keras.saving.deserialize_keras_object(config)
    assert again.get_config() == loss.get_config()
    np.testing.assert_array_equal(again(*batch()), loss(*batch()))


LOGITS = np.zeros((2, 3, 5), "float32")
IDS = np.ones((2, 3), "int64")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SequenceCrossentropy(1.0), r"label_smoothing=1\.0: expected a number in \[0, 1\)"),
        (lambda: SequenceCrossentropy("x"), "label_smoothing='x': expected a number"),
        (
            lambda: SequenceCrossentropy(average="row"),
            "average='row': expected 'token' or 'sequence'",
        ),
        (lambda: SequenceCrossentropy(ignore_class=0.5), r"ignore_class=0\.5: expected an integer"),
        (lambda: SequenceCrossentropy(from_logits=0), "from_logits=0: expected True or False"),
        (
            lambda: SequenceCrossentropy(from_logits=True)(IDS / 2, LOGITS),
            r"y_true\[0, 0\]=0\.5: expected an integer from -2147483648 to 2147483647",
        ),
        (
            lambda: SequenceCrossentropy(from_logits=True)(IDS + 2**32, LOGITS),
            r"y_true\[0, 0\]=4294967297: expected an integer from -2147483648",
        ),
        (
            lambda: SequenceCrossentropy(from_logits=True)(IDS, LOGITS, IDS * np.nan),
            "sample_weight: expected finite numbers; found nan",
        ),
        (lambda: SequenceCrossentropy()(IDS, IDS), r"y_pred of the shape \(2, 3\): expected"),
        (lambda: SequenceCrossentropy()(IDS[:, :2], LOGITS), r"y_true of the shape \(2, 2\)"),
        (lambda: SequenceCrossentropy()(LOGITS, LOGITS), r"y_true of the shape \(2, 3, 5\)"),
        (
            lambda: SequenceCrossentropy()(IDS, LOGITS, sample_weight=np.ones(3)),
            r"sample_weight of the shape \(3,\): expected the weights of rows",
        ),
        (
            lambda: SequenceCrossentropy()(IDS, LOGITS, sample_weight=np.ones((2, 2))),
            r"sample_weight of the shape \(2, 2\): expected the weights of rows",
        ),
        (
            lambda: SequenceCrossentropy()(IDS, masked(LOGITS, np.ones((2, 4), bool))),
            r"mask of the shape \(2, 4\): expected that of the targets, \(2, 3\)",
        ),
    ],
    ids=variant_id,
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
