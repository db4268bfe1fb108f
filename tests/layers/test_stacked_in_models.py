"""`StackedRNN` in models: dropout, configurations, stateful layers, masks and errors.

Its values and gradients are those of test_stacked.py.
"""

import keras
import numpy as np
import pytest

import kerasrnn
from tests.layers.stacks import (
    STACKS,
    new_stack,
    random_states,
    sequences,
)
from tests.measure import (
    PRECISION,
    TIGHT,
    assert_same,
    make_mask,
    measure,
    op_by_op,
)


@pytest.fixture(autouse=True)
def _op_by_op():
    """What is traced is tested in `test_in_graphs.py`."""
    with op_by_op():
        yield


# Dropout.

# A layer that outputs its input: a stack of them outputs what dropout retains.
IDENTITY = {
    "activation": None,
    "use_bias": False,
    "kernel_initializer": "identity",
    "recurrent_initializer": "zeros",
}


def identities(depth, **options):
    layers = [kerasrnn.SimpleRNN(8, **IDENTITY) for _ in range(depth)]
    return kerasrnn.StackedRNN(layers, dropout=0.5, return_sequences=True, **options)


@pytest.mark.parametrize(
    ("depth", "residual", "factors"),
    [(1, False, [1]), (2, False, [0, 2]), (3, False, [0, 4]), (2, True, [1, 3])],
)
def test_dropout_is_applied_between_the_layers(depth, residual, factors):
    """In training, at each step, before every layer but the first."""
    x = sequences(8, 10, 8)
    stack = identities(depth, residual=residual, seed=1)
    inference = 2 ** (depth - 1) if residual else 1
    np.testing.assert_allclose(stack(x), inference * x, rtol=1e-5)
    actual = np.asarray(stack(x, training=True)) / x
    nearest = np.array(factors)[np.abs(actual[..., None] - factors).argmin(axis=-1)]
    np.testing.assert_allclose(actual, nearest, atol=1e-4)
    kept = np.mean(nearest == factors[-1])
    expected = 0.5 ** (depth - 1)
    assert abs(kept - expected) < 0.1
    if depth > 1:  # one mask a step, and not one a sequence
        assert 0.2 < np.mean(nearest[:, 0] != nearest[:, 1]) < 0.7


def test_dropout_is_repeatable_with_a_seed():
    x = sequences(8, 10, 8)
    one, again, other = (identities(2, seed=seed) for seed in (1, 1, 2))
    first, second = (np.asarray(one(x, training=True)) for _ in range(2))
    assert np.abs(first - second).max() > 0.1
    np.testing.assert_array_equal(np.asarray(again(x, training=True)), first)
    assert np.abs(np.asarray(other(x, training=True)) - first).max() > 0.1
    copied = kerasrnn.StackedRNN.from_config(one.get_config())
    np.testing.assert_array_equal(np.asarray(copied(x, training=True)), first)


def test_dropout_of_the_layers():
    """It is that of the same layer outside a stack."""
    x = sequences(dtype=PRECISION)
    options = {"dropout": 0.4, "recurrent_dropout": 0.2, "seed": 5, "dtype": PRECISION}
    alone = kerasrnn.GRU(5, **options)
    stack = kerasrnn.StackedRNN([kerasrnn.GRU(5, **options)], dtype=PRECISION)
    for layer in (alone, stack):
        layer.build(x.shape)
    stack.set_weights(alone.get_weights())
    actual, expected = (measure(layer, x, training=True) for layer in (stack, alone))
    assert_same(actual, expected, TIGHT)
    assert np.abs(actual.outputs[0] - np.asarray(alone(x))).max() > 1e-2


# Configuration, saving.


