"""The decoder, compared with NumPy: all steps at once, and one after the other."""

import contextlib
import copy

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn.keras_internals import get_keras_mask
from tests import numpy_models
from tests.catalogue import BY_NAME, PROBES, variant_id
from tests.measure import op_by_op, randomize

IDS = np.array([[1, 4, 2, 6], [1, 5, 3, 3], [2, 2, 1, 4]])
CONTEXTS = (None, "first", "every", "state", "both")


def frames(kind, batch=3, time=4, size=5):
    random = np.random.default_rng(0)
    if kind == "flags":
        return random.integers(0, 2, (batch, time, size)).astype("float32")
    return random.standard_normal((batch, time, size)).astype("float32")


def new_decoder(row, context=None, kind="classes", depth=1, **options):
    """Built, with random weights; and a context for it."""
    size = 7 if kind == "classes" else 5
    layers = [row.layer(6) for _ in range(depth)]
    decoder = kerasrnn.Decoder(size, layers, kind, context=context, **options)
    c = None
    if context is not None:
        c = np.random.default_rng(3).standard_normal((3, 2)).astype("float32")
    previous = IDS if kind == "classes" else frames(kind)
    decoder.build(previous.shape, None if c is None else c.shape)
    randomize(decoder)
    return decoder, previous, c


def step_by_step(decoder, previous, context):
    """The logits of every step; the states before the first step and after every step."""
    states = [decoder.initial_states(context, len(previous))]
    logits = []
    for t in range(previous.shape[1]):
        y, after = decoder.step(previous[:, t], states[-1], context)
        logits.append(np.asarray(y))
        states.append(after)
    return np.stack(logits, axis=1), states


@pytest.mark.torch_backend
@pytest.mark.parametrize(
    ("row", "context"),
    [(row, CONTEXTS[n]) for n, row in enumerate(PROBES)]
    + [(BY_NAME["LSTM"], "state"), (BY_NAME["GRU"], "first"), (BY_NAME["SimpleRNN"], "both")],
    ids=variant_id,
)
def test_all_steps_at_once_and_one_after_the_other(row, context):
    """Cells of every kind, in a stack with residuals; every way in which a context enters."""
    decoder, previous, c = new_decoder(row, context, depth=2, residual=True)
    expected = numpy_models.decode(decoder, previous, c)
    with contextlib.nullcontext() if row is BY_NAME["LSTM"] else op_by_op():
        logits = decoder(previous, context=c)
    np.testing.assert_allclose(logits, expected, atol=2e-5)
    stepped, _ = step_by_step(decoder, previous, c)
    np.testing.assert_allclose(stepped, expected, atol=2e-5)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("classes", {"embedding_units": 3}),
        ("classes", {"tied": True}),
        ("classes", {"tied": True, "embedding_units": 3}),
        ("flags", {}),
        ("flags", {"embedding_units": 3}),
        ("values", {"context": "both"}),
        ("values", {"context": "first"}),
        ("classes", {"skip": True, "context": "first"}),
        ("classes", {"skip": True, "tied": True, "context": "both"}),
        ("flags", {"skip": True}),
        ("values", {"skip": True, "context": "every", "embedding_units": 3}),
    ],
    ids=variant_id,
)
def test_kinds_and_embeddings(kind, options):
    decoder, previous, c = new_decoder(BY_NAME["GRU"], kind=kind, **options)
    expected = numpy_models.decode(decoder, previous, c)
    with op_by_op():
        logits = decoder(previous, context=c)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    np.testing.assert_allclose(step_by_step(decoder, previous, c)[0], expected, atol=1e-5)


def test_tied_weights_are_counted_once():
    row = BY_NAME["GRU"]
    tied = {w.path for w in new_decoder(row, tied=True)[0].weights}
    untied = {w.path for w in new_decoder(row)[0].weights}
    assert len(untied) - len(tied) == 1
    assert not any("logits" in path or "projection" in path for path in tied)


