"""`Bidirectional` against `keras.layers.Bidirectional` of the built-in layer.

Where there is no built-in layer, Keras's loop around our cell takes its place.
"""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kerasrnn
from tests.catalogue import (
    BUILT_IN,
    BY_NAME,
    MANUAL_AND_AUTOMATIC,
    ROWS,
    variant_id,
)
from tests.measure import (
    FIRST_BACKEND,
    MASKS,
    PRECISION,
    TIGHT,
    assert_same,
    assert_same_outputs,
    make_mask,
    measure,
    op_by_op,
    passing_masks,
    randomize,
    to_list,
)
from tests.oracles import loop as oracle_loop

manual_and_automatic = pytest.mark.parametrize("row", MANUAL_AND_AUTOMATIC, ids=variant_id)
built_in = pytest.mark.parametrize("row", BUILT_IN, ids=variant_id)
MERGES = ("concat", "sum", "ave", "mul")


@pytest.fixture(autouse=True)
def _op_by_op():
    """What is traced is tested in `test_in_graphs.py`."""
    with op_by_op():
        yield


def sequences(batch=4, time=6, features=3, dtype="float32"):
    return np.random.default_rng(0).standard_normal((batch, time, features)).astype(dtype)


def random_states(row, units=5, batch=4, dtype=PRECISION):
    random = np.random.default_rng(3)
    shape = (2 * len(row.cell.state_names), batch, units)
    return list(random.standard_normal(shape).astype(dtype))


def twins(row, merge_mode="concat", **options):
    """Ours and Keras's, with the same random weights in the same order."""
    options = {"dtype": PRECISION, **options}
    dtype = options["dtype"]
    ours = kerasrnn.Bidirectional(row.layer(5, **options), merge_mode=merge_mode, dtype=dtype)
    twin = keras.layers.Bidirectional(row.twin(5, **options), merge_mode=merge_mode, dtype=dtype)
    passing_masks(twin)
    for layer in (ours, twin):
        layer.build((4, None, 3) if options.get("stateful") else (None, None, 3))
    randomize(ours)
    twin.set_weights(ours.get_weights())
    return ours, twin


def in_numpy(row, layer, x, mask=None, return_sequences=True):
    """The oracle's loop in both directions: `(forward, backward)`."""
    names = [weight.name for weight in layer.forward_layer.weights]
    outputs = []
    for direction, go_backwards in ((layer.forward_layer, False), (layer.backward_layer, True)):
        weights = dict(zip(names, direction.get_weights(), strict=True))
        states = [np.zeros((len(x), *shape)) for shape in direction.cell.state_shapes]
        every, last, _ = oracle_loop.run(
            row.oracle.step,
            x,
            states,
            weights,
            mask=mask,
            go_backwards=go_backwards,
            zero_output_for_mask=return_sequences,
        )
        if return_sequences and go_backwards:
            every = every[:, ::-1]
        outputs.append(every if return_sequences else last)
    return outputs


# Values and gradients.


@pytest.mark.parametrize("return_sequences", [True, False], ids=["sequences", "last"])
@pytest.mark.parametrize("row", MANUAL_AND_AUTOMATIC if FIRST_BACKEND else BUILT_IN, ids=variant_id)
def test_equals_keras(row, return_sequences):
    """Outputs, states and every gradient; masks of every kind; sequences and the two ends."""
    x = sequences(dtype=PRECISION)
    ours, builtin = twins(row, return_sequences=return_sequences, return_state=True)
    for kind in MASKS:
        mask = make_mask(kind, 4, 6)
        expected = measure(builtin, x, mask=mask)
        assert_same(measure(ours, x, mask=mask, training=True), expected, TIGHT)
    assert_same_outputs(ours, expected, TIGHT, x, mask=mask)


def test_merge_modes_equal_keras():
    x, mask = sequences(dtype=PRECISION), make_mask("right", 4, 6)
    ours, builtin = twins(BY_NAME["LSTM"], return_sequences=True)
    for merge_mode in MERGES if FIRST_BACKEND else MERGES[:2]:
        ours.merge_mode = builtin.merge_mode = merge_mode
        assert_same(measure(ours, x, mask=mask), measure(builtin, x, mask=mask), TIGHT)


