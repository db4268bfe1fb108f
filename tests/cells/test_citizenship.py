"""The layers as citizens of Keras: configuration, saving, wrapping, models, precision, states.

What a cell declares is tested of every cell, and what the layers share of probes.
"""

import contextlib
import functools
import gc
import inspect
import weakref

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn.keras_internals import get_keras_mask
from tests import numpy_models
from tests.catalogue import BUILT_IN, PROBES, ROWS, SURROUNDED, VARIANTS, variant_id
from tests.measure import (
    PRECISION,
    TIGHT,
    assert_same,
    make_mask,
    measure,
    op_by_op,
    passing_masks,
    randomize,
    to_list,
)

rows = pytest.mark.parametrize("row", ROWS, ids=variant_id)
probes = pytest.mark.parametrize("row", PROBES, ids=variant_id)
built_in = pytest.mark.parametrize("row", BUILT_IN, ids=variant_id)

# A value for every argument of a cell; for those that are not named, by the end of the name.
EVERYTHING = {
    "units": 5,
    "activation": "softsign",
    "recurrent_activation": "hard_sigmoid",
    "use_bias": True,
    "unit_forget_bias": False,
    "reset_after": False,
    "epsilon": 0.01,
    "kernel_initializer": keras.initializers.RandomNormal(stddev=0.3, seed=1),
    "recurrent_initializer": keras.initializers.RandomUniform(-0.4, 0.4, seed=2),
    "bias_initializer": "ones",
    "kernel_regularizer": keras.regularizers.L2(0.1),
    "recurrent_regularizer": keras.regularizers.L1(0.2),
    "bias_regularizer": keras.regularizers.L2(0.3),
    "kernel_constraint": keras.constraints.MaxNorm(1.5),
    "recurrent_constraint": keras.constraints.UnitNorm(),
    "bias_constraint": keras.constraints.NonNeg(),
    "dropout": 0.1,
    "recurrent_dropout": 0.2,
    "seed": 3,
}
OF_ANY_WEIGHT = {
    "initializer": keras.initializers.RandomNormal(stddev=0.3, seed=3),
    "regularizer": keras.regularizers.L2(0.5),
    "constraint": keras.constraints.NonNeg(),
}
EVERYTHING_OF_A_LAYER = {
    "activity_regularizer": keras.regularizers.L2(0.4),
    "return_sequences": True,
    "return_state": True,
    "go_backwards": True,
    "unroll": True,
    "zero_output_for_mask": True,
    "name": "a_name",
    "dtype": "mixed_bfloat16",
}

# Keras's SimpleRNN leaves the first out of its configuration until 3.16, and the second always,
# which it does not apply either.
FORGOTTEN_BY_KERAS = {
    "seed": 3,
    "activity_regularizer": keras.regularizers.serialize(keras.regularizers.L2(0.4)),
}


def sequences(batch=4, time=6, features=3, dtype="float32", seed=0):
    return np.random.default_rng(seed).standard_normal((batch, time, features)).astype(dtype)


@functools.cache
def specimen(row):
    """A layer with random weights, which no test changes: a loop that one has traced is there for
    the next."""
    layer = row.layer(5, return_sequences=True, return_state=True, dtype="float32")
    layer.build((4, None, 3))
    randomize(layer)
    return layer


def everything(row):
    """A value for every argument of the row's cell."""
    return {
        name: EVERYTHING[name] if name in EVERYTHING else OF_ANY_WEIGHT[name.rpartition("_")[2]]
        for name in row.cell.arguments()
    }


# Constructors and configurations.


@built_in
def test_the_constructors_are_kerass(row):
    """The same arguments, order and defaults; ours alone are keyword-only."""
    for ours, builtin in ((row.layer, row.keras_layer), (row.cell, row.keras_cell)):
        expected = {
            name: parameter.default
            for name, parameter in inspect.signature(builtin).parameters.items()
        }
        actual = {
            name: parameter.default
            for name, parameter in inspect.signature(ours).parameters.items()
            if parameter.kind is not parameter.KEYWORD_ONLY
        }
        assert list(actual.items()) == list(expected.items())