@pytest.mark.parametrize("built", [False, True], ids=["new", "built"])
def test_configurations_round_trip(built):
    layers = [
        kerasrnn.LSTM(6, dropout=0.2, seed=4, return_sequences=True),
        kerasrnn.Bidirectional(kerasrnn.GRU(3, return_sequences=True), residual=True),
        kerasrnn.RNN(kerasrnn.SimpleRNNCell(6)),
    ]
    options = {"residual": True, "dropout": 0.3, "return_state": True, "seed": 2}
    stack = kerasrnn.StackedRNN(layers, **options, name="a_name")
    if built:
        stack(sequences())
    serialized = keras.saving.serialize_keras_object(stack)
    assert serialized["registered_name"] == "kerasrnn>StackedRNN"
    again = keras.saving.deserialize_keras_object(serialized)
    assert again.get_config() == stack.get_config()
    assert {name: getattr(again, name) for name in options} == options
    assert again.return_sequences is False
    for layer, twin in zip(stack.layers, again.layers, strict=True):
        assert type(twin) is type(layer)
        assert twin.return_sequences is layer.return_sequences
        assert twin.return_state
        assert twin.name == layer.name
    assert again.layers[1].residual
    other = kerasrnn.StackedRNN.from_config({**stack.get_config(), "return_state": False})
    assert not other.layers[0].return_state


def test_a_configuration_uses_no_random_numbers():
    """`get_config` changes no weight that is drawn later."""
    stack = kerasrnn.StackedRNN([kerasrnn.LSTM(4), kerasrnn.Bidirectional(kerasrnn.GRU(3))])
    kernels = []
    for before in (lambda: None, stack.get_config):
        keras.utils.set_random_seed(3)
        before()
        dense = keras.layers.Dense(3)
        dense.build((None, 3))
        kernels.append(dense.get_weights()[0])
    np.testing.assert_array_equal(*kernels)


TOKENS = np.array([[1, 2, 3, 4], [5, 6, 0, 0], [0, 0, 7, 8], [0, 0, 0, 0]], "int32")


def tagger():
    inputs = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(11, 3, mask_zero=True)(inputs)
    x, *states = kerasrnn.StackedRNN(
        [
            kerasrnn.Bidirectional(kerasrnn.LSTM(2)),
            kerasrnn.Bidirectional(kerasrnn.GRU(2, return_sequences=True), residual=True),
            kerasrnn.GRU(4),
        ],
        residual=True,
        dropout=0.3,
        return_sequences=True,
        return_state=True,
        seed=1,
    )(x)
    top = kerasrnn.StackedRNN([kerasrnn.GRU(4), kerasrnn.SimpleRNN(4)], residual=True)
    return keras.Model(inputs, top(x, initial_state=states[-1:] * 2))


def test_a_saved_model_is_the_same(tmp_path):
    model = tagger()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    expected = np.asarray(model(TOKENS))
    np.testing.assert_array_equal(loaded(TOKENS), expected)
    configs = [[layer.get_config() for layer in one.layers] for one in (loaded, model)]
    assert configs[0] == configs[1]
    assert [w.path for w in loaded.weights] == [w.path for w in model.weights]
    clone = keras.models.clone_model(loaded)
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(clone(TOKENS), expected)


# Models.


def test_states_of_an_encoder_start_a_decoder():
    """`return_state` of a stack is `initial_state` of one of the same shape."""
    x, spec = sequences(dtype="float32"), STACKS["mixed"]
    source, target = keras.Input((None, 3)), keras.Input((None, 3))
    encoder = new_stack(spec, dtype="float32", return_state=True)
    decoder = new_stack(spec, dtype="float32", return_sequences=True)
    _, *states = encoder(source)
    model = keras.Model([source, target], decoder(target, initial_state=states))
    _, h_0, h_1, c_1 = encoder(x)
    below = decoder.layers[0](x[:, :2], initial_state=h_0)
    expected = np.asarray(decoder.layers[1](below, initial_state=[h_1, c_1]))
    np.testing.assert_allclose(model([x, x[:, :2]]), expected, atol=1e-6)
    again = np.asarray(decoder(x[:, :2]))
    assert np.abs(again - expected).max() > 1e-3


def test_states_continue_a_sequence():
    x = sequences(dtype=PRECISION)
    stack = new_stack(STACKS["three"], residual=True, return_sequences=True, return_state=True)
    whole, *finals = stack(x)
    first, *states = stack(x[:, :2])
    second, *ends = stack(x[:, 2:], initial_state=states)
    joined = np.concatenate([first, second], axis=1)
    for a, b in zip((joined, *ends), (whole, *finals), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), atol=TIGHT)


