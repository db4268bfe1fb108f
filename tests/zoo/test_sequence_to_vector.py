"""`many_to_one`: its values in NumPy, its options, training, exports, errors."""

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn import zoo
from tests import numpy_models
from tests.catalogue import PROBES, ROWS, variant_id
from tests.zoo.models import assert_exports, assert_saves, learn

LENGTHS = (6, 4, 6, 0)


def padded():
    """The last row is fully masked."""
    x = np.random.default_rng(0).standard_normal((len(LENGTHS), 6, 4)).astype("float32")
    for row, length in zip(x, LENGTHS, strict=True):
        row[length:] = 0
    return x


def pooled(model, pooling, h, mask):
    """Row by row, over the valid steps."""
    rows = []
    for steps in (row[used] for row, used in zip(h, mask, strict=True)):
        if not len(steps):
            rows.append(np.zeros(h.shape[-1]))
        elif pooling == "attention":
            weights = numpy_models.weights_of(model.get_layer("pooling"))
            u = np.tanh(steps @ weights["kernel"] + weights["bias"])
            rows.append(numpy_models.softmax((u @ weights["context"])[:, 0]) @ steps)
        else:
            rows.append(getattr(steps, pooling)(axis=0))
    return np.stack(rows)


def expected_of(model, outputs, pooling, x, mask):
    h, last, _ = numpy_models.run(model.get_layer("recurrent"), x, mask)
    vector = last if pooling == "last" else pooled(model, pooling, h, mask)
    return numpy_models.ACTIVATIONS[outputs.kind](numpy_models.dense(model.layers[-1], vector))


@pytest.mark.parametrize("row", PROBES, ids=variant_id)
def test_cells_of_every_kind(row):
    """Standardized inputs, the last valid state and a softmax, in NumPy."""
    mean, deviation = np.array([0.5, 0.0, -1.0, 2.0]), np.array([1.0, 2.0, 0.5, 4.0])
    inputs, outputs = zoo.Vectors(4, mean, deviation), zoo.Classes(3)
    model = zoo.many_to_one(inputs, outputs, cell=row.cell, units=5)
    x = padded()
    expected = expected_of(model, outputs, "last", (x - mean) / deviation, x.any(axis=-1))
    np.testing.assert_allclose(model(x), expected, atol=1e-5)


DEEP, BOTH = {"depth": 2, "residual": True}, {"bidirectional": True}


@pytest.mark.parametrize(
    ("pooling", "options", "outputs"),
    [
        ("last", DEEP, zoo.Values(2)),
        ("last", {**BOTH, "depth": 2}, zoo.Classes(2)),
        ("mean", DEEP, zoo.MultiLabel(2)),
        ("mean", BOTH, zoo.Values(2)),
        ("max", BOTH, zoo.Classes(2)),
        ("attention", {**DEEP, **BOTH}, zoo.MultiLabel(2)),
        ("attention", {}, zoo.Values(2)),
    ],
    ids=variant_id,
)
def test_modes(pooling, options, outputs, tmp_path):
    """All ways of pooling, of deep and bidirectional models."""
    model = zoo.many_to_one(
        zoo.Vectors(4), outputs, "gru", 5, pooling=pooling, dropout=0.4, **options
    )
    x = padded()
    y = model(x)
    mask = x.any(axis=-1)
    if options.get("residual") and pooling == "last":
        x, y, mask = x[:1], y[:1], None
    expected = expected_of(model, outputs, pooling, x, mask)
    np.testing.assert_allclose(y, expected, atol=1e-5)
    assert_saves(model, x, tmp_path)


def test_padding_does_not_change_the_output():
    model = zoo.many_to_one(
        zoo.Vectors(4), zoo.Classes(3), "gru", 5, depth=3, residual=True, pooling="last"
    )
    x = padded()
    y = model(x)
    np.testing.assert_allclose(model(x[1:2, :4]), y[1:2], atol=1e-6)


def test_tokens():
    model = zoo.many_to_one(zoo.Tokens(9, 3), zoo.Classes(3), "lstm", 5, pooling="attention")
    ids = np.array([[3, 8, 1, 3], [5, 1, 0, 0]])
    (table,) = model.get_layer("embedding").get_weights()
    expected = expected_of(model, zoo.Classes(3), "attention", table[ids], ids != 0)
    np.testing.assert_allclose(model(ids), expected, atol=1e-6)


def test_videos(tmp_path):
    inputs, outputs = zoo.Images((4, 4, 1), (2,), 3), zoo.Values(2)
    model = zoo.many_to_one(inputs, outputs, "gru", 5, pooling="mean")
    x = np.random.default_rng(0).integers(1, 256, (2, 3, 4, 4, 1)).astype("float32")
    x[1, 2:] = 0
    frames = numpy_models.convolutional_encoder(
        model.get_layer("each_frame").layer, x.reshape(6, 4, 4, 1)
    )
    mask = np.array([[True] * 3, [True, True, False]])
    expected = expected_of(model, outputs, "mean", frames.reshape(2, 3, 3), mask)
    y = model(x)
    np.testing.assert_allclose(y, expected, atol=1e-5)
    assert_saves(model, x, tmp_path)


