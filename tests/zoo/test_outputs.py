"""The outputs of the library, and custom outputs: losses, metrics, targets and decoding."""

from dataclasses import dataclass

import keras
import numpy as np
import pytest
from keras import ops

from kerasrnn import zoo
from tests import numpy_models
from tests.zoo.models import assert_exports, assert_saves

X = np.random.default_rng(0).normal(size=(4, 5, 3)).astype("float32")
X[1, 3:] = X[3, 1:] = 0  # padding
VALID = X.any(axis=-1)
LEVELS = (0.1, 0.5, 0.8)


def compiled(model):
    model.compile(keras.optimizers.SGD(0.1), jit_compile=False)
    return model


def loaded(model, folder):
    """The model, saved and loaded in safe mode."""
    model.save(folder / "model.keras")
    return keras.saving.load_model(folder / "model.keras", safe_mode=True)


# The outputs of the library.


@pytest.mark.parametrize(
    ("outputs", "loss", "decode"),
    [
        (zoo.Classes(3), "sparse_categorical_crossentropy", lambda p: p.argmax(axis=-1)),
        (zoo.MultiLabel(3), "binary_crossentropy", lambda p: p >= 0.5),
        (zoo.Values(3), "mean_squared_error", lambda p: p),
    ],
    ids=["classes", "multi_label", "values"],
)
def test_outputs_are_compiled_decoded_and_loaded(outputs, loss, decode, tmp_path):
    model = compiled(zoo.many_to_one(zoo.Vectors(3), outputs, "gru", 4))
    y = np.array([0, 2, 1, 1]) if isinstance(outputs, zoo.Classes) else (X[:, 0] > 0) * 1.0
    given = zoo.many_to_one(zoo.Vectors(3), outputs, "gru", 4)
    given.set_weights(model.get_weights())
    metrics = ["accuracy"] if isinstance(outputs, zoo.Classes) else []
    given.compile("sgd", loss, metrics=metrics, jit_compile=False)
    expected = given.evaluate(X, y, verbose=0)
    np.testing.assert_allclose(model.evaluate(X, y, verbose=0), expected, rtol=1e-5)
    again = loaded(model, tmp_path)
    assert again.output_type == outputs
    np.testing.assert_allclose(again.evaluate(X, y, verbose=0), expected, rtol=1e-5)
    answers = decode(np.asarray(model(X)))
    for found in (zoo.decoded(model), zoo.decoded(again)):
        np.testing.assert_array_equal(found.predict(X, verbose=0), answers)


def test_another_loss_has_no_metrics_of_the_output():
    model = zoo.many_to_one(zoo.Vectors(3), zoo.Classes(3), "gru", 4)
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    assert not model.has_loss_of_output
    assert isinstance(model.evaluate(X, [0, 1, 2, 0], verbose=0), float)


def test_clones_of_compiled_models_keep_the_output():
    model = compiled(zoo.many_to_one(zoo.Vectors(3), zoo.Values(1), "gru", 4))
    clone = keras.models.clone_model(model)
    assert clone.output_type == zoo.Values(1)
    assert clone.has_loss_of_output
    clone.set_weights(model.get_weights())
    y = np.arange(4.0)
    assert clone.evaluate(X, y, verbose=0) == pytest.approx(model.evaluate(X, y, verbose=0))


def test_decoded_steps_of_decoders():
    model = zoo.next_step(zoo.Classes(6), "gru", units=3)
    ids = np.array([[3, 1, 2], [2, 5, 1]])
    expected = np.asarray(model(ids)).argmax(axis=-1)
    np.testing.assert_array_equal(zoo.decoded(model).predict(ids, verbose=0), expected)


