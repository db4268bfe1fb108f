"""Softmaxes over many classes, against NumPy, TensorFlow, PyTorch and the full softmax."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy.special import log_softmax

import kerasrnn
from kerasrnn.keras_internals import set_keras_mask
from tests.measure import op_by_op

pytestmark = pytest.mark.torch_backend

CLASSES, CUTOFFS, FEATURES = 30, [5, 12], 16
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(3, 4, FEATURES)).astype("float32")
IDS = np.array([[0, 4, 5, 11], [12, 29, 3, 20], [7, 2, 1, 0]])
MASK = np.array([[True] * 4, [True, True, False, True], [False] * 4])


def of_adaptive(weights, x):
    """Log-probabilities of all classes: the paper's equations."""
    head, *tails = weights
    of_head = log_softmax(x @ head, axis=-1)
    parts = [of_head[..., : CUTOFFS[0]]]
    for n in range(len(CUTOFFS)):
        within = log_softmax(x @ tails[2 * n] @ tails[2 * n + 1], axis=-1)
        parts.append(of_head[..., [CUTOFFS[0] + n]] + within)
    return np.concatenate(parts, axis=-1)


def adaptive():
    layer = kerasrnn.AdaptiveSoftmax(CLASSES, CUTOFFS, factor=2)
    layer.build(X.shape)
    layer.set_weights([RANDOM.normal(size=w.shape) for w in layer.weights])
    return layer


def sampled(**options):
    layer = kerasrnn.SampledSoftmax(CLASSES, **{"samples": 8, "seed": 1, **options})
    layer.build(X.shape)
    layer.set_weights([RANDOM.normal(size=w.shape) for w in layer.weights])
    return layer


def as_weights(layer):
    return [ops.convert_to_numpy(w).astype("float64") for w in layer.weights if w.trainable]


def of_all(layer):
    """Log-probabilities of all classes."""
    if isinstance(layer, kerasrnn.AdaptiveSoftmax):
        return of_adaptive(as_weights(layer), X)
    kernel, bias = as_weights(layer)
    return log_softmax(X @ kernel.T + bias, axis=-1)


def of_ids(log_p):
    return np.take_along_axis(log_p, IDS[..., None], axis=-1)[..., 0]


@pytest.mark.parametrize("layer", [adaptive(), sampled()], ids=["adaptive", "sampled"])
def test_probabilities_and_losses(layer):
    log_p = of_all(layer)
    with op_by_op():
        y = layer(X)
        found = kerasrnn.losses.SequenceCrossentropy()(IDS, y)
        of_padded = kerasrnn.losses.SequenceCrossentropy(ignore_class=0)(IDS, y)
        perplexity = kerasrnn.metrics.Perplexity()
        perplexity.update_state(IDS, y)
    np.testing.assert_allclose(ops.convert_to_numpy(y), np.exp(log_p), rtol=2e-5, atol=1e-7)
    expected = -of_ids(log_p)
    np.testing.assert_allclose(float(found), expected.mean(), rtol=1e-5)
    np.testing.assert_allclose(float(of_padded), expected[IDS != 0].mean(), rtol=1e-5)
    np.testing.assert_allclose(float(perplexity.result()), np.exp(expected.mean()), rtol=1e-5)


@pytest.mark.torch
def test_the_adaptive_softmax_is_that_of_pytorch():
    import torch

    layer = adaptive()
    module = torch.nn.AdaptiveLogSoftmaxWithLoss(FEATURES, CLASSES, CUTOFFS, div_value=2)
    head, *tails = as_weights(layer)
    linear = [module.head, *(part for tail in module.tail for part in tail)]
    with torch.no_grad():
        for part, weight in zip(linear, [head, *tails], strict=True):
            part.weight.copy_(torch.tensor(weight.T))
    flat = torch.tensor(X.reshape(-1, FEATURES))
    expected = module.log_prob(flat).detach().numpy().reshape(3, 4, CLASSES)
    with op_by_op():
        y = layer(X)
        loss = kerasrnn.losses.SequenceCrossentropy()(IDS, y)
    np.testing.assert_allclose(np.log(ops.convert_to_numpy(y)), expected, rtol=1e-5, atol=1e-5)
    of_module = module(flat, torch.tensor(IDS.ravel())).loss
    np.testing.assert_allclose(float(loss), float(of_module.detach()), rtol=1e-5)