@pytest.mark.traced
def test_learning_the_first_vector():
    """The class depends on the first step alone."""
    random = np.random.default_rng(0)
    x = random.standard_normal((128, 6, 2)).astype("float32")
    model = zoo.many_to_one(zoo.Vectors(2), zoo.Classes(2), "gru", 16, jit_compile=False)
    assert learn(model, x, (x[:, 0, 0] > 0).astype("int32"), steps=60, rate=0.03) < 0.15


@pytest.mark.tensorflow
@pytest.mark.traced
def test_exports(tmp_path):
    model = zoo.many_to_one(zoo.Vectors(4), zoo.Classes(3), "simple_rnn", 5, pooling="attention")
    check = [padded()[:3], padded()[:1, :3]]
    assert_exports(model, check, tmp_path, (["sequence"], ["probabilities"]))


def test_the_global_seed_determines_the_weights():
    weights = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        model = zoo.many_to_one(zoo.Vectors(4), zoo.Classes(3), units=5)
        weights.append(model.get_weights())
    for a, b in zip(*weights[:2], strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.abs(weights[0][0] - weights[2][0]).max() > 0
    after = [zoo.many_to_one(zoo.Vectors(4), zoo.Classes(3), units=5) for _ in range(2)]
    assert np.abs(after[0].get_weights()[0] - after[1].get_weights()[0]).max() > 0


def test_cells_by_name_class_and_layer():
    for row in ROWS:
        assert zoo.layer_class(row.cell) is row.layer
        assert zoo.layer_class(row.layer) is row.layer
        assert zoo.layer_class(row.module) is row.layer
    assert zoo.layer_class("simple_rnn") is kerasrnn.SimpleRNN
    assert zoo.layer_class("ind_rnn") is kerasrnn.IndRNN
    assert zoo.layer_class("layer_norm_lstm") is kerasrnn.LayerNormLSTM
    names = ", ".join(sorted(row.module for row in ROWS))
    with pytest.raises(ValueError, match=rf"cell='lstmm': expected one of {names}\."):
        zoo.many_to_one(zoo.Vectors(4), zoo.Classes(3), cell="lstmm")
    with pytest.raises(ValueError, match="expected a name, a kerasrnn cell class"):
        zoo.layer_class(keras.layers.LSTM)


@keras.saving.register_keras_serializable(package="tests")
class LeakyCell(kerasrnn.Cell):
    def update(self, a, r, states, weights):
        h = 0.9 * states[0] + 0.1 * self.activation(a + r)
        return h, [h]


def test_a_custom_cell():
    """It has no layer of its own, so it runs in an `RNN`."""
    model = zoo.many_to_one(zoo.Vectors(4), zoo.Values(1), LeakyCell, 5, recurrent_dropout=0.1)
    with pytest.raises(ValueError, match=r"feature=3: expected an argument .* kerasrnn\.RNN"):
        zoo.many_to_one(zoo.Vectors(4), zoo.Values(1), LeakyCell, 5, feature=3)
    (layer,) = model.get_layer("recurrent").layers
    assert type(layer) is kerasrnn.RNN
    assert type(layer.cell) is LeakyCell
    assert layer.cell.recurrent_dropout == 0.1
    weights, h = numpy_models.weights_of(layer.cell), np.zeros((3, 5))
    x = padded()[[0, 2, 0]]
    for t in range(6):
        r = h @ weights["recurrent_kernel"]
        h = 0.9 * h + 0.1 * np.tanh(x[:, t] @ weights["kernel"] + weights["bias"] + r)
    expected = numpy_models.dense(model.layers[-1], h)
    np.testing.assert_allclose(model(x), expected, atol=1e-6)


def test_a_cell_without_recurrent_kernel():
    """A stack of blocks around it reads what the layer alone reads, normalized."""
    arguments = (zoo.Vectors(4, padding=None), zoo.Values(1), "min_gru", 5, 2)
    model = zoo.many_to_one(*arguments, residual="glu")
    stack = model.get_layer("recurrent")
    assert [type(layer) for layer in stack.layers] == [kerasrnn.MinGRU] * 2
    x = padded()[[0, 2, 0]]
    np.testing.assert_allclose(model(x), model.layers[-1](stack(x)), atol=1e-6)
    message = "recurrent_dropout=0.1: MinGRUCell has no recurrent kernel .*; expected 0"
    for build in (zoo.many_to_one, zoo.many_to_many):
        with pytest.raises(ValueError, match=message):
            build(*arguments, recurrent_dropout=0.1)
    with pytest.raises(ValueError, match=message):
        zoo.many_to_many(*arguments, recurrent_dropout=0.1, feedback=True)


@pytest.mark.parametrize(
    ("argument", "value", "expected"),
    [
        ("units", 0, "a positive integer"),
        ("depth", 0, "a positive integer"),
        ("depth", 1.5, "a positive integer"),
        ("dropout", 1.0, r"a number in \[0, 1\)"),
        ("recurrent_dropout", -0.1, r"a number in \[0, 1\)"),
        ("pooling", "sum", "one of 'last', 'mean', 'max', 'attention'"),
        ("features", 3, "an argument of the function of the zoo, .* layers, kerasrnn.LSTM"),
        ("unroll", "yes", "True or False"),
    ],
)
def test_bad_numbers(argument, value, expected):
    with pytest.raises(ValueError, match=f"{argument}={value!r}: expected {expected}"):
        zoo.many_to_one(zoo.Vectors(4), zoo.Classes(3), **{argument: value})
