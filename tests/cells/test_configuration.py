"""Constructors, attributes, configurations, penalties: what follows from a cell's declarations."""

import inspect

import keras
import numpy as np
import pytest

import kerasrnn
from tests.catalogue import BUILT_IN, ROWS, ROWS_OR_PROBES, VARIANTS, variant_id
from tests.measure import op_by_op

rows = pytest.mark.parametrize("row", ROWS, ids=variant_id)
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
    "backbone_activation": "relu",
    "time_column": True,
    "gamma": 1.5,
    "heads": 5,
    "groups": 5,
    "blocks": 5,
    "beta": 0.5,
    "normalization": "batch",
    "momentum": 0.9,
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
# Of every cell; Keras has none of them.
OPTIONS = {"zoneout": 0.1, "weight_drop": 0.3, "recurrent_parametrization": "exponential"}
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


def everything(row):
    """A value for every argument of the row's cell but the options; from its first variant that
    names it."""
    variants = {name: value for variant in row.variants[::-1] for name, value in variant.items()}
    known = {**variants, **EVERYTHING}
    return {
        name: known[name] if name in known else OF_ANY_WEIGHT[name.rpartition("_")[2]]
        for name, parameter in row.cell.arguments().items()
        if parameter.kind is not parameter.KEYWORD_ONLY
    }


def options_of(row):
    """A value for each of the options that the cell has."""
    names = row.cell.arguments().keys() - everything(row).keys()
    cell = row.cell(**everything(row))
    square = cell.recurrent_kernel_shape == (5, 5 * len(cell.recurrent_gates))
    if not square or row.cell.recurrent_matrices is not kerasrnn.Cell.recurrent_matrices:
        names -= {"recurrent_parametrization"}
    return {name: OPTIONS[name] for name in names}


@built_in
def test_constructors_equal_the_builtin_ones(row):
    """The same arguments, order and defaults; additional ones are keyword-only."""
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
def test_positional_arguments(row):
    """They have the same effect as keyword arguments, and as in Keras's layer."""
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
        assert {**values, **OPTIONS}[name] != parameter.default or name == "use_bias"


@pytest.mark.parametrize(
    ("row", "variant"), [(r, v) for r, v in VARIANTS if r in BUILT_IN], ids=variant_id
)
def test_configurations_equal_the_builtin_ones(row, variant):
    ours, builtin = (layer(5, **variant, name="n") for layer in (row.layer, row.keras_layer))
    assert ours.get_config() == {"seed": None, **builtin.get_config()}
    ours, builtin = (cell(5, **variant, name="n") for cell in (row.cell, row.keras_cell))
    assert {**ours.get_config(), "seed": None} == {**builtin.get_config(), "seed": None}


@rows
def test_configurations_round_trip(row):
    options = options_of(row)
    layer = row.layer(**everything(row), **options, **EVERYTHING_OF_A_LAYER, jit_compile=False)
    config = layer.get_config()
    assert config["jit_compile"] is False
    assert {name: config[name] for name in options} == options
    assert not options.keys() & row.layer(5).get_config().keys()
    assert row.layer.from_config(config).get_config() == config
    serialized = keras.saving.serialize_keras_object(layer)
    assert serialized["registered_name"] == f"kerasrnn>{row.name}"
    assert keras.saving.deserialize_keras_object(serialized).get_config() == config
    cell = row.cell(**everything(row), **options, implementation=1)
    assert row.cell.from_config(cell.get_config()).get_config() == cell.get_config()


@built_in
def test_configurations_are_interchangeable_with_the_builtin_ones(row):
    options = {**everything(row), **EVERYTHING_OF_A_LAYER}
    ours, builtin = row.layer(**options), row.keras_layer(**options)
    config = {**builtin.get_config(), **FORGOTTEN_BY_KERAS}
    assert row.layer.from_config(config).get_config() == ours.get_config()
    again = row.keras_layer.from_config(ours.get_config())
    assert {**again.get_config(), **FORGOTTEN_BY_KERAS} == config


@built_in
def test_the_implementation_of_old_configurations(row):
    """0, of Keras 1 and 2, is 1: one mask of the inputs for each gate."""
    config = row.layer(5, dropout=0.5, seed=1, name="n").get_config()
    old = row.layer.from_config({**config, "implementation": 0})
    assert old.get_config() == {**config, "implementation": 1}
    cell = row.cell.from_config({**old.cell.get_config(), "implementation": 0})
    assert len(cell.get_dropout_mask(keras.ops.ones((2, 3)))) == len(row.cell.gates)


@rows
def test_arguments_are_attributes(row):
    layer = row.layer(**everything(row))
    for name in row.cell.arguments():
        assert getattr(layer, name) is getattr(layer.cell, name)
    assert layer.units == 5
    assert layer.dropout == 0.1
    if "kernel_regularizer" in row.cell.arguments():
        assert layer.kernel_regularizer.l2 == pytest.approx(0.1)


@built_in
def test_weights_have_the_names_paths_and_order_of_the_builtin_ones(row):
    names = []
    for layer_class in (row.layer, row.keras_layer):
        layer = layer_class(5, name="n")
        layer.build((None, None, 3))
        names.append([(w.path, tuple(w.shape), str(w.dtype)) for w in layer.weights])
    assert names[0] == names[1]


TRAINED = [row for row in ROWS_OR_PROBES if "kernel_constraint" in row.cell.arguments()]


@pytest.mark.parametrize("row", TRAINED, ids=variant_id)
def test_penalties_and_constraints(row):
    x = np.random.default_rng(0).standard_normal((4, 2, 3)).astype("float32")
    options = everything(row) | row.with_arguments(dropout=0.0, recurrent_dropout=0.0)
    options["activity_regularizer"] = keras.regularizers.L2(0.4)
    ours, twin = row.layer(**options), row.twin(**options)
    ours.build(x.shape)
    twin.build(x.shape)
    twin.set_weights(ours.get_weights())  # some have initializers that are not arguments
    with op_by_op():
        y = np.asarray(ours(x))
        twin(x)
    penalties = [[float(loss) for loss in layer.losses] for layer in (ours, twin)]
    regularized = [name for name in options if name.endswith("_regularizer")]
    assert len(penalties[0]) >= len(regularized) >= 3  # one may apply to several weights
    # Keras's SimpleRNN does not apply its activity regularizer, the first of ours.
    np.testing.assert_allclose(penalties[0][-len(penalties[1]) :], penalties[1], rtol=1e-5)
    np.testing.assert_allclose(penalties[0][0], 0.4 * np.sum(y**2) / len(x), rtol=1e-4)
    gradients = [keras.ops.ones(w.shape) * np.sign(w.numpy() + 1e-3) for w in ours.weights]
    keras.optimizers.SGD(10.0).apply(gradients, ours.weights)
    weights = {w.name.removesuffix("_kernel"): w.numpy() for w in ours.weights}
    assert np.linalg.norm(weights["kernel"], axis=0).max() <= 1.5 + 1e-5
    if "recurrent" in weights:
        np.testing.assert_allclose(np.linalg.norm(weights["recurrent"], axis=0), 1, atol=1e-5)
    for name in options:
        of, _, end = name.rpartition("_")
        if end == "constraint" and of not in ("kernel", "recurrent"):
            assert weights[of].min() >= 0