@op_by_op()
@pytest.mark.parametrize("context", [None, "first", "both"])
def test_padding_changes_nothing(context):
    """The mask is passed on, and masked steps keep the states."""
    decoder, _, c = new_decoder(BY_NAME["LSTM"], context)
    whole, lengths = np.array([[1, 4, 2, 0, 0], [1, 5, 3, 3, 2], [2, 0, 0, 0, 0]]), (3, 5, 1)
    logits = decoder(whole, context=c)
    np.testing.assert_array_equal(get_keras_mask(logits), whole != 0)
    states = decoder.prefill(whole, decoder.initial_states(c, 3), c, mask=whole != 0)
    _, expected = step_by_step(decoder, whole, c)
    for n, length in enumerate(lengths):
        of_row = None if c is None else c[n : n + 1]
        alone = numpy_models.decode(decoder, whole[n : n + 1, :length], of_row)
        np.testing.assert_allclose(logits[n : n + 1, :length], alone, atol=1e-5)
        for state, other in zip(states, expected[length], strict=True):
            np.testing.assert_allclose(state[n], other[n], atol=1e-5)


@op_by_op()
def test_padding_of_frames():
    """A frame of zeros is no padding by default."""
    x = np.ones((3, 2, 5), "float32")
    x[0, :] = 0
    x[1, 1] = -1
    for padding, used in ((None, None), (0.0, [0, 2, 2]), (-1.0, [2, 1, 2])):
        decoder, _, _ = new_decoder(BY_NAME["GRU"], kind="flags", padding=padding)
        mask = get_keras_mask(decoder(x))
        assert used == (None if mask is None else np.asarray(mask).sum(axis=1).tolist())


@op_by_op()
def test_a_given_mask_is_used():
    decoder, _, _ = new_decoder(BY_NAME["GRU"])
    mask = np.array([[True, True, False, True]] * 3)
    logits = decoder(IDS, mask=mask)
    expected = numpy_models.decode(decoder, IDS[:, [0, 1, 3]])
    np.testing.assert_allclose(np.asarray(logits)[:, [0, 1, 3]], expected, atol=1e-5)


def test_stateful_segments_are_one_sequence(tmp_path):
    """A batch continues the previous one; the states affect neither steps nor saved weights."""
    inputs = keras.Input((None,), batch_size=3, dtype="int32")
    decoder = kerasrnn.Decoder(7, [kerasrnn.LSTM(3), kerasrnn.GRU(3)], stateful=True)
    model = keras.Model(inputs, decoder(inputs))
    expected = numpy_models.decode(decoder, np.concatenate([IDS, IDS[:, ::-1]], axis=1))
    first, second = model.predict(IDS, verbose=0), model.predict(IDS[:, ::-1], verbose=0)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), expected, atol=1e-5)
    model.save(tmp_path / "model.keras")
    with op_by_op():
        np.testing.assert_allclose(step_by_step(decoder, IDS, None)[0], first, atol=1e-5)
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_allclose(loaded(IDS), first, atol=1e-6)
        decoder.reset_state()
        np.testing.assert_allclose(model(IDS), first, atol=1e-6)
        # Its weights are those of a model of any batch.
        inputs = keras.Input((None,), dtype="int32")
        other = kerasrnn.Decoder(7, [kerasrnn.LSTM(3), kerasrnn.GRU(3)])
        other = keras.Model(inputs, other(inputs))
        other.set_weights(model.get_weights())
        np.testing.assert_allclose(other(IDS[:2]), first[:2], atol=1e-6)
        model.save_weights(tmp_path / "m.weights.h5")
        other.set_weights([0 * weight for weight in model.get_weights()])
        other.load_weights(tmp_path / "m.weights.h5")
        np.testing.assert_allclose(other(IDS[:2]), first[:2], atol=1e-6)


@op_by_op()
def test_dropout_acts_in_training_only():
    decoder, previous, c = new_decoder(BY_NAME["GRU"], "state", depth=2, dropout=0.5, seed=1)
    at_rest = np.asarray(decoder(previous, context=c))
    np.testing.assert_allclose(at_rest, numpy_models.decode(decoder, previous, c), atol=1e-5)
    trained = np.asarray(decoder(previous, context=c, training=True))
    assert np.abs(trained - at_rest).max() > 0.1