def with_gradients(layer, loss):
    """A function of the features: the loss, and its gradients, also of the weights."""
    match keras.backend.backend():
        case "tensorflow":
            import tensorflow as tf

            def compute(x, compiled):
                @tf.function(jit_compile=compiled, autograph=False)
                def step(x):
                    with tf.GradientTape() as tape:
                        tape.watch(x)
                        value = loss(x)
                    return value, tape.gradient(
                        value, [x, *[w.value for w in layer.trainable_weights]]
                    )

                value, gradients = step(tf.constant(x))
                return value.numpy(), [tf.convert_to_tensor(g).numpy() for g in gradients]

        case "jax":
            import jax

            def compute(x, compiled):
                trainable = [w.value for w in layer.trainable_weights]
                fixed = [w.value for w in layer.non_trainable_variables]

                def of(x, weights):
                    pairs = zip(layer.trainable_weights, weights, strict=True)
                    others = zip(layer.non_trainable_variables, fixed, strict=True)
                    with keras.StatelessScope([*pairs, *others]):
                        return loss(x)

                step = jax.value_and_grad(of, (0, 1))
                value, (d_x, d_weights) = (jax.jit(step) if compiled else step)(x, trainable)
                return np.asarray(value), [np.asarray(g) for g in (d_x, *d_weights)]

        case _:

            def compute(x, compiled):
                tensor = ops.convert_to_tensor(x).requires_grad_()
                for w in layer.trainable_weights:
                    w.value.grad = None
                value = loss(tensor)
                value.backward()
                found = [tensor, *[w.value for w in layer.trainable_weights]]
                return value.detach().numpy(), [each.grad.numpy() for each in found]

    return compute


@pytest.mark.gradients
@pytest.mark.parametrize("compiled", [False, True], ids=["graph", "xla"])
def test_gradients_of_the_adaptive_softmax(compiled):
    """The same with the rows of each cluster and, under XLA, with all rows; NaN is masked."""
    layer = adaptive()

    def loss(x):
        set_keras_mask(x, ops.convert_to_tensor(MASK))
        y = layer(x)
        return kerasrnn.losses.SequenceCrossentropy()(IDS, y)

    x = np.where(MASK[..., None], X, np.nan)
    value, gradients = with_gradients(layer, loss)(x, compiled)
    weights = as_weights(layer)

    def total(x, *weights):
        return -of_ids(of_adaptive(weights, x))[MASK].mean()

    zeros = np.where(MASK[..., None], X, 0).astype("float64")
    np.testing.assert_allclose(value, total(zeros, *weights), rtol=1e-5)
    variables = [zeros, *weights]
    for n, (variable, gradient) in enumerate(zip(variables, gradients, strict=True)):
        direction = RANDOM.normal(size=variable.shape)
        step = 1e-5
        ends = []
        for sign in (1, -1):
            moved = list(variables)
            moved[n] = variable + sign * step * direction
            ends.append(total(*moved))
        slope = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose((gradient * direction).sum(), slope, rtol=2e-4, atol=1e-6)


FREQUENCIES = 1 / np.arange(1, CLASSES + 1)