@manual_and_automatic
def test_initial_states_equal_keras(row):
    """One list: the forward layer's states, then the backward layer's."""
    x, mask, states = sequences(dtype=PRECISION), make_mask("right", 4, 6), random_states(row)
    ours, builtin = twins(row, return_sequences=True, return_state=True)
    actual = measure(ours, x, states, mask, training=True)
    assert_same(actual, measure(builtin, x, states, mask), TIGHT)


@pytest.mark.parametrize("return_sequences", [True, False], ids=["sequences", "last"])
def test_zero_output_for_mask_of_the_layer_has_no_effect(return_sequences):
    """The directions output zeros at masked steps only if sequences are returned."""
    x, mask = sequences(dtype=PRECISION), make_mask("right", 4, 6)
    options = {"return_sequences": return_sequences, "zero_output_for_mask": True}
    ours, builtin = twins(BY_NAME["LSTM"], **options)
    output = np.asarray(ours(x, mask=mask))
    np.testing.assert_allclose(output, np.asarray(builtin(x, mask=mask)), atol=TIGHT)
    assert (output[~mask] == 0).all() if return_sequences else (output != 0).all()


def test_dropout_equals_keras():
    """One seed, the same masks in both directions, as in Keras."""
    x, mask = sequences(dtype=PRECISION), make_mask("right", 4, 6)
    options = {"dropout": 0.4, "recurrent_dropout": 0.3, "seed": 11, "return_sequences": True}
    ours, builtin = twins(BY_NAME["LSTM"], **options)
    actual, expected = (measure(layer, x, mask=mask, training=True) for layer in (ours, builtin))
    assert_same(actual, expected, TIGHT)
    assert np.abs(actual.outputs[0] - np.asarray(ours(x, mask=mask))).max() > 1e-2


@st.composite
def cases(draw):
    batch, time, features, units = (draw(st.integers(1, n)) for n in (4, 7, 4, 5))
    mask = draw(st.none() | st.lists(st.booleans(), min_size=batch * time, max_size=batch * time))
    residual = draw(st.booleans())
    merge_mode = draw(st.sampled_from(MERGES))
    if residual:
        features = units * (2 if merge_mode == "concat" else 1)
    return {
        "row": draw(st.sampled_from(ROWS)),
        "shape": (batch, time, features),
        "units": units,
        "mask": None if mask is None else np.array(mask).reshape(batch, time),
        "merge_mode": merge_mode,
        "residual": residual,
        "return_sequences": residual or draw(st.booleans()),
    }


NUMPY_MERGES = {
    "concat": lambda a, b: np.concatenate([a, b], axis=-1),
    "sum": np.add,
    "ave": lambda a, b: 0.5 * a + 0.5 * b,
    "mul": np.multiply,
}


@settings(max_examples=16 if FIRST_BACKEND else 4)
@given(cases())
def test_equals_two_oracles(case):
    """Any cell, shape, mask and merge, with the input added or not."""
    row, return_sequences = case["row"], case["return_sequences"]
    x = np.random.default_rng(5).standard_normal(case["shape"]).astype(PRECISION)
    layer = kerasrnn.Bidirectional(
        row.layer(
            case["units"],
            return_sequences=return_sequences,
            bias_initializer="random_normal",
            dtype=PRECISION,
        ),
        merge_mode=case["merge_mode"],
        residual=case["residual"],
        dtype=PRECISION,
    )
    actual = np.asarray(layer(x, mask=case["mask"]))
    expected = NUMPY_MERGES[case["merge_mode"]](
        *in_numpy(row, layer, x, case["mask"], return_sequences)
    )
    if case["residual"]:
        expected = expected + x
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TIGHT)


