"""`encoder_decoder`: its modes in NumPy, training, exports, errors."""

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn import zoo
from tests import numpy_models
from tests.catalogue import variant_id
from tests.measure import op_by_op
from tests.zoo.models import assert_exports, assert_exports_to_onnx, assert_saves, learn

SOURCE = np.array([[3, 8, 1, 3], [5, 1, 0, 0], [0, 0, 0, 0]])
PREVIOUS = np.array([[1, 3, 4, 5], [1, 4, 2, 2], [1, 1, 1, 6]])


def token_model(mode="state", cell="gru", **options):
    return zoo.encoder_decoder(zoo.Tokens(9, 4), zoo.Classes(7), mode, cell, units=5, **options)


def assert_passes_on(model, options):
    """The NumPy models read these options from the layers."""
    for layer, names in (("encoder", ("residual",)), ("decoder", ("residual", "skip", "tied"))):
        for name in names:
            assert getattr(model.get_layer(layer), name) == options.get(name, False), name


def expected_of(model, x, mask, previous):
    _, _, states = numpy_models.run(model.get_layer("encoder"), x, mask)
    states = np.concatenate([s.reshape(len(x), -1) for s in states], axis=-1)
    context = np.tanh(numpy_models.dense(model.get_layer("context"), states))
    return numpy_models.decode(model.get_layer("decoder"), previous, context)


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("state", {"cell": "lstm", "bidirectional": True}),
        ("every", {"cell": "ugrnn", "depth": 2, "residual": True, "skip": True, "tied": True}),
        ("both", {"depth": 2, "bidirectional": True}),
    ],
    ids=variant_id,
)
def test_modes(mode, options, tmp_path):
    """Padding of the source, also of entire rows, does not change the context."""
    model = token_model(mode, dropout=0.3, **options)
    assert_passes_on(model, options)
    (table,) = model.get_layer("embedding").get_weights()
    logits = expected_of(model, table[SOURCE], SOURCE != 0, PREVIOUS)
    y = model([SOURCE, PREVIOUS])
    np.testing.assert_allclose(y, numpy_models.softmax(logits), atol=1e-6)
    assert_saves(model, [SOURCE, PREVIOUS], tmp_path)
    writer = zoo.generator(model, max_length=4, start=1, end=2)
    assert_saves(writer, SOURCE, tmp_path)
    # Greedy decoding: each symbol is the most probable after the previous ones.
    written = np.asarray(writer(SOURCE))
    p = np.array(model([SOURCE, np.insert(written[:, :-1], 0, 1, axis=1)]))
    p[..., :2] = 0  # padding and the start symbol
    used = np.cumsum(np.insert(written[:, :-1], 0, 0, axis=1) == 2, axis=1) == 0
    np.testing.assert_array_equal(written, np.where(used, p.argmax(axis=-1), 0))


@pytest.mark.parametrize(
    ("cell", "options"), [("mlstm", {"bidirectional": True}), ("qrnn", {"depth": 2})]
)
def test_states_that_are_no_vectors(cell, options):
    """Matrices and windows of inputs are flattened for the context."""
    with op_by_op():
        model = token_model("every", cell, **options)
        (table,) = model.get_layer("embedding").get_weights()
        logits = expected_of(model, table[SOURCE], SOURCE != 0, PREVIOUS)
        y = model([SOURCE, PREVIOUS])
    np.testing.assert_allclose(y, numpy_models.softmax(logits), atol=1e-6)