def test_decoded_steps_with_feedback():
    model = zoo.many_to_many(zoo.Vectors(3), zoo.MultiLabel(2), "gru", 4, feedback=True)
    expected = np.asarray(model(X)) >= 0.5
    np.testing.assert_array_equal(zoo.decoded(model).predict(X, verbose=0), expected)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_predicts_in_full_precision(policy):
    """In bfloat16 90,000 would be 89,600, and in float16 infinite."""
    keras.config.set_dtype_policy(policy)
    model = zoo.one_to_one(zoo.Vectors(1), zoo.Values(2), hidden=())
    model.layers[-1].set_weights([np.array([[30_000.0, 1.0]]), np.array([0.0, 0.001])])
    np.testing.assert_allclose(
        model.predict([[3.0], [1.0]], verbose=0), [[90_000, 3.001], [30_000, 1.001]], rtol=1e-6
    )
    writer = zoo.next_step(zoo.Classes(6), "gru", units=3)
    ids = np.array([[3], [2]])
    logits = np.asarray(writer.get_layer("decoder")(ids), "float64")
    expected = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    found = writer.predict(ids, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    step = zoo.encoder_and_step(writer).step
    (_, *states) = step.inputs
    first = step([ids[:, 0], *(np.zeros((2, *x.shape[1:])) for x in states)])[0]
    np.testing.assert_allclose(first, found[:, 0], rtol=1e-3)


# Quantiles: a loss that Keras lacks, and targets of another shape than the predictions.


@keras.saving.register_keras_serializable(package="tests")
class PinballLoss(keras.losses.Loss):
    def __init__(self, levels, name="pinball", **kwargs):
        super().__init__(name=name, **kwargs)
        self.levels = list(levels)

    def call(self, y_true, y_pred):
        error = ops.expand_dims(y_true, -1) - y_pred
        levels = ops.convert_to_tensor(self.levels, y_pred.dtype)
        return ops.mean(ops.maximum(levels * error, (levels - 1) * error), axis=-1)

    def get_config(self):
        return {**super().get_config(), "levels": self.levels}


@keras.saving.register_keras_serializable(package="tests")
@dataclass(frozen=True)
class Quantiles(zoo.Output):
    levels: tuple[float, ...]
    name = "quantiles"

    def layer(self, name=None):
        return keras.layers.Dense(len(self.levels), name=name or self.name)

    def loss(self, layer):
        return PinballLoss(self.levels)

    def target_shape(self, shape):
        return shape[:-1]

    def decode(self, predictions, layer, mask=None):
        return ops.sort(predictions, axis=-1)

    @classmethod
    def from_config(cls, config):
        return cls(tuple(config["levels"]))


def pinball(y, p):
    error = y[..., None] - p
    levels = np.array(LEVELS)
    return np.where(error > 0, levels * error, (levels - 1) * error).mean(axis=-1)


@pytest.mark.parametrize("topology", ["many_to_one", "many_to_many"])
def test_quantiles(topology, tmp_path):
    steps = topology == "many_to_many"
    model = getattr(zoo, topology)(zoo.Vectors(3), Quantiles(LEVELS), "gru", 4)
    assert model.output_names == ["quantiles"]
    compiled(model)
    y = np.random.default_rng(1).normal(size=(4, 5) if steps else 4)
    p = model.predict(X, verbose=0)
    losses, used = pinball(y, p), VALID if steps else slice(None)
    assert model.evaluate(X, y, verbose=0) == pytest.approx(losses[used].mean(), rel=1e-5)
    weights = np.array([1.0, 0.0, 3.0, 0.5])
    weighed = losses * (weights[:, None] if steps else weights)
    found = model.evaluate(X, y, verbose=0, sample_weight=weights)
    assert found == pytest.approx(weighed[used].mean(), rel=1e-5)
    for wrong in (np.stack([y] * 3, axis=-1), y[:, :2] if steps else np.stack([y] * 2, axis=-1)):
        with pytest.raises(ValueError, match=r"^y has "):
            model.fit(X, wrong, verbose=0)
    again = loaded(model, tmp_path)
    assert again.output_type == Quantiles(LEVELS)
    assert again.evaluate(X, y, verbose=0) == pytest.approx(losses[used].mean(), rel=1e-5)
    answers = zoo.decoded(again)
    assert answers.output_names == ["decoded"]
    np.testing.assert_allclose(answers.predict(X, verbose=0), np.sort(p, axis=-1), atol=1e-6)
    assert_saves(answers, X, tmp_path)


@pytest.mark.tensorflow
@pytest.mark.traced
def test_quantiles_are_exported(tmp_path):
    """Decoded, of two topologies, in one file."""
    one = zoo.many_to_one(zoo.Vectors(3), Quantiles(LEVELS), "simple_rnn", 4)
    many = zoo.many_to_many(zoo.Vectors(3), Quantiles(LEVELS), "simple_rnn", 4)
    (x,) = many.inputs
    model = keras.Model(x, {"one": zoo.decoded(one)(x), "many": zoo.decoded(many)(x)})
    assert_exports(model, [X, X[:1, :2]], tmp_path, (["sequence"], ["many", "one"]))


@pytest.mark.gradients
@pytest.mark.traced
def test_learning_the_quantiles_of_the_targets():
    x, y = np.ones((100, 1)), np.random.default_rng(0).uniform(size=100)
    model = zoo.one_to_one(zoo.Vectors(1), Quantiles(LEVELS), hidden=())
    model.compile(keras.optimizers.Adam(0.05), jit_compile=False)
    for _ in range(100):
        model.train_on_batch(x, y)
    expected = np.quantile(y, LEVELS)
    np.testing.assert_allclose(model.predict(x[:1], verbose=0)[0], expected, atol=0.03)


# A Gaussian with a learned standard deviation: a loss that reads a weight of the layer.


@keras.saving.register_keras_serializable(package="tests")
class DenseWithScale(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.mean = keras.layers.Dense(1, name="mean")

    def build(self, input_shape):
        self.mean.build(input_shape)
        self.log_scale = self.add_weight(shape=(), initializer="zeros", name="log_scale")

    def call(self, x):
        return self.mean(x)


class GaussianLoss(keras.losses.Loss):
    def __init__(self, layer):
        super().__init__(name="gaussian")
        self.layer = layer

    def call(self, y_true, y_pred):
        s = ops.convert_to_tensor(self.layer.log_scale)
        error = ops.squeeze(y_pred, -1) - y_true
        return ops.square(error) * ops.exp(-2 * s) / 2 + s


@keras.saving.register_keras_serializable(package="tests")
@dataclass(frozen=True)
class Gaussian(zoo.Output):
    name = "mean"

    def layer(self, name=None):
        return DenseWithScale(name=name or self.name)

    def loss(self, layer):
        return GaussianLoss(layer)

    def target_shape(self, shape):
        return shape[:-1]

    def decode(self, predictions, layer, mask=None):
        """The mean and the standard deviation."""
        scale = ops.exp(ops.convert_to_tensor(layer.log_scale))
        return ops.concatenate([predictions, ops.ones_like(predictions) * scale], axis=-1)


@pytest.mark.gradients
def test_a_loss_that_reads_weights_of_the_layer(tmp_path):
    model = compiled(zoo.many_to_many(zoo.Vectors(3), Gaussian(), "gru", 4))
    model.head.log_scale.assign(0.7)
    y = np.random.default_rng(1).normal(size=(4, 5))
    error = (model.predict(X, verbose=0)[..., 0] - y)[VALID]
    expected = (error**2 * np.exp(-1.4) / 2 + 0.7).mean()
    assert model.evaluate(X, y, verbose=0) == pytest.approx(expected, rel=1e-5)
    again = loaded(model, tmp_path)
    for each in (model, again):
        # The gradient with respect to s. A loaded loss reads the weight of the loaded layer.
        each.train_on_batch(X, y)
        gradient = (1 - error**2 * np.exp(-1.4)).mean()
        assert float(each.head.log_scale) == pytest.approx(0.7 - 0.1 * gradient, rel=1e-4)
    scale = zoo.decoded(again).predict(X, verbose=0)[..., 1]
    np.testing.assert_allclose(scale, np.exp(float(again.head.log_scale)), rtol=1e-5)


# The position of one step: a layer that needs the mask, and targets without steps.


@keras.saving.register_keras_serializable(package="tests")
class Pointer(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], 1), name="kernel")

    def call(self, x, mask=None):
        scores = ops.squeeze(ops.matmul(x, self.kernel), -1)
        return ops.softmax(scores if mask is None else ops.where(mask, scores, -1e9))