def test_residual_adds_the_input_to_value_and_gradient():
    x, mask = sequences(features=10, dtype=PRECISION), make_mask("gapped", 4, 6)
    plain, residual = (
        kerasrnn.Bidirectional(
            kerasrnn.GRU(5, return_sequences=True, return_state=True, dtype=PRECISION),
            residual=residual,
            dtype=PRECISION,
        )
        for residual in (False, True)
    )
    for layer in (plain, residual):
        layer.build(x.shape)
    residual.set_weights(plain.get_weights())
    expected, actual = (measure(layer, x, mask=mask) for layer in (plain, residual))
    factors = np.random.default_rng(7).standard_normal(x.shape)  # those of `measure`
    expected = expected._replace(
        outputs=[expected.outputs[0] + x, *expected.outputs[1:]],
        d_inputs=expected.d_inputs + factors,
    )
    assert_same(actual, expected, TIGHT)


# Configuration, saving, weights.


@built_in
def test_weights_are_interchangeable_with_keras(row):
    """Forward, then backward, each in Keras's order: `set_weights` both ways."""
    x, mask = sequences(dtype=PRECISION), make_mask("right", 4, 6)
    ours, builtin = twins(row, return_sequences=True)
    assert [w.name for w in ours.weights] == [w.name for w in builtin.weights]
    random = np.random.default_rng(2)
    expected = np.asarray(builtin(x, mask=mask))
    np.testing.assert_allclose(ours(x, mask=mask), expected, atol=TIGHT)
    ours.set_weights([random.standard_normal(w.shape) for w in ours.get_weights()])
    builtin.set_weights(ours.get_weights())
    actual = np.asarray(ours(x, mask=mask))
    np.testing.assert_allclose(actual, builtin(x, mask=mask), atol=TIGHT)
    assert np.abs(actual - expected).max() > 1e-3


def test_the_wrapped_layer_is_the_forward_layer():
    """It keeps its weights; the backward layer has its configuration and other weights."""
    x = sequences()
    forward = kerasrnn.GRU(5, return_sequences=True, bias_initializer="random_normal")
    expected = np.asarray(forward(x))
    layer = kerasrnn.Bidirectional(forward)
    assert layer.forward_layer is forward
    output = np.asarray(layer(x))
    np.testing.assert_allclose(output[:, :, :5], expected, atol=1e-6)
    config, twin = forward.get_config(), layer.backward_layer.get_config()
    assert twin == {**config, "go_backwards": True, "name": f"backward_{forward.name}"}
    kernels = [direction.cell.kernel for direction in (forward, layer.backward_layer)]
    assert np.abs(np.asarray(kernels[0]) - np.asarray(kernels[1])).max() > 1e-2


@manual_and_automatic
def test_configurations_round_trip(row):
    for merge_mode, residual in (("ave", False), ("concat", True)):
        layer = kerasrnn.Bidirectional(
            row.layer(5, dropout=0.2, seed=3, return_sequences=True, return_state=True),
            merge_mode=merge_mode,
            residual=residual,
            name="a_name",
            dtype="mixed_bfloat16",
        )
        for _ in ("new", "built"):
            serialized = keras.saving.serialize_keras_object(layer)
            assert serialized["registered_name"] == "kerasrnn>Bidirectional"
            again = keras.saving.deserialize_keras_object(serialized)
            assert again.get_config() == layer.get_config()
            assert (again.merge_mode, again.residual) == (merge_mode, residual)
            assert again.forward_layer.get_config() == layer.forward_layer.get_config()
            assert again.backward_layer.get_config() == layer.backward_layer.get_config()
            if not layer.built:
                layer.build((4, 6, 10))


TOKENS = np.array([[1, 2, 3, 4], [5, 6, 0, 0], [0, 0, 7, 8], [0, 0, 0, 0]], "int32")


def tagger(row):
    inputs = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(11, 8, mask_zero=True)(inputs)
    x, *states = kerasrnn.Bidirectional(
        row.layer(4, return_sequences=True, return_state=True), residual=True
    )(x)
    x = kerasrnn.Bidirectional(row.layer(4), "mul")(x, initial_state=states)
    return keras.Model(inputs, x)