@pytest.mark.parametrize(
    ("attention", "options"),
    [
        ("bahdanau", {"cell": "lstm", "bidirectional": True}),
        ("luong", {"depth": 2, "residual": True, "tied": True}),
        ("luong", {"input_feeding": False, "depth": 2, "skip": True}),
        (kerasrnn.CoverageAttention(3), {"mode": "both", "attention_units": 6}),
    ],
    ids=variant_id,
)
def test_attention(attention, options, tmp_path):
    """Teacher forcing and generation in NumPy. Padding of the source has no attention."""
    model = token_model(dropout=0.3, attention=attention, **options)
    assert_passes_on(model, options)
    source = SOURCE[:2]  # without the row of padding
    (table,) = model.get_layer("embedding").get_weights()
    memory, _, states = numpy_models.run(model.get_layer("encoder"), table[source], source != 0)
    context = np.tanh(
        numpy_models.dense(model.get_layer("context"), np.concatenate(states, axis=-1))
    )
    logits, alpha = numpy_models.decode_attending(
        model.get_layer("decoder"), PREVIOUS[:2], context, memory, source != 0
    )
    y = model([source, PREVIOUS[:2]])
    np.testing.assert_allclose(y, numpy_models.softmax(logits), atol=1e-6)
    writer = zoo.generator(model, max_length=4, start=1, end=2, return_attention=True)
    assert_saves(writer, SOURCE, tmp_path)
    written, weights = map(np.asarray, writer(source))
    previous = np.insert(written[:, :-1], 0, 1, axis=1)
    logits, alpha = numpy_models.decode_attending(
        model.get_layer("decoder"), previous, context, memory, source != 0
    )
    used = np.cumsum(previous == 2, axis=1) == 0
    logits[..., :2] = -np.inf
    np.testing.assert_array_equal(written, np.where(used, logits.argmax(axis=-1), 0))
    np.testing.assert_allclose(weights, np.where(used[..., None], alpha, 0), atol=1e-5)


def test_models_with_attention_are_saved(tmp_path):
    model = token_model("both", attention=kerasrnn.CoverageAttention(3), attention_units=6)
    assert_saves(model, [SOURCE, PREVIOUS], tmp_path)
    beam = kerasrnn.decoding.Beam(3, coverage_penalty=0.2)
    assert_saves(zoo.generator(model, beam, 4, start=1, end=2), SOURCE, tmp_path)


def test_vectors_become_values():
    model = zoo.encoder_decoder(
        zoo.Vectors(3), zoo.Values(2), "every", "gru", units=5, embedding_units=4
    )
    random = np.random.default_rng(0)
    x, previous = random.standard_normal((2, 4, 3)), random.standard_normal((2, 3, 2))
    expected = expected_of(model, x, None, previous)
    np.testing.assert_allclose(model([x, previous]), expected, atol=1e-6)


@pytest.mark.traced
def test_learning_to_reverse():
    """Two symbols, between the start symbol 1 and the end symbol 2."""
    pairs = np.array([[a, b] for a in range(3, 7) for b in range(3, 7)])
    symbols = np.pad(np.pad(pairs[:, ::-1], ((0, 0), (1, 0)), constant_values=1), ((0, 0), (0, 1)))
    symbols[:, -1] = 2
    model = zoo.encoder_decoder(
        zoo.Tokens(7, 12), zoo.Classes(7), "both", "gru", units=32, jit_compile=False
    )
    targets = symbols[:, 1:]
    assert learn(model, [pairs, symbols[:, :-1]], targets, steps=70, rate=0.02) < 0.1
    with op_by_op():
        written = zoo.generator(model, max_length=3, start=1, end=2)(pairs)
    np.testing.assert_array_equal(written, targets)


@pytest.mark.tensorflow
@pytest.mark.traced
def test_exports(tmp_path):
    """One mode in ONNX; the others and a generator in one SavedModel."""
    models = [token_model(mode, "simple_rnn", name=mode) for mode in ("state", "every", "both")]
    writer = zoo.generator(
        models[-1], max_length=4, start=1, end=2, return_lengths=True, return_log_probabilities=True
    )
    assert writer.output_names == ["sequences", "lengths", "log_probabilities"]
    source, previous = SOURCE.astype("int32"), PREVIOUS.astype("int32")
    check = [[source, previous], [source[1:2, :3], previous[1:2, :2]]]
    names = ["source", "previous"], ["probabilities"]
    assert_exports_to_onnx(models[-1], check, tmp_path, names)
    inputs = models[0].inputs
    outputs = [*(model(inputs) for model in models[:-1]), *writer(inputs[0])]
    assert_exports(keras.Model(inputs, outputs), check, tmp_path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: token_model("first"), "mode='first': expected one of 'state', 'every', 'both'"),
        (lambda: token_model(recurrent_dropout=1), r"recurrent_dropout=1: expected a number in"),
        (lambda: zoo.encoder_decoder(zoo.Labels(3), zoo.Classes(3)), "a label is a single id"),
        (
            lambda: zoo.encoder_decoder(zoo.Tokens(3), zoo.Classes(1)),
            "size=1: expected at least 2 classes",
        ),
    ],
    ids=variant_id,
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