@pytest.mark.parametrize("frequencies", [None, FREQUENCIES.tolist()], ids=["zipf", "given"])
def test_the_loss_of_samples(frequencies):
    """The equations in NumPy, with the samples that were drawn; accidental hits are left out."""
    layer = sampled(frequencies=frequencies)
    layer.draw = lambda: ops.convert_to_tensor(np.array([0, 5, 5, 29, 12], "int32"))
    layer.samples = 5
    with op_by_op():
        y = layer(X, training=True)
        found = kerasrnn.losses.SequenceCrossentropy()(IDS, y)
    kernel, bias = as_weights(layer)
    k = np.arange(CLASSES)
    q = np.log((k + 2) / (k + 1)) / np.log(CLASSES + 1)
    if frequencies is not None:
        q = FREQUENCIES / FREQUENCIES.sum()
    s = (X @ kernel.T + bias).reshape(-1, CLASSES)
    losses = []
    for row, y in zip(s, IDS.ravel(), strict=True):
        others = sum(np.exp(row[k]) / (5 * q[k]) for k in (0, 5, 5, 29, 12) if k != y)
        losses.append(np.log(np.exp(row[y]) + others) - row[y])
    np.testing.assert_allclose(float(found), np.mean(losses), rtol=1e-5)


@pytest.mark.tensorflow
def test_the_loss_of_samples_is_that_of_tensorflow():
    """With an expected count of 1 for the targets, which are not corrected here."""
    import tensorflow as tf

    layer = sampled(samples=7)
    drawn = np.array([0, 3, 4, 8, 29, 15, 6], "int32")
    layer.draw = lambda: ops.convert_to_tensor(drawn)
    y = layer(X, training=True)
    flat, ids = X.reshape(-1, FEATURES), IDS.reshape(-1, 1)
    log_expected = ops.convert_to_numpy(layer.log_expected(ops.convert_to_tensor(drawn)))
    expected = [np.ones(ids.shape), np.exp(log_expected)]
    losses = tf.nn.sampled_softmax_loss(
        *(w.astype("float32") for w in as_weights(layer)),
        ids,
        flat,
        7,
        CLASSES,
        sampled_values=(drawn.astype("int64"), *(tf.constant(e, "float32") for e in expected)),
    )
    found = kerasrnn.losses.SequenceCrossentropy()(IDS, y)
    np.testing.assert_allclose(float(found), losses.numpy().mean(), rtol=1e-5)


@pytest.mark.parametrize("frequencies", [None, FREQUENCIES.tolist()], ids=["zipf", "given"])
def test_samples_have_the_frequencies(frequencies):
    """Of 40,000 draws; a standard deviation is at most 0.0025."""
    layer = kerasrnn.SampledSoftmax(CLASSES, 40_000, frequencies, seed=3)
    drawn = ops.convert_to_numpy(layer.draw())
    k = np.arange(CLASSES)
    q = np.log((k + 2) / (k + 1)) / np.log(CLASSES + 1)
    if frequencies is not None:
        q = FREQUENCIES / FREQUENCIES.sum()
    found = np.bincount(drawn, minlength=CLASSES) / 40_000
    np.testing.assert_allclose(found, q, atol=0.01)
    log_expected = ops.convert_to_numpy(
        layer.log_expected(ops.convert_to_tensor(k.astype("int32")))
    )
    np.testing.assert_allclose(log_expected, np.log(40_000 * q), rtol=1e-5, atol=1e-5)


@pytest.mark.gradients
def test_many_samples_have_the_gradient_of_the_full_softmax():
    layer = sampled(samples=100_000)
    compute = with_gradients(
        layer, lambda x: kerasrnn.losses.SequenceCrossentropy()(IDS, layer(x, training=True))
    )
    exact = with_gradients(
        layer, lambda x: kerasrnn.losses.SequenceCrossentropy()(IDS, layer(x, training=False))
    )
    found, expected = compute(X, False)[1], exact(X, False)[1]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=0.03 * np.abs(b).max())