def test_a_saved_model_is_the_same(tmp_path):
    model = tagger(BY_NAME["LSTM"])
    randomize(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    expected = np.asarray(model(TOKENS))
    np.testing.assert_array_equal(loaded(TOKENS), expected)
    assert [w.path for w in loaded.weights] == [w.path for w in model.weights]
    for layer, twin in zip(model.layers[2:], loaded.layers[2:], strict=True):
        names = [[w.name for w in one.weights] for one in (layer, twin)]
        assert names[0] == names[1]
        assert twin.forward_layer.name == layer.forward_layer.name
        twin.set_weights(layer.get_weights())
    np.testing.assert_array_equal(loaded(TOKENS), expected)


def test_weights_of_a_loaded_layer_fit_keras(tmp_path):
    ours, builtin = twins(BY_NAME["GRU"], return_sequences=True, dtype="float32")
    inputs = keras.Input((None, 3))
    keras.Model(inputs, ours(inputs)).save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").layers[1]
    x = sequences()
    expected = np.asarray(builtin(x))
    np.testing.assert_allclose(loaded(x), expected, atol=1e-5)
    builtin.set_weights(loaded.get_weights())
    np.testing.assert_allclose(builtin(x), expected, atol=1e-5)


def test_clone_model():
    model = tagger(BY_NAME["LSTM"])
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(clone(TOKENS), model(TOKENS))
    again = keras.models.clone_model(clone)  # of layers that were created from a configuration
    assert again.get_config() == clone.get_config()


# Models.


def test_states_of_an_encoder_start_a_decoder():
    """`return_state` of one is `initial_state` of the next, for Keras tensors, too."""
    x = sequences()
    source, target = keras.Input((None, 3)), keras.Input((None, 3))
    encoder = kerasrnn.Bidirectional(kerasrnn.LSTM(5, return_state=True))
    decoder = kerasrnn.Bidirectional(kerasrnn.LSTM(5, return_sequences=True))
    _, *states = encoder(source)
    model = keras.Model([source, target], decoder(target, initial_state=states))
    _, *finals = encoder(x)
    forward = decoder.forward_layer(x[:, :2], initial_state=finals[:2])
    backward = np.asarray(decoder.backward_layer(x[:, :2], initial_state=finals[2:]))[:, ::-1]
    np.testing.assert_allclose(
        model([x, x[:, :2]]),
        np.concatenate([forward, backward], axis=-1),
        atol=1e-6,
    )


POLICIES = [("mixed_bfloat16", 0.05), ("float16", 0.01)]


@pytest.mark.parametrize(("policy", "tolerance"), POLICIES if FIRST_BACKEND else POLICIES[:1])
def test_half_precision(policy, tolerance):
    x = sequences(time=12, features=10)
    mask = make_mask("right", 4, 12)
    options = {"return_sequences": True, "return_state": True}
    exact = kerasrnn.Bidirectional(kerasrnn.GRU(5, **options), residual=True)
    keras.config.set_dtype_policy(policy)
    # Keras has no orthogonal initializer in half precision.
    layer = kerasrnn.Bidirectional(
        kerasrnn.GRU(5, recurrent_initializer="glorot_uniform", **options), residual=True
    )
    for one in (exact, layer):
        one.build(x.shape)
    layer.set_weights(exact.get_weights())
    actual, expected = (measure(one, x, mask=mask) for one in (layer, exact))
    assert {y.dtype.name for y in actual.outputs} == {layer.compute_dtype}
    for a, b in zip(actual.arrays(), expected.arrays(), strict=True):
        scale = np.abs(b).max()
        np.testing.assert_allclose(np.asarray(a, "float32"), b, atol=tolerance * scale)


def test_outputs_have_the_dtype_of_the_wrapper():
    """As in Keras; symbolic outputs, too."""
    layer = kerasrnn.Bidirectional(kerasrnn.LSTM(5, return_state=True, dtype="mixed_bfloat16"))
    symbolic = [y.dtype for y in layer(keras.Input((6, 3)))]
    actual = [keras.backend.standardize_dtype(y.dtype) for y in layer(sequences())]
    assert symbolic == actual == ["float32"] * 5


# Stateful layers.


@manual_and_automatic
def test_stateful_layers_continue_from_their_last_states(row):
    """Each direction from its own, as in Keras."""
    x = sequences(dtype=PRECISION)
    ours, builtin = twins(row, return_sequences=True, stateful=True)
    assert ours.stateful
    first = np.asarray(ours(x[:, :2]))
    np.testing.assert_allclose(first, builtin(x[:, :2]), atol=TIGHT)
    second = np.asarray(ours(x[:, 2:]))
    np.testing.assert_allclose(second, builtin(x[:, 2:]), atol=TIGHT)
    whole = np.asarray(ours.forward_layer(x, initial_state=_zeros(row)))
    np.testing.assert_allclose(second[:, :, :5], whole[:, 2:], atol=TIGHT)
    ours.reset_state()
    np.testing.assert_allclose(ours(x[:, :2]), first, atol=TIGHT)


def _zeros(row):
    return [np.zeros((4, 5), PRECISION)] * len(row.cell.state_names)


# Masks.


def test_masks_are_passed_on():
    """From an embedding: a padded sequence has the outputs of the sequence without padding."""
    embedding = keras.layers.Embedding(11, 3, mask_zero=True)
    first = kerasrnn.Bidirectional(kerasrnn.LSTM(5, return_sequences=True, return_state=True))
    second = kerasrnn.Bidirectional(kerasrnn.GRU(4, return_sequences=True))
    third = kerasrnn.Bidirectional(kerasrnn.GRU(4))
    padded = third(second(first(embedding(TOKENS[:2]))[0]))
    short = third(second(first(embedding(TOKENS[1:2, :2]))[0]))
    np.testing.assert_allclose(padded[1:], short, atol=1e-6)


def test_attached_masks_are_used_with_initial_states():
    """Keras uses them only if the sequences are the only tensor argument."""
    states = random_states(BY_NAME["LSTM"], dtype="float32")
    layer = kerasrnn.Bidirectional(kerasrnn.LSTM(5, return_sequences=True))
    embedding = keras.layers.Embedding(11, 3, mask_zero=True)
    x = keras.ops.convert_to_numpy(embedding(TOKENS))
    expected = np.asarray(layer(x, initial_state=states, mask=TOKENS != 0))
    actual = np.asarray(layer(embedding(TOKENS), initial_state=states))
    np.testing.assert_array_equal(actual, expected)
    tokens, given = keras.Input((None,), dtype="int32"), [keras.Input((5,)) for _ in states]
    model = keras.Model([tokens, *given], layer(embedding(tokens), initial_state=given))
    np.testing.assert_allclose(model([TOKENS, *states]), expected, atol=1e-6)


def test_compute_mask():
    mask = np.ones((2, 3), bool)
    for options, expected in (
        ({}, None),
        ({"return_sequences": True}, mask),
        ({"return_sequences": True, "return_state": True}, [mask, None, None, None, None]),
    ):
        layer = kerasrnn.Bidirectional(kerasrnn.LSTM(5, **options))
        actual = layer.compute_mask(None, mask)
        assert actual is expected or [*actual] == [*expected]


def test_masked_steps_have_no_effect():
    x, mask = sequences(), make_mask("gapped", 4, 6)
    layer = kerasrnn.Bidirectional(kerasrnn.LSTM(5, return_sequences=True, return_state=True))
    expected = to_list(layer(x, mask=mask))
    x[~mask] = 1e6
    for a, b in zip(to_list(layer(x, mask=mask)), expected, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


# Errors.


def test_unusable_layers():
    for layer, expected in (
        (keras.layers.LSTM(5), "expected kerasrnn.LSTM instead of keras.layers.LSTM"),
        (keras.layers.RNN(keras.layers.LSTMCell(5)), "expected kerasrnn.RNN instead of"),
        (keras.layers.Bidirectional(keras.layers.LSTM(5)), "expected kerasrnn.Bidirectional in"),
        (kerasrnn.LSTMCell(5), r"expected a layer; kerasrnn.RNN\(LSTMCell\(...\)\) makes one"),
        (kerasrnn.LSTM, "expected a kerasrnn recurrent layer"),
        (None, "expected a kerasrnn recurrent layer"),
        (kerasrnn.Bidirectional(kerasrnn.LSTM(5)), "expected a kerasrnn recurrent layer"),
        (kerasrnn.LSTM(5, go_backwards=True), "has go_backwards=True; expected False"),
    ):
        with pytest.raises(ValueError, match=f"layer=.*{expected}"):
            kerasrnn.Bidirectional(layer)


@pytest.mark.parametrize("merge_mode", ["add", None, "Concat"])
def test_unknown_merge_modes(merge_mode):
    expected = f"merge_mode={merge_mode!r}: expected 'concat', 'sum', 'ave' or 'mul'"
    with pytest.raises(ValueError, match=expected):
        kerasrnn.Bidirectional(kerasrnn.LSTM(5), merge_mode=merge_mode)


def test_impossible_residual_connections():
    with pytest.raises(ValueError, match="expected a layer with return_sequences=True"):
        kerasrnn.Bidirectional(kerasrnn.LSTM(5), residual=True)
    for return_state in (False, True):
        rnn = kerasrnn.LSTM(5, return_sequences=True, return_state=return_state)
        layer = kerasrnn.Bidirectional(rnn, residual=True, name="n")
        with pytest.raises(
            ValueError, match="n: residual=True adds 3 features to 10 outputs; expected the same"
        ):
            layer(sequences())


@pytest.mark.parametrize("n", [2, 3, 5])
def test_initial_states_of_the_wrong_length(n):
    layer = kerasrnn.Bidirectional(kerasrnn.LSTM(5), name="n")
    with pytest.raises(
        ValueError, match=rf"n: initial_state has {n} tensors; expected 4: the forward layer's"
    ):
        layer(sequences(), initial_state=[np.zeros((4, 5), "float32")] * n)


def test_shapes_of_sequences_and_masks():
    layer = kerasrnn.Bidirectional(kerasrnn.LSTM(5))
    with pytest.raises(ValueError, match="expected ndim=3"):
        layer(sequences()[0])
    with pytest.raises(ValueError, match="mask has the shape"):
        layer(sequences(), mask=np.ones((4, 5), bool))


def alternating(bidirectional, other):
    """Layers of both kinds in turn: their numbers in a file must not be confused."""
    return keras.Sequential(
        [
            keras.Input((None, 3)),
            bidirectional(kerasrnn.LSTM(2, return_sequences=True)),
            other(kerasrnn.SimpleRNN(2, return_sequences=True)),
            bidirectional(kerasrnn.RNN(kerasrnn.SimpleRNNCell(2))),
        ]
    )


@pytest.mark.parametrize("suffix", ["weights.h5", "keras"])
def test_weight_files_are_interchangeable_with_keras(suffix, tmp_path):
    """In both directions, also for models with layers of both kinds."""
    pair = (kerasrnn.Bidirectional, keras.layers.Bidirectional)
    theirs = alternating(pair[1], pair[1])
    x = sequences()
    every = [(pair[0], pair[0]), pair, pair[::-1]]
    for seed, others in enumerate(every if suffix == "weights.h5" else [pair]):
        model = alternating(*others)
        for n, (source, target) in enumerate([(theirs, model), (model, theirs)]):
            randomize(source, seed=2 * seed + n)
            file = tmp_path / f"{seed}{n}.{suffix}"
            (source.save_weights if suffix == "weights.h5" else source.save)(file)
            target.load_weights(file)
            np.testing.assert_allclose(target(x), source(x), rtol=0, atol=1e-6)
            for a, b in zip(source.get_weights(), target.get_weights(), strict=True):
                np.testing.assert_array_equal(a, b)