@pytest.mark.parametrize(("policy", "tolerance"), [("mixed_bfloat16", 0.05), ("float16", 0.01)])
def test_half_precision(policy, tolerance):
    x, mask = sequences(time=12), make_mask("right", 4, 12)
    # Keras has no orthogonal initializer in half precision.
    exact, half = (
        new_stack(
            (("GRU", 4), ("GRU", 4)),
            {"recurrent_initializer": "glorot_uniform"},
            dtype=dtype,
            residual=True,
            return_state=True,
        )
        for dtype in ("float32", policy)
    )
    for layer in (exact, half):
        layer.build(x.shape)
    half.set_weights(exact.get_weights())
    actual, expected = (measure(layer, x, mask=mask) for layer in (half, exact))
    assert {y.dtype.name for y in actual.outputs} == {half.compute_dtype}
    for a, b in zip(actual.arrays(), expected.arrays(), strict=True):
        scale = np.abs(b).max()
        np.testing.assert_allclose(np.asarray(a, "float32"), b, atol=tolerance * scale)


def test_outputs_have_the_dtype_of_the_stack():
    """Whatever the policies of its layers; symbolic outputs, too."""
    layers = [kerasrnn.LSTM(5), kerasrnn.LSTM(5, dtype="mixed_bfloat16")]
    stack = kerasrnn.StackedRNN(layers, return_state=True)
    symbolic = [y.dtype for y in stack(keras.Input((6, 3)))]
    actual = [keras.backend.standardize_dtype(y.dtype) for y in stack(sequences())]
    assert symbolic == actual == ["float32"] * 5


# Stateful layers.


def test_stateful_layers_continue_from_their_last_states():
    x = sequences(dtype=PRECISION)
    options = {"residual": True, "return_sequences": True}
    whole = new_stack(STACKS["three"], **options)
    expected = np.asarray(whole(x))
    stack = new_stack(STACKS["three"], {"stateful": True}, **options)
    stack.build((4, None, 3))
    stack.set_weights(whole.get_weights())
    first, second = np.asarray(stack(x[:, :2])), np.asarray(stack(x[:, 2:]))
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), expected, atol=TIGHT)
    stack.reset_state()
    np.testing.assert_allclose(stack(x[:, :2]), first, atol=TIGHT)


# Masks.


def test_masks_are_passed_on():
    """From an embedding: a padded sequence has the outputs of the sequence without padding."""
    embedding = keras.layers.Embedding(11, 3, mask_zero=True)
    options = {"return_sequences": True, "return_state": True}
    first = new_stack(STACKS["mixed"], dtype="float32", dropout=0.1, **options)
    second = new_stack(STACKS["both"], dtype="float32")
    padded = second(first(embedding(TOKENS[:2]))[0])
    short = second(first(embedding(TOKENS[1:2, :2]))[0])
    np.testing.assert_allclose(padded[1:], short, atol=1e-6)


def test_attached_masks_are_used_with_initial_states():
    """Keras uses them only if the sequences are the only tensor argument."""
    spec = STACKS["three"]
    states = random_states(spec, dtype="float32")
    stack = new_stack(spec, dtype="float32", residual=True)
    embedding = keras.layers.Embedding(11, 3, mask_zero=True)
    x = keras.ops.convert_to_numpy(embedding(TOKENS))
    expected = np.asarray(stack(x, initial_state=states, mask=TOKENS != 0))
    actual = np.asarray(stack(embedding(TOKENS), initial_state=states))
    np.testing.assert_array_equal(actual, expected)
    tokens, given = keras.Input((None,), dtype="int32"), [keras.Input((6,)) for _ in states]
    model = keras.Model([tokens, *given], stack(embedding(tokens), initial_state=given))
    np.testing.assert_allclose(model([TOKENS, *states]), expected, atol=1e-6)


def test_masks_may_be_booleans_or_numbers():
    x, mask = sequences(), make_mask("gapped", 4, 6)
    stack = new_stack(STACKS["gnmt"], dtype="float32", residual=True)
    expected = np.asarray(stack(x, mask=mask))
    for other in (mask.astype("int32"), mask.astype("float32")):
        np.testing.assert_array_equal(np.asarray(stack(x, mask=other)), expected)
    x[~mask] = 1e6
    np.testing.assert_array_equal(np.asarray(stack(x, mask=mask)), expected)