@rows
def test_positional_arguments_reach_their_places(row):
    """Keras's layer puts them where ours does; so do their names."""
    names = [
        name
        for name, parameter in inspect.signature(row.keras_layer or row.layer).parameters.items()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    values = {**everything(row), **EVERYTHING_OF_A_LAYER, "stateful": False, "use_cudnn": False}
    config = row.layer(*(values[name] for name in names), name="n").get_config()
    assert config == row.layer(**{name: values[name] for name in names}, name="n").get_config()
    if row.keras_layer is not None:
        builtin = row.keras_layer(*(values[name] for name in names), name="n")
        assert config == {**builtin.get_config(), **FORGOTTEN_BY_KERAS}
    for name, parameter in row.cell.arguments().items():
        assert values[name] != parameter.default or name == "use_bias"


@pytest.mark.parametrize(
    ("row", "variant"), [(r, v) for r, v in VARIANTS if r in BUILT_IN], ids=variant_id
)
def test_configurations_are_kerass(row, variant):
    ours, builtin = (layer(5, **variant, name="n") for layer in (row.layer, row.keras_layer))
    assert ours.get_config() == {"seed": None, **builtin.get_config()}
    ours, builtin = (cell(5, **variant, name="n") for cell in (row.cell, row.keras_cell))
    assert {**ours.get_config(), "seed": None} == {**builtin.get_config(), "seed": None}


@rows
def test_configurations_go_round(row):
    layer = row.layer(**everything(row), **EVERYTHING_OF_A_LAYER, jit_compile=False)
    config = layer.get_config()
    assert config["jit_compile"] is False
    assert row.layer.from_config(config).get_config() == config
    serialized = keras.saving.serialize_keras_object(layer)
    assert serialized["registered_name"] == f"kerasrnn>{row.name}"
    assert keras.saving.deserialize_keras_object(serialized).get_config() == config
    cell = row.cell(**everything(row), implementation=1)
    assert row.cell.from_config(cell.get_config()).get_config() == cell.get_config()


@built_in
def test_configurations_cross_over(row):
    """Keras's layer is made from ours, and ours from Keras's."""
    options = {**everything(row), **EVERYTHING_OF_A_LAYER}
    ours, builtin = row.layer(**options), row.keras_layer(**options)
    config = {**builtin.get_config(), **FORGOTTEN_BY_KERAS}
    assert row.layer.from_config(config).get_config() == ours.get_config()
    again = row.keras_layer.from_config(ours.get_config())
    assert {**again.get_config(), **FORGOTTEN_BY_KERAS} == config


@rows
def test_the_implementation_of_old_configurations(row):
    """0, of Keras 1 and 2, is 1: one mask of the inputs a gate, and the same outputs."""
    config = row.layer(5, dropout=0.5, seed=1, name="n").get_config()
    old, new = (row.layer.from_config({**config, "implementation": n}) for n in (0, 1))
    assert old.get_config() == new.get_config() == {**config, "implementation": 1}
    old.build((None, None, 3))
    new.build((None, None, 3))
    new.set_weights(old.get_weights())
    x = sequences()
    with op_by_op():
        np.testing.assert_array_equal(old(x), new(x))
        np.testing.assert_array_equal(old(x, training=True), new(x, training=True))
    cell = row.cell.from_config({**old.cell.get_config(), "implementation": 0})
    assert len(cell.get_dropout_mask(keras.ops.ones((2, 3)))) == len(row.cell.gates)


@rows
def test_arguments_are_attributes(row):
    layer = row.layer(**everything(row))
    for name in row.cell.arguments():
        assert getattr(layer, name) is getattr(layer.cell, name)
    assert layer.units == 5
    assert layer.dropout == 0.1
    assert layer.kernel_regularizer.l2 == pytest.approx(0.1)


@built_in
def test_weights_have_kerass_names_paths_and_order(row):
    names = []
    for layer_class in (row.layer, row.keras_layer):
        layer = layer_class(5, name="n")
        layer.build((None, None, 3))
        names.append([(w.path, tuple(w.shape), str(w.dtype)) for w in layer.weights])
    assert names[0] == names[1]


# Saving.


def tagger(layer_class, **options):
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(11, 3, mask_zero=True),
            layer_class(5, return_sequences=True, **options, name="first"),
            layer_class(4, **options, name="second"),
            keras.layers.Dense(2),
        ]
    )


TOKENS = np.array([[1, 2, 3, 4], [5, 6, 0, 0], [0, 0, 7, 8], [0, 0, 0, 0]], "int32")


def computed(model):
    with op_by_op():
        return keras.ops.convert_to_numpy(model(TOKENS))


