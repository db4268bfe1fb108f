"""The numbers of every layer: against the built-in layers and the NumPy oracles.

A layer's twin is the built-in one, or Keras's own loop around our cell where there is none. The
options of the loop are tested on probes; what a cell computes, operation by operation, for all.
"""

import contextlib
import inspect

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kerasrnn
from tests.catalogue import (
    ACTIVATIONS,
    BUILT_IN,
    BY_NAME,
    MANUAL_AND_AUTOMATIC,
    PROBES,
    ROWS,
    VARIANTS,
    Row,
    variant_id,
)
from tests.measure import (
    FIRST_BACKEND,
    MASKS,
    PRECISION,
    TIGHT,
    TRAINING,
    assert_same,
    assert_same_outputs,
    make_mask,
    measure,
    op_by_op,
    randomize,
    to_list,
)
from tests.oracles import complex_step
from tests.oracles import loop as oracle_loop
from tests.oracles.activations import relu, sigmoid

TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
NUMPY_ACTIVATIONS = {
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "relu": relu,
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    None: lambda x: x,
}
rows = pytest.mark.parametrize("row", ROWS, ids=variant_id)
probes = pytest.mark.parametrize("row", PROBES, ids=variant_id)
built_in = pytest.mark.parametrize("row", BUILT_IN, ids=variant_id)


def twins(row: Row, **options) -> tuple[kerasrnn.RNN, keras.layers.RNN]:
    """Our layer and its twin, with the same random weights."""
    ours, twin = row.layer(5, **options), row.twin(5, **options)
    ours.build((None, None, 3))
    twin.build((None, None, 3))
    randomize(ours)
    twin.set_weights(ours.get_weights())
    return ours, twin


def make_inputs(batch: int, time: int, features: int, units: int, n_states: int, seed: int = 0):
    random = np.random.default_rng(seed)
    x = random.standard_normal((batch, time, features))
    return x, [random.standard_normal((batch, units)) for _ in range(n_states)]


def oracle_options(row: Row, layer: kerasrnn.RNN) -> dict:
    """What the oracle's step is told of the layer's configuration."""
    config = layer.get_config()
    options = {name: config[name] for name in row.oracle_options}
    for name in ACTIVATIONS:
        if name in config:
            options[name] = NUMPY_ACTIVATIONS[_plain(config[name])]
    return options


def oracle_run(row: Row, layer: kerasrnn.RNN, x, states, mask=None, **options):
    weights = dict(zip((w.name for w in layer.weights), layer.get_weights(), strict=True))
    options |= oracle_options(row, layer)
    return oracle_loop.run(row.oracle.step, x, states, weights, mask=mask, **options)


def _plain(activation):
    return None if activation == "linear" else activation


@pytest.mark.parametrize(
    ("dtype", "return_sequences"),
    sorted({("float32", True), (PRECISION, True), (PRECISION, False)}),
    ids=str,
)
@built_in
def test_equals_the_builtin_layer(row, dtype, return_sequences):
    """Outputs, states and every gradient; masks of every kind; sequences and last step."""
    x, _ = make_inputs(4, 6, 3, 5, 0)
    x = x.astype(dtype)
    ours, builtin = twins(row, return_sequences=return_sequences, return_state=True, dtype=dtype)
    for kind in MASKS:
        mask = make_mask(kind, 4, 6)
        expected = measure(builtin, x, mask=mask)
        assert_same(measure(ours, x, mask=mask, training=True), expected, TOLERANCE[dtype])
        assert_same_outputs(ours, expected, TOLERANCE[dtype], x, mask=mask)


@pytest.mark.parametrize(
    ("row", "variant"), [(r, v) for r, v in VARIANTS if r in BUILT_IN and v], ids=variant_id
)
def test_variants_equal_the_builtin_layers(row, variant):
    """What is computed, operation by operation: the loop around it is the same."""
    x, _ = make_inputs(4, 6, 3, 5, 0)
    mask = make_mask("mixed", 4, 6)
    ours, builtin = twins(row, **variant, return_sequences=True, return_state=True, dtype=PRECISION)
    with op_by_op():
        expected = measure(builtin, x, mask=mask)
        for training in TRAINING:
            assert_same(measure(ours, x, mask=mask, training=training), expected, TIGHT)


UNROLLED = ({"unroll": True}, {"unroll": True, "go_backwards": True})


