"""Linear recurrences, as loops, associative scans and chunks, against the cells' own steps.

The steps run one after the other, with `unroll=True`, and are differentiated automatically.
"""

import contextlib
from importlib import import_module

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn.recurrence import linear
from kerasrnn.recurrence.linear import associative_scan
from tests.catalogue import BY_NAME
from tests.measure import (
    PRECISION,
    TIGHT,
    assert_same,
    make_mask,
    measure,
    op_by_op,
    random_states,
    randomize,
)
from tests.oracles import loop

BATCH, TIME, FEATURES, UNITS = 4, 7, 2, 3
# A real state; a complex one with a constant decay and a product in `read`; a window; chunks.
PROBES = {
    "MinGRU": kerasrnn.MinGRUCell,
    "LRU": kerasrnn.LRUCell,
    "QRNN": lambda units, **options: kerasrnn.QRNNCell(units, kernel_size=3, **options),
    "MLSTM": lambda units, **options: kerasrnn.MLSTMCell(
        2 * units, heads=units, chunk_size=3, **options
    ),
}


def in_groups(units, **options):
    """Heads in groups, and a window that chunks read."""
    sizes = {"heads": 2 * units, "groups": units, "state_dim": 2, "kernel_size": 3, "chunk_size": 3}
    return kerasrnn.Mamba2Cell(4 * units, **sizes, **options)


OPTIONS = (
    {},
    {"go_backwards": True, "zero_output_for_mask": True},
    {"return_sequences": False},
    {"return_sequences": False, "go_backwards": True, "zero_output_for_mask": True},
)
# How a backend runs the recurrence. PyTorch has the scan alone: its loop is the oracle's.
WAYS = ("loop", "scan") if keras.config.backend() != "torch" else ("scan",)


def in_every_way(monkeypatch):
    """Run the recurrence as a loop, and then as a scan."""
    backend = keras.config.backend()
    if backend == "torch":
        yield from WAYS
        return
    room = "tensorflow.primitives" if backend == "tensorflow" else backend
    room = import_module(f"kerasrnn.recurrence.{room}")
    for way in WAYS:
        monkeypatch.setattr(room, "scans_in_parallel", lambda way=way: way == "scan")
        yield way


def layer_of(name, stepwise=False, **options):
    """A layer with random weights; `stepwise`: that runs its steps one after the other."""
    cell = (PROBES | {"Mamba2": in_groups})[name](UNITS, dtype=PRECISION)
    if stepwise:
        cell.is_linear = cell.is_chunked = False
    layer = kerasrnn.RNN(cell, return_state=True, dtype=PRECISION, **options)
    layer.build((BATCH, TIME, FEATURES))
    randomize(layer)
    return layer


def inputs(layer, dtype=PRECISION):
    random = np.random.default_rng(0)
    x = random.standard_normal((BATCH, TIME, FEATURES)).astype(dtype)
    return x, [s.astype(dtype) for s in random_states(layer, BATCH, random)]


def assert_equals_the_steps(kinds, modes, monkeypatch, name, **options):
    """Outputs, states and every gradient; `modes`: of training, and the automatic gradient."""
    stepwise = layer_of(name, stepwise=True, **options)
    x, states = inputs(stepwise)
    masks = [make_mask(kind, BATCH, TIME) for kind in kinds]
    with op_by_op():
        expected = [measure(stepwise, x, states, mask, training=True) for mask in masks]
        for _ in in_every_way(monkeypatch):
            linear = layer_of(name, **options)  # which keeps what it has compiled
            for mask, right in zip(masks, expected, strict=True):
                for training in modes:
                    assert_same(measure(linear, x, states, mask, training), right, TIGHT)


@pytest.mark.torch_backend
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", PROBES)
def test_equals_the_steps(name, options, monkeypatch):
    """Options are those of the steps around the recurrence, with masks and in training."""
    kinds, modes = (("mixed",), (True,)) if options else (("none", "mixed"), (False, True))
    options = {"return_sequences": True, **options}
    assert_equals_the_steps(kinds, modes, monkeypatch, name, **options)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {"truncate_every": 2}) for name in PROBES),
        *((name, {"checkpoint_every": 3}) for name in PROBES if name != "MLSTM"),
    ],
    ids=str,
)
def test_cut_into_segments(name, options, monkeypatch):
    """Checkpoints change nothing; truncation cuts the gradient where the steps cut it."""
    options = {"return_sequences": True, **options}
    assert_equals_the_steps(("mixed",), (False, True), monkeypatch, name, **options)


