"""The values and gradients of every layer: against the built-in layers and the NumPy oracles.

A layer's twin is the built-in one, or Keras's own loop around our cell where there is none. The
loop is traced for probes, with each of its options; other cells run operation by operation, and in
`test_execution.py` compiled by XLA.
"""

import contextlib
import itertools
import zlib

import keras
import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

import kerasrnn
from tests.catalogue import (
    ACTIVATIONS,
    BUILT_IN,
    BY_NAME,
    MANUAL_AND_AUTOMATIC,
    PROBES,
    ROWS,
    ROWS_OR_PROBES,
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
    random_states,
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
    "silu": lambda x: x * sigmoid(x),
    None: lambda x: x,
}
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


def make_inputs(layer, batch: int = 4, time: int = 6, features: int = 3, seed: int = 0):
    """Random inputs, and random values for the states of a built layer."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((batch, time, features))
    return x, random_states(layer, batch, random)


def make_x(batch: int = 4, time: int = 6, features: int = 3):
    return np.random.default_rng(0).standard_normal((batch, time, features))


def oracle_options(row: Row, layer: kerasrnn.RNN) -> dict:
    """The layer's configuration as arguments of the oracle's step."""
    config = layer.get_config()
    options = {name: config[name] for name in row.oracle_options}
    for name in ACTIVATIONS:
        if name in config:
            options[name] = NUMPY_ACTIVATIONS[_plain(config[name])]
    return options


def oracle_run(row: Row, layer: kerasrnn.RNN, x, states, mask=None, training=False, **options):
    weights = dict(zip((w.name for w in layer.weights), layer.get_weights(), strict=True))
    options |= {**oracle_options(row, layer), **row.of_mode(training)}
    return oracle_loop.run(row.oracle.step, x, states, weights, mask=mask, **options)


def _plain(activation):
    return None if activation == "linear" else activation


def traced_if(traced):
    """Trace the loop as usual, or compute the same operations one by one."""
    return contextlib.nullcontext() if traced else op_by_op()


@pytest.mark.parametrize(
    ("dtype", "return_sequences"),
    sorted({("float32", True), (PRECISION, True), (PRECISION, False)}),
    ids=str,
)
@built_in
def test_equals_the_builtin_layer(row, dtype, return_sequences):
    """Outputs, states and every gradient; masks of every kind; sequences and last step.

    The loop of all outputs is traced where gradients are compared with the oracle.
    """
    x = make_x()
    x = x.astype(dtype)
    ours, builtin = twins(row, return_sequences=return_sequences, return_state=True, dtype=dtype)
    for kind in MASKS:
        mask = make_mask(kind, 4, 6)
        with op_by_op():
            expected = measure(builtin, x, mask=mask)
        with traced_if(row in PROBES[:1] and not return_sequences):
            assert_same(measure(ours, x, mask=mask, training=True), expected, TOLERANCE[dtype])
            assert_same_outputs(ours, expected, TOLERANCE[dtype], x, mask=mask)


@pytest.mark.parametrize(
    ("row", "variant"), [(r, v) for r, v in VARIANTS if r in BUILT_IN and v], ids=variant_id
)
def test_variants_equal_the_builtin_layers(row, variant):
    x = make_x()
    mask = make_mask("mixed", 4, 6)
    ours, builtin = twins(row, **variant, return_sequences=True, return_state=True, dtype=PRECISION)
    with op_by_op():
        expected = measure(builtin, x, mask=mask)
        for training in TRAINING:
            assert_same(measure(ours, x, mask=mask, training=training), expected, TIGHT)


MANUAL, AUTOMATIC, IN_STEP, ELEMENTWISE = PROBES


@pytest.mark.parametrize(
    ("row", "options"),
    [
        (MANUAL, {"go_backwards": True}),
        (AUTOMATIC, {"zero_output_for_mask": True}),
        (AUTOMATIC, {"return_sequences": False}),
        (IN_STEP, {"go_backwards": True, "zero_output_for_mask": True}),
        (ELEMENTWISE, {"go_backwards": True, "zero_output_for_mask": True}),
        (MANUAL, {"unroll": True}),
        (AUTOMATIC, {"unroll": True, "go_backwards": True}),
    ],
    ids=variant_id,
)
def test_options_equal_the_twins(row, options):
    """Those of the manual and of the automatic gradient are traced."""
    x = make_x()
    # Keras's unrolled loop on JAX has no zero_output_for_mask; no case has both.
    mask = make_mask("right" if options.get("go_backwards") else "gapped", 4, 6)
    options = {"return_sequences": True, **options, "return_state": True, "dtype": PRECISION}
    ours, twin = twins(row, **options)
    with op_by_op():
        expected = measure(twin, x, mask=mask)
    with traced_if(row in MANUAL_AND_AUTOMATIC):
        assert_same(measure(ours, x, mask=mask, training=True), expected, TIGHT)
        assert_same_outputs(ours, expected, TIGHT, x, mask=mask)


@pytest.mark.torch_backend
@probes
def test_initial_states_equal_the_twins(row):
    """On TensorFlow the loop with initial states is traced where it is compared with the oracle."""
    ours, twin = twins(row, return_sequences=True, return_state=True, dtype=PRECISION)
    x, states = make_inputs(ours)
    mask = make_mask("right", 4, 6)
    with op_by_op():
        expected = measure(twin, x, states, mask)
        assert_same(measure(ours, x, states, mask, training=True), expected, TIGHT)
        assert_same_outputs(ours, expected, TIGHT, x, states, mask)


@pytest.mark.torch_backend
@pytest.mark.parametrize(
    ("row", "dropout"),
    [
        *((row, (0.3, 0.3)) for row in ROWS_OR_PROBES),  # one mask of the inputs a gate
        *((row, rates) for row in MANUAL_AND_AUTOMATIC for rates in ((0.4, 0.0), (0.0, 0.4))),
    ],
    ids=variant_id,
)
def test_dropout_equals_the_twins(row, dropout):
    """One seed, the same masks: in training the values are Keras's.

    And the gradients of probes and of manual adjoints; others are derived from the outputs.
    """
    x = make_x()
    rates = row.with_arguments(dropout=dropout[0], recurrent_dropout=dropout[1])
    options = {**rates, "seed": 11, "return_sequences": True, "dtype": PRECISION}
    ours, twin = twins(row, **options)
    mask = make_mask("right", 4, 6)
    with op_by_op():
        without = keras.ops.convert_to_numpy(ours(x, mask=mask))
    if row in PROBES or ours.cell.has_adjoint:
        with op_by_op():
            expected = measure(twin, x, mask=mask, training=True)
        with traced_if(row in MANUAL_AND_AUTOMATIC and dropout == (0.3, 0.3)):
            actual = measure(ours, x, mask=mask, training=True)
        assert_same(actual, expected, TIGHT)
        dropped = actual.outputs[0]
    else:
        with op_by_op():
            dropped, expected = (
                keras.ops.convert_to_numpy(layer(x, mask=mask, training=True))
                for layer in (ours, twin)
            )
        scale = max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(dropped, expected, rtol=0, atol=TIGHT * scale)
    assert np.abs(without - dropped).max() > 1e-2 * np.abs(without).max()


@pytest.mark.parametrize("row", PROBES[:1], ids=variant_id)
def test_dropout_with_one_mask_a_gate(row):
    x = make_x()
    options = {"dropout": 0.4, "seed": 3, "implementation": 1, "dtype": PRECISION}
    options["use_cudnn"] = False  # fused kernels of Keras have only one mask
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


def test_models_train_to_the_builtin_layers_weights():
    """Under dropout; the states of stateful layers are variables of the graph."""
    x = make_x()
    targets = np.random.default_rng(2).standard_normal((4, 2))
    finals = []
    for ours in (True, False):
        keras.utils.set_random_seed(5)
        lstm, gru, simple_rnn = (
            BY_NAME[name].layer if ours else BY_NAME[name].keras_layer
            for name in ("LSTM", "GRU", "SimpleRNN")
        )
        options = {"return_sequences": True, "dtype": PRECISION}
        rates = {"dropout": 0.3, "recurrent_dropout": 0.3}
        model = keras.Sequential(
            [
                keras.Input(batch_shape=(2, 6, 3), dtype=PRECISION),
                lstm(5, stateful=True, **options),
                gru(4, stateful=True, **rates, **options),
                simple_rnn(4, **rates, dtype=PRECISION),
                keras.layers.Dense(2, dtype=PRECISION),
            ]
        )
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
        with traced_if(ours):
            losses = [
                float(model.train_on_batch(x[n : n + 2], targets[n : n + 2])) for n in (0, 2, 0, 2)
            ]
            states = [np.asarray(state) for layer in model.layers[:2] for state in layer.states]
            finals.append([*model.get_weights(), np.array(losses), *states])
            if FIRST_BACKEND:  # Keras's trainer on JAX carries no states from batch to batch
                first, second = (np.asarray(model.predict_on_batch(x[:2])) for _ in range(2))
                assert np.abs(second - first).max() > 1e-6
                finals[-1] += [first, second]
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
        "traced": draw(st.sampled_from([False, False, False, True])),
        "dtype": draw(st.sampled_from(["float32", PRECISION])),
        "seed": draw(st.integers(0, 1000)),
    }


@pytest.mark.parametrize("row", ROWS, ids=variant_id)
def test_equals_the_oracle(row):
    """Any shape, any mask, any option, both precisions: examples that differ from row to row."""
    most = (12, 3) if FIRST_BACKEND else (5, 2)

    @seed(zlib.crc32(row.name.encode()))
    @settings(max_examples=most[row not in PROBES])
    @given(case=cases(), data=st.data())
    def check(case, data):
        assert_equals_the_oracle(row, case, data)

    check()


def assert_equals_the_oracle(row, case, data):
    """Some of the probes are traced."""
    variant, dtype = data.draw(st.sampled_from(row.variants)), case["dtype"]
    batch, time, features, units = case["shape"]
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
    layer.build((batch, time, features))
    randomize(layer, case["seed"])
    x, states = make_inputs(layer, batch, time, features, case["seed"])
    initial = [s.astype(dtype) for s in states] if case["with_states"] else None
    with traced_if(case["traced"] and row in PROBES):
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
        case["training"],
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
    """Outputs and gradients against the NumPy loop, differentiated by complex steps.

    The automatic gradient, and that of training, with any mask; of the variants the latter.
    """
    layer = row.layer(
        3,
        return_sequences=True,
        return_state=True,
        dtype=PRECISION,
        **options,
        **variant,
    )
    layer.build((4, 5, 2))
    randomize(layer)
    x, states = make_inputs(layer, 4, 5, 2)
    names = [w.name for w in layer.weights]
    weights = dict(zip(names, layer.get_weights(), strict=True))
    options = {**options, **oracle_options(row, layer)}
    random = np.random.default_rng(7)  # the factors of `measure`
    shapes = [(4, 5, *layer.cell.output_shape), *(state.shape for state in states)]
    d_outputs, *d_finals = (random.standard_normal(shape) for shape in shapes)
    state_names = layer.cell.state_names
    trained = [w.name for w in layer.trainable_weights]
    what = ["outputs", *state_names, "d_inputs", *(f"d_{n}" for n in (*state_names, *trained))]

    def by_the_oracle(mask, mode):
        arguments = {"mask": mask, **options, **mode}
        d_x, d_states, d_weights = complex_step.backward(
            row.oracle.step, x, states, weights, d_outputs, d_finals, **arguments
        )
        outputs, _, finals = oracle_loop.run(row.oracle.step, x, states, weights, **arguments)
        return [outputs, *finals, d_x, *d_states, *(d_weights[name] for name in trained)]

    for kind, training in modes_of(row, variant):
        mask = make_mask(kind, 4, 5)
        expected = by_the_oracle(mask, row.of_mode(training))
        with traced_if(not variant and row in PROBES and kind == "mixed"):
            actual = measure(layer, x, states, mask, training).arrays()
        for name, a, b in zip(what, actual, expected, strict=True):
            message = f"{name}, mask: {kind}, training: {training}"
            tolerance = TIGHT * max(1.0, np.abs(b).max())
            np.testing.assert_allclose(a, b, rtol=0, atol=tolerance, err_msg=message)


def modes_of(row, variant):
    """Masks, and whether in training. The loop treats both: all pairs are for probes alone."""
    if variant or not FIRST_BACKEND:
        return [("mixed", True)]
    if row in PROBES:
        return list(itertools.product(MASKS, TRAINING))
    return [("none", False), ("mixed", True)]


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
def test_every_activation(activation):
    x = make_x(2, 4)
    rows = [BY_NAME["SimpleRNN"], *(BUILT_IN if activation == "softsign" else [])]
    for row in rows:
        ours, builtin = twins(row, activation=activation, return_sequences=True, dtype=PRECISION)
        with op_by_op():
            assert_same(measure(ours, x), measure(builtin, x), TIGHT)


@pytest.mark.parametrize("row", MANUAL_AND_AUTOMATIC, ids=variant_id)
def test_a_single_step_of_a_single_row(row):
    """Of a single unit."""
    layer = row.layer(1, return_sequences=True, return_state=True, dtype=PRECISION)
    layer.build((1, 1, 1))
    randomize(layer)
    x, states = make_inputs(layer, 1, 1, 1)
    actual = to_list(layer(x, initial_state=states))
    outputs, _, finals = oracle_run(row, layer, x, states)
    for a, b in zip(actual, [outputs, *finals], strict=True):
        np.testing.assert_allclose(a, b, atol=TIGHT)


@probes
def test_masked_rows(row):
    """The last state is the output at length minus one; fully masked rows keep their states."""
    layer = row.layer(5, return_sequences=True, return_state=True, dtype=PRECISION)
    layer.build((4, 6, 3))
    x, states = make_inputs(layer)
    mask = make_mask("right", 4, 6)
    mask[1] = False
    with op_by_op():
        outputs, *finals = (
            np.asarray(y) for y in to_list(layer(x, initial_state=states, mask=mask))
        )
    lengths = mask.sum(axis=1)
    used = lengths > 0
    np.testing.assert_allclose(
        finals[0][used], outputs[np.arange(4), lengths - 1][used], atol=TIGHT
    )
    np.testing.assert_array_equal(outputs[1], 0)
    for final, state in zip(finals, states, strict=True):
        np.testing.assert_array_equal(final[1], state[1].astype(PRECISION))


def test_the_catalogue_finds_rows_by_name():
    assert list(BY_NAME) == [row.layer.__name__ for row in ROWS]