@pytest.mark.parametrize(
    ("row", "options"),
    [
        *((row, {"go_backwards": True}) for row in PROBES),
        *((row, {"zero_output_for_mask": True}) for row in PROBES),
        *((row, {"go_backwards": True, "zero_output_for_mask": True}) for row in PROBES),
        *((row, options) for row in MANUAL_AND_AUTOMATIC for options in UNROLLED),
    ],
    ids=variant_id,
)
def test_options_equal_the_twins(row, options):
    x, _ = make_inputs(4, 6, 3, 5, 0)
    # Keras's unrolled loop on JAX has no zero_output_for_mask; nothing here asks for both.
    mask = make_mask("right" if options.get("go_backwards") else "gapped", 4, 6)
    options = dict(options, return_sequences=True, return_state=True, dtype=PRECISION)
    ours, twin = twins(row, **options)
    expected = measure(twin, x, mask=mask)
    assert_same(measure(ours, x, mask=mask, training=True), expected, TIGHT)
    assert_same_outputs(ours, expected, TIGHT, x, mask=mask)


@pytest.mark.torch_backend
@pytest.mark.parametrize("mask_kind", ["none", "right"])
@probes
def test_initial_states_equal_the_twins(row, mask_kind):
    n = len(row.cell.state_names)
    x, states = make_inputs(4, 6, 3, 5, n)
    ours, twin = twins(row, return_sequences=True, return_state=True, dtype=PRECISION)
    mask = make_mask(mask_kind, 4, 6)
    expected = measure(twin, x, states, mask)
    assert_same(measure(ours, x, states, mask, training=True), expected, TIGHT)
    assert_same_outputs(ours, expected, TIGHT, x, states, mask)


@pytest.mark.torch_backend
@pytest.mark.parametrize(
    ("row", "dropout"),
    [
        *((row, (0.3, 0.3)) for row in ROWS),
        *((row, rates) for row in PROBES for rates in ((0.4, 0.0), (0.0, 0.4))),
    ],
    ids=variant_id,
)
def test_dropout_equals_the_twins(row, dropout):
    """One seed, the same masks: in training the numbers are Keras's."""
    x, _ = make_inputs(4, 6, 3, 5, 0)
    options = {
        "dropout": dropout[0],
        "recurrent_dropout": dropout[1],
        "seed": 11,
        "return_sequences": True,
        "dtype": PRECISION,
    }
    ours, twin = twins(row, **options)
    mask = make_mask("right", 4, 6)
    with contextlib.nullcontext() if row in PROBES else op_by_op():
        results = [measure(layer, x, mask=mask, training=True) for layer in (ours, twin)]
        without = keras.ops.convert_to_numpy(ours(x, mask=mask))
    assert_same(*results, TIGHT)
    assert np.abs(without - results[0].outputs[0]).max() > 1e-2


@pytest.mark.parametrize("row", [r for r in ROWS if len(r.cell.gates) > 1], ids=variant_id)
def test_dropout_one_mask_a_gate(row):
    x, _ = make_inputs(4, 6, 3, 5, 0)
    options = {"dropout": 0.4, "seed": 3, "implementation": 1, "dtype": PRECISION}
    if "use_cudnn" in inspect.signature(row.layer).parameters:
        options["use_cudnn"] = False  # fused kernels of Keras know only one mask
    ours, twin = twins(row, **options)
    with op_by_op():
        assert_same(measure(ours, x, training=True), measure(twin, x, training=True), TIGHT)