@functools.cache
def random_tagger(row):
    """With random weights, which no test changes."""
    model = tagger(row.layer, dropout=0.1)
    randomize(model)
    return model


@rows
def test_a_saved_model_is_the_same_model(row, tmp_path):
    model = random_tagger(row)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(computed(loaded), computed(model))
    if row in PROBES:
        actual, expected = (each.predict(TOKENS, verbose=0) for each in (loaded, model))
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize(
    ("row", "variant"), [(r, v) for r, v in VARIANTS if r in BUILT_IN and v], ids=variant_id
)
def test_a_saved_variant_is_the_same_variant(row, variant, tmp_path):
    model = tagger(row.layer, **variant)
    randomize(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(computed(loaded), computed(model))


@built_in
def test_weight_files_cross_over(row, tmp_path):
    ours, builtin = tagger(row.layer), tagger(row.twin)
    builtin.save_weights(tmp_path / "builtin.weights.h5")
    ours.load_weights(tmp_path / "builtin.weights.h5")
    expected = computed(builtin)
    np.testing.assert_allclose(computed(ours), expected, atol=1e-6)
    ours.save_weights(tmp_path / "ours.weights.h5")
    again = tagger(row.twin)
    again.load_weights(tmp_path / "ours.weights.h5")
    np.testing.assert_allclose(computed(again), expected, atol=1e-6)


def test_loading_without_kerasrnn_names_it(tmp_path, monkeypatch):
    """As if it were not imported. Keras imports no other package by itself; README says so."""
    tagger(kerasrnn.LSTM).save(tmp_path / "model.keras")
    monkeypatch.delitem(keras.saving.get_custom_objects(), "kerasrnn>LSTM")
    message = r"Could not locate class 'LSTM'\..*: \{'module': 'kerasrnn\."
    with pytest.raises(TypeError, match=message):
        keras.saving.load_model(tmp_path / "model.keras")


@rows
def test_clone_model(row):
    model = random_tagger(row)
    clone = keras.models.clone_model(model)
    assert clone.get_config() == model.get_config()
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(computed(clone), computed(model))


# Models of every style, and wrappers.


@pytest.mark.parametrize("row", SURROUNDED, ids=variant_id)
def test_inside_keras_bidirectional(row):
    x = sequences(dtype=PRECISION)
    for return_sequences, kind in ((True, "mixed"), (False, "none")):
        options = {"return_sequences": return_sequences, "return_state": True, "dtype": PRECISION}
        ours, twin = (
            passing_masks(keras.layers.Bidirectional(make(5, **options), dtype=PRECISION))
            for make in (row.layer, row.twin)
        )
        ours.build(x.shape)
        twin.build(x.shape)
        randomize(ours)
        twin.set_weights(ours.get_weights())
        mask = make_mask(kind, 4, 6)
        assert_same(measure(ours, x, mask=mask), measure(twin, x, mask=mask), TIGHT)


@built_in
def test_cells_inside_keras_rnn_and_stacked_cells(row):
    x = sequences(dtype=PRECISION)
    mask = make_mask("gapped", 4, 6)
    for wrap in (lambda cell: cell(5, dtype=PRECISION), lambda cell: [cell(5), cell(4)]):
        keras.config.set_dtype_policy(PRECISION)
        ours, builtin = (
            passing_masks(keras.layers.RNN(wrap(cell), return_sequences=True, return_state=True))
            for cell in (row.cell, row.keras_cell)
        )
        for layer in (ours, builtin):
            layer.build(x.shape)
        ours.set_weights(builtin.get_weights())
        results = [to_list(layer(x, mask=mask)) for layer in (ours, builtin)]
        for a, b in zip(*(keras.tree.flatten(r) for r in results), strict=True):
            np.testing.assert_allclose(a, b, atol=TIGHT)


@built_in
def test_dropout_inside_keras_rnn_and_stacked_cells(row):
    """Keras draws one mask a sequence for our cells as for its own."""
    x = sequences(dtype=PRECISION)
    keras.config.set_dtype_policy(PRECISION)
    options = {"dropout": 0.3, "recurrent_dropout": 0.3}
    ours, builtin = (
        keras.layers.RNN([cell(5, seed=1, **options), cell(4, seed=2, **options)])
        for cell in (row.cell, row.keras_cell)
    )
    for layer in (ours, builtin):
        layer.build(x.shape)
    ours.set_weights(builtin.get_weights())
    np.testing.assert_allclose(ours(x, training=True), builtin(x, training=True), atol=TIGHT)


@probes
def test_our_rnn_runs_any_cell(row):
    """`kerasrnn.RNN` of our cell is our layer; of Keras's cell, Keras's loop."""
    x = sequences()
    layer = row.layer(5, return_sequences=True)
    layer.build(x.shape)
    randomize(layer)
    expected = layer(x)
    for cell in (row.cell(5), *([row.keras_cell(5)] if row.keras_cell else [])):
        rnn = kerasrnn.RNN(cell, return_sequences=True)
        rnn.build(x.shape)
        rnn.set_weights(layer.get_weights())
        np.testing.assert_allclose(rnn(x), expected, atol=1e-6)
        again = kerasrnn.RNN.from_config(rnn.get_config())
        assert again.get_config() == rnn.get_config()


@probes
def test_a_list_of_cells_is_a_stack_of_layers(row):
    """Keras's loop steps through `StackedRNNCells`; our layers run one after the other."""
    x = sequences()
    first, second = row.layer(5, return_sequences=True), row.layer(4, return_sequences=True)
    first.build(x.shape)
    second.build((*x.shape[:2], 5))
    randomize(first)
    randomize(second, seed=2)
    stacked = kerasrnn.RNN([row.cell(5), row.cell(4)], return_sequences=True)
    stacked.build(x.shape)
    stacked.set_weights([*first.get_weights(), *second.get_weights()])
    np.testing.assert_allclose(stacked(x), second(first(x)), atol=1e-6)


@rows
def test_a_cell_takes_its_states_with_or_without_a_list(row):
    cell = row.cell(5)
    x, states = sequences()[:, 0], cell.get_initial_state(4)
    output, new = cell(x, states)
    assert isinstance(new, list)
    assert len(new) == len(row.cell.state_names)
    np.testing.assert_array_equal(output, new[0])
    if len(states) == 1:
        np.testing.assert_array_equal(cell(x, states[0])[1], new[0])


@rows
def test_stepping_the_cell_is_running_the_layer(row):
    x, layer = sequences(), specimen(row)
    expected, *finals = layer(x)
    assert [tuple(y.shape) for y in (expected, *finals)] == [
        tuple(shape) for shape in layer.compute_output_shape(x.shape)
    ]
    states = layer.cell.get_initial_state(4)
    for t in range(x.shape[1]):
        output, states = layer.cell(x[:, t], states)
        np.testing.assert_allclose(output, expected[:, t], atol=1e-6)
    for state, final in zip(states, finals, strict=True):
        np.testing.assert_allclose(state, final, atol=1e-6)


@probes
def test_inside_time_distributed(row):
    x = np.random.default_rng(0).standard_normal((2, 4, 6, 3)).astype("float32")
    layer = row.layer(5)
    distributed = keras.layers.TimeDistributed(layer)
    np.testing.assert_allclose(np.asarray(distributed(x))[:, 1], layer(x[:, 1]), atol=1e-6)


@probes
def test_functional_sequential_and_subclassed_models_agree(row):
    x = sequences()
    layer = row.layer(5, return_sequences=True)
    inputs = keras.Input((None, 3))  # symbolic batch and time
    functional = keras.Model(inputs, layer(inputs))
    assert functional.output_shape == (None, None, 5)
    sequential = keras.Sequential([layer])

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def call(self, x):
            return self.layer(x)

    expected = np.asarray(layer(x))
    for model in (functional, sequential, Subclassed()):
        np.testing.assert_allclose(model.predict(x, verbose=0), expected, atol=1e-6)
        np.testing.assert_allclose(model.predict(x[:3, :4], verbose=0), expected[:3, :4], atol=1e-6)


@probes
def test_symbolic_initial_states(row):
    """States as Keras tensors: an encoder's final states start a decoder."""
    x = sequences()
    n = len(row.cell.state_names)
    source, target = keras.Input((None, 3)), keras.Input((None, 3))
    encoder, decoder = row.layer(5, return_state=True), row.layer(5, return_sequences=True)
    _, *states = encoder(source)
    model = keras.Model([source, target], decoder(target, initial_state=states))
    assert len(states) == n
    eager = decoder(x[:, :2], initial_state=encoder(x)[1:])
    np.testing.assert_allclose(model.predict([x, x[:, :2]], verbose=0), eager, atol=1e-6)
    if n == 1:
        one = decoder(x[:, :2], initial_state=encoder(x)[1])
        np.testing.assert_array_equal(np.asarray(one), np.asarray(eager))


@probes
def test_output_shapes_and_dtypes_are_what_is_computed(row):
    x = sequences()
    for return_sequences in (True, False):
        for return_state in (True, False):
            layer = row.layer(5, return_sequences=return_sequences, return_state=return_state)
            shapes = [layer.compute_output_shape(x.shape)]
            if return_state:
                shapes = list(shapes[0])
            outputs = to_list(layer(x))
            assert [tuple(y.shape) for y in outputs] == [tuple(s) for s in shapes]


# Precision.


@rows
def test_half_precision(row):
    """The steps of every cell, operation by operation; the loop around probes."""
    x = sequences(time=20)
    exact = row.layer(5, return_sequences=True, **row.steady)
    exact.build(x.shape)
    with op_by_op():
        expected = measure(exact, x)
    policies = {
        "mixed_bfloat16": 0.05,
        "mixed_float16": 0.01,
        # Of every weight; what a cell computes is the same.
        **({"float16": 0.01, "bfloat16": 0.05} if row in PROBES[:1] else {}),
    }
    for policy, tolerance in policies.items():
        # Keras has no orthogonal initializer in half precision.
        layer = row.layer(
            5,
            return_sequences=True,
            dtype=policy,
            recurrent_initializer="glorot_uniform",
            **row.steady,
        )
        layer.build(x.shape)
        layer.set_weights(exact.get_weights())
        with contextlib.nullcontext() if row in PROBES else op_by_op():
            actual = measure(layer, x)
        assert actual.outputs[0].dtype.name == layer.compute_dtype
        for a, b in zip(actual.arrays(), expected.arrays(), strict=True):
            scale = np.abs(b).max()
            np.testing.assert_allclose(
                np.asarray(a, "float32"), b, atol=tolerance * scale, err_msg=policy
            )


# Stateful layers.


@probes
def test_stateful_layers_go_on_where_they_ended(row):
    x = sequences(dtype=PRECISION)
    options = {"return_sequences": True, "dtype": PRECISION}
    whole = row.layer(5, **options)
    expected = np.asarray(whole(x))
    layer = row.layer(5, stateful=True, **options)
    layer.build((4, None, 3))
    layer.set_weights(whole.get_weights())
    first, second = np.asarray(layer(x[:, :2])), np.asarray(layer(x[:, 2:]))
    np.testing.assert_allclose(np.concatenate([first, second], 1), expected, atol=TIGHT)
    layer.reset_state()
    np.testing.assert_allclose(layer(x[:, :2]), first, atol=TIGHT)
    with pytest.raises(ValueError, match="batch size"):
        layer(x[:3])
    with pytest.raises(ValueError, match="batch size must be static"):
        row.layer(5, stateful=True).build((None, None, 3))


@pytest.mark.tensorflow  # Keras's trainer on JAX carries no states from batch to batch
def test_stateful_models_train_and_predict():
    x = sequences()
    layer = kerasrnn.LSTM(5, stateful=True)
    model = keras.Sequential([keras.Input(batch_shape=(4, None, 3)), layer, keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(x, np.zeros((4, 1)), batch_size=4, epochs=2, verbose=0, shuffle=False)
    states = [np.asarray(s) for s in model.layers[0].states]
    assert all(np.abs(s).max() > 0 for s in states)
    first = model.predict(x, batch_size=4, verbose=0)
    assert np.abs(first - model.predict(x, batch_size=4, verbose=0)).max() > 1e-6
    model.layers[0].reset_state()
    assert all(np.abs(np.asarray(s)).max() == 0 for s in model.layers[0].states)


# Masks.


@pytest.mark.parametrize("keras_drops_masks", [False, True])
@probes
def test_masks_are_passed_on(row, keras_drops_masks, monkeypatch):
    """From Embedding through a stack; also when Keras's RNN stops supporting masks, as in 3.16."""
    if keras_drops_masks:
        original = keras.layers.RNN.__init__

        def without_masks(self, *args, **kwargs):
            original(self, *args, **kwargs)
            self.supports_masking = False

        monkeypatch.setattr(keras.layers.RNN, "__init__", without_masks)
        monkeypatch.delattr(keras.layers.RNN, "compute_mask")
    embedding = keras.layers.Embedding(11, 3, mask_zero=True)
    first, second = row.layer(5, return_sequences=True), row.layer(4)
    padded = second(first(embedding(TOKENS[:2])))
    short = second(first(embedding(TOKENS[1:2, :2])))
    np.testing.assert_allclose(padded[1:], short, atol=1e-6)


def test_a_stack_above_padding_is_exact():
    """Beside the NumPy oracles, with gaps; Keras's own layers lose the mask from 3.16 on."""
    ids = np.array([[1, 0, 3, 4, 0], [5, 6, 0, 0, 0], [0, 0, 7, 8, 9], [0, 0, 0, 0, 0]])
    layers = [
        keras.layers.Embedding(11, 3, mask_zero=True),
        kerasrnn.LSTM(4, return_sequences=True),
        kerasrnn.Bidirectional(kerasrnn.GRU(3, return_sequences=True)),
        kerasrnn.StackedRNN([kerasrnn.SimpleRNN(6), kerasrnn.LSTM(6)], residual=True),
    ]
    model = keras.Sequential([keras.Input((None,), dtype="int32"), *layers])
    randomize(model)
    x, mask = np.asarray(layers[0](ids)), ids != 0
    for layer in layers[1:]:
        x, _, _ = numpy_models.run(layer, x, mask)
    np.testing.assert_allclose(model(ids), x[:, -1], rtol=0, atol=1e-5)


@probes
def test_masks_that_come_with_the_sequences_hold_with_initial_states_too(row):
    """Keras forgets them there; a decoder is given states and padded targets at once."""
    states = [np.full((4, 5), 0.5, "float32") for _ in row.cell.state_names]
    embedding = keras.layers.Embedding(11, 3, mask_zero=True)
    layer = row.layer(5, return_sequences=True)
    expected = np.asarray(layer(embedding(TOKENS), initial_state=states, mask=TOKENS != 0))
    eager = np.asarray(layer(embedding(TOKENS), initial_state=states))
    np.testing.assert_array_equal(eager, expected)
    tokens = keras.Input((None,), dtype="int32")
    inputs = [keras.Input((5,)) for _ in states]
    model = keras.Model([tokens, *inputs], layer(embedding(tokens), initial_state=inputs))
    np.testing.assert_allclose(model.predict([TOKENS, *states], verbose=0), expected, atol=1e-6)


@probes
def test_masking_layers_and_hand_made_masks_agree(row):
    x = sequences()
    mask = make_mask("gapped", 4, 6)
    x[~mask] = 0
    layer = specimen(row)
    expected = np.asarray(layer(x, mask=mask)[0])
    masked = keras.layers.Masking(0.0)(x)
    np.testing.assert_array_equal(np.asarray(layer(masked)[0]), expected)
    for other in (mask.astype("int32"), mask.astype("float32")):
        np.testing.assert_array_equal(np.asarray(layer(x, mask=other)[0]), expected)


@rows
def test_masked_steps_do_not_reach_the_result(row):
    x = sequences()
    mask = make_mask("gapped", 4, 6)
    layer = specimen(row)
    expected = to_list(layer(x, mask=mask))
    x[~mask] = 1e6
    for a, b in zip(to_list(layer(x, mask=mask)), expected, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@rows
def test_compute_mask(row):
    mask = np.ones((2, 3), bool)
    n = len(row.cell.state_names)
    assert row.layer(5).compute_mask(None, mask) is None
    assert row.layer(5, return_sequences=True).compute_mask(None, mask) is mask
    layer = row.layer(5, return_sequences=True, return_state=True)
    assert layer.compute_mask(None, [mask, None]) == [mask] + [None] * n


@pytest.mark.parametrize("return_state", [False, True])
def test_the_mask_of_outputs_in_reverse_is_in_reverse(return_state):
    """On ids [1, 2, 0, 0] the outputs are [0, 0, y_1, y_0]."""
    embedding = keras.layers.Embedding(11, 3, mask_zero=True)
    options = {"go_backwards": True, "return_sequences": True}
    layer = kerasrnn.GRU(5, **options, return_state=return_state)
    y = keras.tree.flatten(layer(embedding(TOKENS)))[0]
    mask = np.asarray(get_keras_mask(y))
    np.testing.assert_array_equal(mask, (TOKENS != 0)[:, ::-1])
    # The layer above reads the steps that were used, and they alone.
    above = kerasrnn.LSTM(4)
    actual = np.asarray(above(y))
    for row, ids in enumerate(TOKENS[:3]):
        used = layer(embedding(ids[None, ids != 0]))
        expected = above(keras.tree.flatten(used)[0])
        np.testing.assert_allclose(actual[row : row + 1], expected, atol=1e-6)
    assert kerasrnn.GRU(5, go_backwards=True).compute_mask(None, TOKENS != 0) is None


# Regularizers, constraints, dropout.


@rows
def test_penalties_and_constraints(row):
    x = sequences()
    options = {**everything(row), "dropout": 0.0, "recurrent_dropout": 0.0}
    options["activity_regularizer"] = keras.regularizers.L2(0.4)
    ours, twin = row.layer(**options), row.twin(**options)
    with op_by_op():
        y = np.asarray(ours(x))
        twin(x)
    penalties = [[float(loss) for loss in layer.losses] for layer in (ours, twin)]
    regularized = [name for name in options if name.endswith("_regularizer")]
    assert len(penalties[0]) == len(regularized) >= 4
    # Keras's SimpleRNN does not apply its activity regularizer, the first of ours.
    np.testing.assert_allclose(penalties[0][-len(penalties[1]) :], penalties[1], rtol=1e-5)
    np.testing.assert_allclose(penalties[0][0], 0.4 * np.sum(y**2) / len(x), rtol=1e-4)
    model = keras.Sequential([ours, keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(10.0), "mse", jit_compile=False)
    with op_by_op():
        model.train_on_batch(x, np.ones((4, 1)))
    weights = {w.name.removesuffix("_kernel"): w.numpy() for w in ours.weights}
    assert np.linalg.norm(weights["kernel"], axis=0).max() <= 1.5 + 1e-5
    np.testing.assert_allclose(np.linalg.norm(weights["recurrent"], axis=0), 1, atol=1e-5)
    for name in options:
        of, _, end = name.rpartition("_")
        if end == "constraint" and of not in ("kernel", "recurrent"):
            assert weights[of].min() >= 0


@probes
def test_inference_leaves_the_random_state_alone(row):
    x = sequences()
    layer = row.layer(5, dropout=0.5, recurrent_dropout=0.5, seed=1)
    state = np.asarray(layer.cell.seed_generator.state)
    first = np.asarray(layer(x))
    np.testing.assert_array_equal(np.asarray(layer(x)), first)
    np.testing.assert_array_equal(np.asarray(layer.cell.seed_generator.state), state)
    one, two = (np.asarray(layer(x, training=True)) for _ in range(2))
    assert np.abs(one - two).max() > 1e-3


def test_dropout_masks_are_the_same_at_every_step():
    """With a constant input, an activation that is linear and no recurrence, so is the output."""
    layer = kerasrnn.SimpleRNN(
        5,
        activation=None,
        dropout=0.5,
        seed=1,
        recurrent_initializer="zeros",
        return_sequences=True,
    )
    y = np.asarray(layer(np.ones((3, 4, 6), "float32"), training=True))
    np.testing.assert_allclose(y, np.broadcast_to(y[:, :1], y.shape), atol=1e-6)
    assert np.abs(y[0] - y[1]).max() > 1e-3


@probes
def test_a_layer_is_freed_with_its_compiled_loops(row):
    layer = row.layer(5)
    layer(sequences())
    reference = weakref.ref(layer.cell)
    del layer
    gc.collect()
    assert reference() is None


@pytest.mark.tensorflow
@pytest.mark.parametrize("training", [False, True])
def test_half_precision_adds_up_in_float32(training):
    """A cell state that gains a little at every step would stand still in bfloat16."""
    steps, gain = 800, 0.01
    finals = []
    for layer_class in (kerasrnn.LSTM, keras.layers.LSTM):
        layer = layer_class(1, return_state=True, dtype="mixed_bfloat16")
        layer.build((None, None, 1))
        # Gates i and f are one, the candidate is tanh(gain), whatever the input.
        layer.set_weights([np.zeros((1, 4)), np.zeros((1, 4)), np.array([40, 40, gain, 0.0])])
        _, _, c = layer(np.zeros((1, steps, 1), "float32"), training=training)
        finals.append(float(keras.ops.cast(c, "float32")[0, 0]))
    ours, builtin = finals
    expected = steps * np.tanh(gain)
    assert abs(ours - expected) < 0.01 * expected
    assert abs(builtin - expected) > 0.1 * expected