@pytest.mark.torch_backend
def test_chunks_of_groups_equal_the_steps():
    linear, stepwise = (layer_of("Mamba2", s, return_sequences=True) for s in (False, True))
    x, states = inputs(linear)
    for kind, training in (("none", False), ("mixed", True)):
        mask = make_mask(kind, BATCH, TIME)
        with op_by_op():
            expected = measure(stepwise, x, states, mask, training=True)
            assert_same(measure(linear, x, states, mask, training), expected, TIGHT)


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", PROBES)
def test_of_unknown_length_and_compiled(name):
    """XLA compiles the loop for a padded length; its results are those of the known length."""
    import tensorflow as tf

    layer = kerasrnn.RNN(PROBES[name](UNITS), return_sequences=True, return_state=True)
    layer.build((BATCH, TIME, FEATURES))
    randomize(layer)
    x, _ = inputs(layer, "float32")
    mask = make_mask("mixed", BATCH, TIME)
    weights = [w.value for w in layer.trainable_weights]

    def gradients(x, mask):
        with tf.GradientTape() as tape:
            tape.watch(x)
            results = layer(x, mask=mask, training=True)
            loss = sum(tf.reduce_sum(tf.sin(y)) for y in results)
        return [*results, *tape.gradient(loss, [x, *weights])]

    with op_by_op():
        expected = gradients(tf.constant(x), tf.constant(mask))
    # The rows are known: otherwise XLA compiles a part of them for each core.
    signature = [tf.TensorSpec((BATCH, None, FEATURES)), tf.TensorSpec((BATCH, None), tf.bool)]
    actual = tf.function(gradients, input_signature=signature)(x, mask)
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", ["MinGRU", "LRU", "QRNN"])
def test_long_sequences_are_cut(name, monkeypatch):
    """Compiled for training; the lengths are those of the segments, and of the rest."""
    import tensorflow as tf

    layer = kerasrnn.RNN(
        PROBES[name](UNITS), return_sequences=True, return_state=True, go_backwards=True
    )
    layer.build((BATCH, TIME, FEATURES))
    randomize(layer)
    x, _ = inputs(layer, "float32")
    mask = make_mask("mixed", BATCH, TIME)
    weights = [w.value for w in layer.trainable_weights]

    def gradients(x, mask):
        with tf.GradientTape() as tape:
            tape.watch(x)
            results = layer(x, mask=mask, training=True)
            loss = sum(tf.reduce_sum(tf.sin(y)) for y in results)
        return [*results, *tape.gradient(loss, [x, *weights])]

    with op_by_op():
        expected = gradients(tf.constant(x), tf.constant(mask))
    in_step = BATCH * layer.cell.input_part_size
    monkeypatch.setattr(linear, "LONG", TIME * in_step - 1)
    monkeypatch.setattr(linear, "SEGMENT", 3 * in_step + 1)
    lengths, inputs_of = [], linear.LinearUnroll._inputs

    def spy(self, steps, x, *rest):
        lengths.append(x.shape[0])
        return inputs_of(self, steps, x, *rest)

    monkeypatch.setattr(linear.LinearUnroll, "_inputs", spy)
    actual = tf.function(gradients)(tf.constant(x), tf.constant(mask))
    assert set(lengths) == {3, TIME - 2 * 3}
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", PROBES)
def test_second_derivatives(name):
    """The derivative of a gradient's norm, with the loop and with the unrolled steps.

    Loops over steps are traced. One over chunks is the same loop; its graph takes half a minute.
    """
    import tensorflow as tf

    def second(unroll):
        cell = PROBES[name](UNITS, dtype=PRECISION)
        layer = kerasrnn.RNN(cell, unroll=unroll, dtype=PRECISION)
        layer.build((BATCH, TIME, FEATURES))
        randomize(layer)
        x = tf.constant(inputs(layer)[0][:, :4])
        weights = [w.value for w in layer.trainable_weights]
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                loss = tf.reduce_sum(tf.sin(layer(x, training=True)))
            norm = tf.reduce_sum(inner.gradient(loss, x) ** 2)
        return outer.gradient(norm, [x, *weights], unconnected_gradients="zero")

    with op_by_op():
        expected = second(True)
    with op_by_op() if name == "MLSTM" else contextlib.nullcontext():
        actual = second(False)
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)