@built_in
def test_same_seed_same_weights(row):
    """One global seed gives the built-in layer's initial weights."""
    twins = []
    for layer_class in (row.layer, row.keras_layer):
        keras.utils.set_random_seed(5)
        layer = layer_class(5)
        layer.build((None, None, 3))
        twins.append(layer.get_weights())
    for a, b in zip(*twins, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("row", "dropout"), [(BY_NAME["LSTM"], 0.0), *((row, 0.3) for row in BUILT_IN)], ids=variant_id
)
def test_equals_the_builtin_layer_after_training(row, dropout):
    x, _ = make_inputs(16, 6, 3, 5, 0)
    targets = np.random.default_rng(2).standard_normal((16, 2))
    finals = []
    for layer_class in (row.layer, row.keras_layer):
        keras.utils.set_random_seed(5)
        model = keras.Sequential(
            [
                keras.Input((None, 3), dtype=PRECISION),
                layer_class(5, dropout=dropout, recurrent_dropout=dropout, dtype=PRECISION),
                keras.layers.Dense(2, dtype=PRECISION),
            ]
        )
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
        history = model.fit(x, targets, batch_size=8, epochs=3, verbose=0, shuffle=False)
        finals.append([*model.get_weights(), np.array(history.history["loss"])])
    for a, b in zip(*finals, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


@built_in
def test_stateful_layers_train_as_the_builtin_ones(row):
    """In `fit`, where their states are variables in a graph."""
    x, _ = make_inputs(4, 6, 3, 5, 0)
    targets = np.random.default_rng(2).standard_normal((4, 2))
    finals = []
    for layer_class in (row.layer, row.keras_layer):
        keras.utils.set_random_seed(5)
        model = keras.Sequential(
            [
                keras.Input(batch_shape=(2, 6, 3), dtype=PRECISION),
                layer_class(5, stateful=True, dtype=PRECISION),
                keras.layers.Dense(2, dtype=PRECISION),
            ]
        )
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
        model.fit(x, targets, batch_size=2, epochs=2, verbose=0, shuffle=False)
        states = [np.asarray(state) for state in model.layers[0].states]
        finals.append([*model.get_weights(), *states])
    for a, b in zip(*finals, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


@st.composite
def cases(draw):
    batch, time, features, units = (draw(st.integers(1, n)) for n in (4, 7, 4, 5))
    mask = draw(st.none() | st.lists(st.booleans(), min_size=batch * time, max_size=batch * time))
    return {
        "shape": (batch, time, features, units),
        "mask": None if mask is None else np.array(mask).reshape(batch, time),
        "go_backwards": draw(st.booleans()),
        "zero_output_for_mask": draw(st.booleans()),
        "unroll": draw(st.booleans()),
        "with_states": draw(st.booleans()),
        "training": draw(st.booleans()),
        # Tracing is most of the time that an example takes: others cross what a cell computes.
        "traced": draw(st.sampled_from([False, False, False, True])),
        "dtype": draw(st.sampled_from(["float32", PRECISION])),
        "seed": draw(st.integers(0, 1000)),
    }


@rows
@settings(max_examples=10 if FIRST_BACKEND else 5)
@given(case=cases(), data=st.data())
def test_equals_the_oracle(row, case, data):
    """Any shape, any mask, any option, both precisions."""
    variant, dtype = data.draw(st.sampled_from(row.variants)), case["dtype"]
    batch, time, features, units = case["shape"]
    n = len(row.cell.state_names)
    x, states = make_inputs(batch, time, features, units, n, case["seed"])
    loop_options = {name: case[name] for name in ("go_backwards", "zero_output_for_mask")}
    layer = row.layer(
        units,
        return_sequences=True,
        return_state=True,
        unroll=case["unroll"],
        dtype=dtype,
        **loop_options,
        **variant,
    )
    layer.build(x.shape)
    randomize(layer, case["seed"])
    initial = [s.astype(dtype) for s in states] if case["with_states"] else None
    with contextlib.nullcontext() if case["traced"] else op_by_op():
        outputs, *finals = to_list(
            layer(
                x.astype(dtype), initial_state=initial, mask=case["mask"], training=case["training"]
            )
        )
    expected, last, expected_finals = oracle_run(
        row,
        layer,
        x,
        states if case["with_states"] else [np.zeros_like(s) for s in states],
        case["mask"],
        **loop_options,
    )
    scale = max(1.0, np.abs(expected).max(), *(np.abs(s).max() for s in expected_finals))
    close = {"rtol": 0, "atol": TOLERANCE[dtype] * scale}
    np.testing.assert_allclose(outputs, expected, **close)
    np.testing.assert_allclose(outputs[:, -1], last, **close)
    for a, b in zip(finals, expected_finals, strict=True):
        np.testing.assert_allclose(a, b, **close)


@pytest.mark.parametrize(
    ("row", "variant", "options"),
    [
        *((row, variant, {}) for row, variant in VARIANTS),
        *(
            (row, {}, {"go_backwards": True, "zero_output_for_mask": True})
            for row in MANUAL_AND_AUTOMATIC
        ),
    ],
    ids=variant_id,
)
def test_gradients_equal_the_oracle(row, variant, options):
    """Every gradient against the derivative of the NumPy loop, by complex steps; any mask.

    The gradient of training is traced for each cell; the variants change what is computed in it.
    """
    x, states = make_inputs(4, 5, 2, 4, len(row.cell.state_names))
    layer = row.layer(
        4,
        return_sequences=True,
        return_state=True,
        dtype=PRECISION,
        **options,
        **variant,
    )
    layer.build(x.shape)
    randomize(layer)
    names = [w.name for w in layer.weights]
    weights = dict(zip(names, layer.get_weights(), strict=True))
    random = np.random.default_rng(7)  # the factors of `measure`
    d_outputs, *d_finals = (
        random.standard_normal(shape) for shape in [(4, 5, 4), *([(4, 4)] * len(states))]
    )
    for kind in MASKS:
        mask = make_mask(kind, 4, 5)
        d_x, d_states, d_weights = complex_step.backward(
            row.oracle.step,
            x,
            states,
            weights,
            d_outputs,
            d_finals,
            mask=mask,
            **options,
            **oracle_options(row, layer),
        )
        expected = [d_x, *d_states, *(d_weights[name] for name in names)]
        what = ["inputs", *row.cell.state_names, *names]
        for training in TRAINING:
            traced = not variant and (row in PROBES or (training and kind == "mixed"))
            with contextlib.nullcontext() if traced else op_by_op():
                measured = measure(layer, x, states, mask, training)
            actual = [measured.d_inputs, *measured.d_states, *measured.d_weights]
            for name, a, b in zip(what, actual, expected, strict=True):
                message = f"{name}, mask: {kind}, training: {training}"
                np.testing.assert_allclose(a, b, rtol=0, atol=TIGHT, err_msg=message)


@pytest.mark.parametrize(
    "activation",
    [
        "elu",
        "gelu",
        "selu",
        "softplus",
        "softsign",
        "swish",
        "hard_sigmoid",
        "mish",
        "leaky_relu",
    ],
)
@built_in
def test_every_activation(row, activation):
    x, _ = make_inputs(2, 4, 3, 5, 0)
    ours, builtin = twins(row, activation=activation, return_sequences=True, dtype=PRECISION)
    with op_by_op():
        assert_same(measure(ours, x), measure(builtin, x), TIGHT)


@pytest.mark.parametrize("time", [1, 2])
@probes
def test_short_sequences_and_single_rows(row, time):
    x, states = make_inputs(1, time, 1, 1, len(row.cell.state_names))
    layer = row.layer(1, return_sequences=True, return_state=True, dtype=PRECISION)
    layer.build(x.shape)
    randomize(layer)
    outputs, *finals = to_list(layer(x, initial_state=states))
    expected, _, expected_finals = oracle_run(row, layer, x, states)
    np.testing.assert_allclose(outputs, expected, atol=TIGHT)
    np.testing.assert_allclose(finals[0], expected_finals[0], atol=TIGHT)


@probes
def test_under_a_mask_the_last_state_is_the_output_at_length_minus_one(row):
    x, _ = make_inputs(4, 6, 3, 5, 0)
    mask = make_mask("right", 4, 6)
    layer = row.layer(5, return_sequences=True, return_state=True)
    outputs, h, *_ = to_list(layer(x.astype("float32"), mask=mask))
    outputs = np.asarray(outputs)
    lengths = mask.sum(1)
    np.testing.assert_allclose(np.asarray(h), outputs[np.arange(4), lengths - 1], atol=1e-6)


@probes
def test_a_fully_masked_row_keeps_its_state_and_puts_out_zeros(row):
    n = len(row.cell.state_names)
    x, states = make_inputs(3, 4, 2, 5, n)
    mask = np.array([[True] * 4, [False] * 4, [True, False, True, False]])
    layer = row.layer(5, return_sequences=True, return_state=True, dtype=PRECISION)
    outputs, *finals = to_list(layer(x, initial_state=states, mask=mask))
    np.testing.assert_array_equal(np.asarray(outputs)[1], 0)
    for final, state in zip(finals, states, strict=True):
        np.testing.assert_array_equal(np.asarray(final)[1], state[1].astype(PRECISION))


def test_the_catalogue_finds_rows_by_name():
    assert list(BY_NAME) == [row.layer.__name__ for row in ROWS]