@keras.saving.register_keras_serializable(package="tests")
@dataclass(frozen=True)
class Position(zoo.Output):
    """One of the valid steps of each sequence."""

    name = "position"
    aligned = False

    def layer(self, name=None):
        return Pointer(name=name or self.name)

    def loss(self, layer):
        return PositionLoss()

    def target_shape(self, shape):
        return shape[:1]

    def decode(self, predictions, layer, mask=None):
        """The most probable step, and the number of valid steps, from the mask."""
        count = ops.sum(ops.cast(mask, "int32"), axis=1)
        return ops.stack([ops.argmax(predictions, axis=-1), count], axis=-1)


@keras.saving.register_keras_serializable(package="tests")
class PositionLoss(keras.losses.Loss):
    def __init__(self, name="position", **kwargs):
        super().__init__(name=name, **kwargs)

    def __call__(self, y_true, y_pred, sample_weight=None):
        # The losses have no steps, so Keras cannot apply the mask to them.
        ids = ops.cast(y_true, "int32")
        p = ops.take_along_axis(y_pred, ops.expand_dims(ids, -1), axis=-1)
        return -ops.mean(ops.log(p))


def test_a_layer_that_needs_the_mask(tmp_path):
    model = compiled(zoo.many_to_many(zoo.Vectors(3), Position(), "gru", 4))
    y = np.array([4, 2, 0, 0])
    h = model.get_layer("recurrent")
    steps, _, _ = numpy_models.run(h, X, VALID)
    scores = (steps @ numpy_models.weights_of(model.head)["kernel"])[..., 0]
    expected = numpy_models.softmax(np.where(VALID, scores, -np.inf))
    np.testing.assert_allclose(model.predict(X, verbose=0), expected, atol=1e-6)
    loss = -np.log(expected[np.arange(4), y]).mean()
    assert model.evaluate(X, y, verbose=0) == pytest.approx(loss, rel=1e-5)
    answers = np.stack([expected.argmax(axis=-1), VALID.sum(axis=1)], axis=-1)
    again = loaded(model, tmp_path)
    np.testing.assert_array_equal(zoo.decoded(again).predict(X, verbose=0), answers)