@pytest.mark.gradients
@pytest.mark.parametrize("head", ["adaptive", "sampled"])
def test_models_train_save_and_load(head, tmp_path):
    """Each word is followed by the same one. The samples of every step differ."""
    keras.utils.set_random_seed(0)
    words = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(CLASSES, 16, mask_zero=True)(words)
    layer = (
        kerasrnn.AdaptiveSoftmax(CLASSES, CUTOFFS, factor=2)
        if head == "adaptive"
        else kerasrnn.SampledSoftmax(CLASSES, 10, seed=0)
    )
    model = keras.Model(words, layer(x))
    loss = kerasrnn.losses.SequenceCrossentropy(ignore_class=0)
    metrics = [kerasrnn.metrics.Perplexity(ignore_class=0)]
    model.compile(keras.optimizers.Adam(0.05), loss, metrics=metrics, jit_compile=False)
    follower = np.concatenate([[0], 1 + np.random.default_rng(1).permutation(CLASSES - 1)])
    ids = np.random.default_rng(0).integers(0, CLASSES, (64, 8))
    model.train_on_batch(ids[:1] * 0 + 1, ids[:1] * 0 + 1)  # no target in any cluster
    model.fit(ids, follower[ids], batch_size=32, epochs=20, verbose=0)
    exact, perplexity = model.evaluate(ids, follower[ids], batch_size=64, verbose=0)
    assert exact < 0.5
    np.testing.assert_allclose(perplexity, np.exp(exact), rtol=1e-4)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    p = loaded.predict(ids, verbose=0)
    np.testing.assert_allclose(p, model.predict(ids, verbose=0), rtol=1e-6)
    chosen = -np.log(np.take_along_axis(p, follower[ids][..., None], axis=-1))[..., 0]
    np.testing.assert_allclose(exact, chosen[ids != 0].mean(), rtol=1e-4, atol=1e-6)


def test_frozen_layers():
    for layer in (adaptive(), sampled()):
        expected = np.exp(of_all(layer))
        layer.trainable = False
        with op_by_op():
            found = ops.convert_to_numpy(layer(X))
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-7)


def test_half_precision():
    """Products in half precision; probabilities and losses in single precision."""
    for layer in (adaptive(), sampled()):
        config = {**layer.get_config(), "dtype": "mixed_bfloat16"}
        half = type(layer).from_config(config)
        half.build(X.shape)
        half.set_weights(layer.get_weights())
        with op_by_op():
            y = half(X)
            found = kerasrnn.losses.SequenceCrossentropy()(IDS, y)
        assert keras.backend.standardize_dtype(y.dtype) == "float32"
        np.testing.assert_allclose(float(found), -of_ids(of_all(layer)).mean(), rtol=0.02)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kerasrnn.AdaptiveSoftmax(10, []), r"cutoffs=\[\]: expected increasing integers"),
        (lambda: kerasrnn.AdaptiveSoftmax(10, [5, 5]), r"cutoffs=\[5, 5\]: expected increasing"),
        (
            lambda: kerasrnn.AdaptiveSoftmax(10, [5, 10]),
            r"expected increasing integers from 1 to 9",
        ),
        (lambda: kerasrnn.AdaptiveSoftmax(10, [5])(np.ones((1, 2, 3))), "3 features, divided by"),
        (lambda: kerasrnn.SampledSoftmax(3, 0), "samples=0"),
        (lambda: kerasrnn.SampledSoftmax(3, 2, [1.0, 2.0]), "expected 3 positive numbers"),
        (lambda: kerasrnn.SampledSoftmax(3, 2, [1.0, 0.0, 1.0]), "from 0.0 to 1.0"),
        (lambda: kerasrnn.SampledSoftmax(2, 2, [1.0, np.inf]), "from 1.0 to inf"),
        (lambda: loss_of(label_smoothing=0.1), "label_smoothing=0.1: expected 0"),
        (lambda: loss_of(from_logits=True), "from_logits=True: expected False"),
        (lambda: loss_of(ids=30), "expected ids from 0 to 29; found 30"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def loss_of(ids=0, **options):
    with op_by_op():
        return kerasrnn.losses.SequenceCrossentropy(**options)(np.full((3, 4), ids), adaptive()(X))