def test_configuration():
    layers = [kerasrnn.LSTM(6, recurrent_dropout=0.1), kerasrnn.RNN(kerasrnn.MGUCell(6))]
    options = {
        "embedding_units": 4,
        "context": "both",
        "dropout": 0.2,
        "residual": True,
        "skip": True,
        "tied": True,
        "seed": 3,
    }
    decoder = kerasrnn.Decoder(7, layers, **options)
    config = keras.saving.serialize_keras_object(decoder)
    again = keras.saving.deserialize_keras_object(copy.deepcopy(config))
    assert keras.saving.serialize_keras_object(again) == config
    assert {name: getattr(again, name) for name in options} == options
    assert again.stack.layers[0].recurrent_dropout == 0.1


@op_by_op()
def test_half_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    decoder, previous, c = new_decoder(BY_NAME["GRU"], "state")
    logits = decoder(previous, context=c)
    assert keras.backend.standardize_dtype(logits.dtype) == "bfloat16"
    expected = numpy_models.decode(decoder, previous, c)
    np.testing.assert_allclose(np.asarray(keras.ops.cast(logits, "float32")), expected, atol=0.15)


def test_a_stack_with_a_bidirectional_layer_has_no_step():
    stack = kerasrnn.StackedRNN([kerasrnn.GRU(2), kerasrnn.Bidirectional(kerasrnn.GRU(2))])
    for call in (lambda: stack.get_initial_state(2), lambda: stack.step(np.zeros((2, 3)), [])):
        with pytest.raises(ValueError, match="reads the whole sequence; expected layers that"):
            call()


def gru():
    return [kerasrnn.GRU(3)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kerasrnn.Decoder(0, gru()), "size=0: expected a positive integer"),
        (lambda: kerasrnn.Decoder(1, gru()), "size=1: expected at least 2 classes"),
        (lambda: kerasrnn.Decoder(5, gru(), "ids"), "kind='ids': expected one of 'classes'"),
        (
            lambda: kerasrnn.Decoder(5, gru(), context="last"),
            "context='last': expected one of None, 'first'",
        ),
        (
            lambda: kerasrnn.Decoder(5, gru(), embedding_units=0),
            "embedding_units=0: expected a positive integer",
        ),
        (lambda: kerasrnn.Decoder(5, gru(), dropout=1.0), r"dropout=1\.0: expected a number in"),
        (
            lambda: kerasrnn.Decoder(5, gru(), "flags", tied=True),
            "tied=True: expected kind='classes', received 'flags'",
        ),
        (
            lambda: kerasrnn.Decoder(5, gru(), padding=0.0),
            r"padding=0\.0: with kind='classes' it is 0; expected None",
        ),
        (
            lambda: kerasrnn.Decoder(5, gru(), context="first", stateful=True),
            "stateful=True: a batch that begins with a context='first'",
        ),
        (
            lambda: kerasrnn.Decoder(5, [kerasrnn.GRUD(2)], context="state"),
            "context='state': .* GRUDCell depend on its inputs; expected None, 'first' or 'every'",
        ),
        (
            lambda: kerasrnn.Decoder(5, [kerasrnn.Bidirectional(kerasrnn.GRU(2))]),
            "reads the whole sequence; expected unidirectional",
        ),
        (
            lambda: kerasrnn.Decoder(5, [kerasrnn.GRU(2, stateful=True)]),
            "is stateful; set it on the decoder instead",
        ),
        (
            lambda: kerasrnn.Decoder(5, gru())(IDS, context=np.zeros((3, 2))),
            "a context was given; expected none",
        ),
        (
            lambda: kerasrnn.Decoder(5, gru(), context="every")(IDS),
            r"context='every' expects one vector per row, \(batch, width\); received none",
        ),
        (
            lambda: kerasrnn.Decoder(5, gru(), context="every")(IDS, np.zeros((3, 2, 2))),
            r"received the shape \(3, 2, 2\)",
        ),
        (
            lambda: kerasrnn.Decoder(5, gru()).initial_states(),
            "batch_size=None: expected the number",
        ),
        (
            lambda: kerasrnn.Decoder(4, gru(), "flags")(frames("flags")),
            r"previous has the shape \(3, 4, 5\); expected \(batch, time, 4\)",
        ),
        (
            lambda: kerasrnn.Decoder(5, gru(), stateful=True)(keras.Input((None,), dtype="int32")),
            "stateful=True: expected inputs whose batch size is known",
        ),
    ],
    ids=variant_id,
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