def test_compute_mask():
    mask = np.ones((2, 3), bool)
    layers = [kerasrnn.LSTM(5), kerasrnn.GRU(5)]
    for options, expected in (
        ({}, None),
        ({"return_sequences": True}, mask),
        ({"return_sequences": True, "return_state": True}, [mask, None, None, None]),
    ):
        actual = kerasrnn.StackedRNN(layers, **options).compute_mask(None, mask)
        assert actual is expected or [*actual] == [*expected]


# Errors.


def built():
    layer = kerasrnn.LSTM(5)
    layer.build((None, None, 3))
    return layer


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (list, r"layers=\[\]: expected at least one layer"),
        (lambda: kerasrnn.LSTM(5), r"layers=<LSTM.*: expected a list of layers, \[layer\]"),
        (lambda: 5, "layers=5: expected a list"),
        (lambda: [keras.layers.LSTM(5)], "layers=<LSTM.*: expected kerasrnn.LSTM instead of"),
        (
            lambda: [kerasrnn.LSTM(5), kerasrnn.LSTMCell(5)],
            r"layers=<LSTMCell.*: expected a layer; kerasrnn.RNN\(LSTMCell",
        ),
        (
            lambda: [kerasrnn.StackedRNN([kerasrnn.LSTM(5)])],
            "layers=<StackedRNN.*: expected a kerasrnn recurrent layer",
        ),
        (lambda: [kerasrnn.LSTM(5), built()], "is built; expected new layers"),
        (lambda: [kerasrnn.LSTM(5, return_state=True)], "has return_state=True; set it on the"),
        (
            lambda: [kerasrnn.Bidirectional(kerasrnn.LSTM(5, return_state=True))],
            "has return_state=True; set it on the stack",
        ),
        (
            lambda: [kerasrnn.LSTM(5, go_backwards=True)],
            "reads backwards; expected a Bidirectional",
        ),
        (
            lambda: [kerasrnn.LSTM(5), kerasrnn.LSTM(5, return_sequences=True)],
            "return_sequences=False: the last layer has True; set it on the stack",
        ),
    ],
)
def test_unusable_layers(layers, message):
    with pytest.raises(ValueError, match=message):
        kerasrnn.StackedRNN(layers())


@pytest.mark.parametrize("dropout", [-0.1, 1.0, float("nan"), "0.5", None])
def test_dropout_out_of_range(dropout):
    with pytest.raises(ValueError, match=rf"dropout={dropout!r}: expected a number in \[0, 1\)"):
        kerasrnn.StackedRNN([kerasrnn.LSTM(5)], dropout=dropout)


def test_impossible_residual_connections():
    with pytest.raises(ValueError, match="residual=True: the vector that a bidirectional last"):
        new_stack(STACKS["both"], residual=True)
    for return_state in (False, True):
        stack = new_stack(STACKS["mixed"], residual=True, return_state=return_state, name="n")
        with pytest.raises(
            ValueError, match="n: residual=True adds the 5 features below layer 1 to its 4 outputs"
        ):
            stack(sequences())


@pytest.mark.parametrize("n", [1, 2, 4])
def test_initial_states_of_the_wrong_length(n):
    stack = kerasrnn.StackedRNN([kerasrnn.LSTM(5), kerasrnn.GRU(5)], name="n")
    with pytest.raises(
        ValueError, match=rf"n: initial_state has {n} tensors?; expected 3: every layer's states"
    ):
        stack(sequences(), initial_state=[np.zeros((4, 5), "float32")] * n)


def test_shapes_of_sequences_and_masks():
    stack = kerasrnn.StackedRNN([kerasrnn.LSTM(5), kerasrnn.GRU(5)])
    with pytest.raises(ValueError, match="expected ndim=3"):
        stack(sequences()[0])
    with pytest.raises(ValueError, match="mask has the shape"):
        stack(sequences(), mask=np.ones((4, 5), bool))