# Errors.


class Several(zoo.Output):
    """Not a dataclass, with a layer that is given."""

    def __init__(self, made=None):
        self.made = made

    def layer(self, name=None):
        return self.made

    def loss(self, layer):
        return "mse"


def two_tensors():
    x = keras.Input((4,))
    return keras.Model(x, [keras.layers.Dense(1)(x), keras.layers.Dense(2)(x)])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: zoo.Classes(True), "count=True: expected a positive integer"),
        (lambda: zoo.MultiLabel(-1), "count=-1: expected a positive integer"),
        (lambda: zoo.many_to_one(zoo.Tokens(9), 2), r"outputs=2: expected zoo\.Classes, MultiLab"),
        (
            lambda: zoo.next_step(Quantiles(LEVELS)),
            r"outputs=Quantiles.*: expected zoo\.Classes, MultiLabel, Values or Normal, or another",
        ),
        (
            lambda: zoo.many_to_many(zoo.Vectors(3), Quantiles(LEVELS), feedback=True),
            r"outputs=Quantiles.*: expected zoo\.Classes, MultiLabel or Values\.",
        ),
        (
            lambda: zoo.decoded(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])),
            "model='sequential.*': does not store how its output is decoded",
        ),
        (
            lambda: zoo.many_to_many(zoo.Tokens(9), Several(3), "gru", 4),
            r"outputs=.*Several.*: layer\(\) returned 3; expected a Keras layer\.",
        ),
        (
            lambda: zoo.many_to_one(zoo.Tokens(9), Several(two_tensors()), "gru", 4),
            r"outputs=.*: its layer returns a list of 2 tensors; expected one tensor\.",
        ),
    ],
    ids=["bool", "negative", "number", "generated", "feedback", "decoded", "no layer", "two"],
)
def test_invalid_outputs(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_an_output_that_is_no_dataclass_declares_its_arguments():
    with pytest.raises(NotImplementedError, match="Several is not a dataclass: expected its own"):
        Several().get_config()