@pytest.mark.torch_backend
@pytest.mark.parametrize("count", [1, 2, 3, 6, 7])
def test_prefixes(count):
    """Of an operation that does not commute: composing affine functions."""
    random = np.random.default_rng(count)
    slopes, offsets = random.standard_normal((2, count, 3))

    def combined(earlier, later):
        return later[0] * earlier[0], later[0] * earlier[1] + later[1]

    elements = tuple(map(keras.ops.convert_to_tensor, (slopes, offsets)))
    _, y = associative_scan(combined, elements)
    expected = np.zeros(3)
    for t in range(count):
        expected = slopes[t] * expected + offsets[t]
        np.testing.assert_allclose(keras.ops.convert_to_numpy(y)[t], expected, rtol=1e-5)


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", ["LRU", "S5", "HGRN", "RGLRU"])
def test_long_memories_in_single_and_half_precision(name):
    """Thousands of steps with decays near 1, against the oracle in double precision.

    Half precision represents the inputs and kernels, but not the rates, which stay in float32.
    """
    row, options = BY_NAME[name], {"lower_bound": 0.99} if name == "HGRN" else {}
    x = np.random.default_rng(0).standard_normal((1, 10_000, FEATURES)).astype("float16")
    layer = row.layer(8, return_sequences=True, seed=1, **options)
    layer.build(x.shape)
    weights = {
        w.name: np.asarray(w).astype("float32" if w.name in row.cell.rates else "float16")
        for w in layer.weights
    }
    weights = {name: value.astype("float64") for name, value in weights.items()}
    states = [np.zeros((1, 8)) for _ in layer.cell.state_names]
    expected, *_ = loop.run(row.oracle.step, x.astype("float64"), states, weights)
    for dtype, tolerance in (("float32", 1e-5), ("mixed_float16", 1e-2), ("float16", 1e-2)):
        layer = row.layer(8, return_sequences=True, dtype=dtype, **options)
        layer.build(x.shape)
        layer.set_weights(list(weights.values()))
        difference = np.abs(np.asarray(layer(x.astype("float32"))) - expected).max()
        assert difference <= tolerance * np.abs(expected).max()


@pytest.mark.torch_backend
@pytest.mark.parametrize("cell_class", [kerasrnn.MLSTMCell, kerasrnn.Mamba2Cell])
def test_a_chunk_with_steps_that_forget_everything(cell_class):
    """Every 24 steps, by a decay of exp(-10000), and of about 1 elsewhere; in single precision.

    Differences of cumulative sums of the logarithms would have errors above 1e-4. Padding is NaN.
    """
    steps = 96
    random = np.random.default_rng(0)
    x = random.standard_normal((2, steps, FEATURES))
    x[..., 0] = np.arange(steps) % 24 == 0
    mask = random.random((2, steps)) < 0.8
    mask[:, ::24] = True
    x[~mask] = np.nan
    results = []
    for dtype, chunked in ((PRECISION, False), ("float32", True)):
        cell = cell_class(4, chunk_size=steps, dtype=dtype)
        cell.is_chunked = chunked
        layer = kerasrnn.RNN(cell, return_sequences=True, dtype=dtype)
        layer.build(x.shape)
        randomize(layer)
        weights = {w.name: v for w, v in zip(layer.weights, layer.get_weights(), strict=True)}
        if cell_class is kerasrnn.MLSTMCell:
            weights["kernel"][:, -1], weights["bias"][-1] = [-10_000, 0.3], 4
        else:
            weights["kernel"][:, -1], weights["dt_bias"][:] = [18, 0.3], -8
            weights["A_log"][:] = np.log(1000)
        layer.set_weights(list(weights.values()))
        with op_by_op():
            results.append(keras.ops.convert_to_numpy(layer(x.astype(dtype), mask=mask)))
    expected, actual = results
    assert np.abs(actual - expected).max() <= 2e-6 * np.abs(expected).max()
