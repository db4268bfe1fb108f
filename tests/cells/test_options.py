"""Options of every cell: recurrent dropout, zoneout and weight drop, against loops in NumPy."""

import contextlib
import copy
from typing import NamedTuple

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn.recurrence import cudnn
from kerasrnn.recurrence.loop import Options
from tests.catalogue import BY_NAME, PROBES, ROWS_OR_PROBES, Row, variant_id
from tests.cells.test_numbers import oracle_options
from tests.measure import (
    FIRST_BACKEND,
    PRECISION,
    TIGHT,
    assert_same,
    make_mask,
    measure,
    op_by_op,
    randomize,
    to_list,
)
from tests.oracles import loop as oracle_loop
from tests.recurrence.test_states import LOOPS, normal

UNITS = 3
LSTM = BY_NAME["LSTM"]
probes = pytest.mark.parametrize("row", PROBES, ids=variant_id)


class Drawn(NamedTuple):
    """What a cell has drawn in the last call, in NumPy."""

    dropped_states: list[np.ndarray]
    """For each gate, or for all of them, `(batch, units)`."""

    kept_units: dict[str, np.ndarray]
    """By state, `(batch, time, units)`."""

    dropped_weights: dict[str, np.ndarray]


def new_layer(row: Row, **options) -> kerasrnn.RNN:
    options = {"return_sequences": True, "return_state": True, "seed": 5, **options}
    layer = row.layer(UNITS, dtype=PRECISION, **options)
    layer.build((None, None, 2))
    randomize(layer)
    return layer


@contextlib.contextmanager
def recorded(cell, monkeypatch):
    """Within this context, what the cell draws is recorded; graphs cannot be traced."""
    drawn = []
    draw_noise, drop_weights = cell.draw_noise, cell.drop_weights

    def noise(*args):
        noise = draw_noise(*args)
        masks = noise.sequences.get("states", [])
        drawn.append(
            Drawn(
                [np.asarray(mask) for mask in masks],
                {name: np.asarray(x) for name, x in noise.steps.get("zoneout", {}).items()},
                {},
            )
        )
        return noise

    def weights(before):
        after = drop_weights(before)
        for name in cell.recurrent_weights if cell.weight_drop else ():
            mask = np.asarray(after[name]) / np.asarray(before[name])
            drawn[-1].dropped_weights[name] = mask
        return after

    with op_by_op(), monkeypatch.context() as context:
        context.setattr(cell, "draw_noise", noise)
        context.setattr(cell, "drop_weights", weights)
        yield drawn


def with_zoneout(row: Row, zoneout, kept: dict[str, np.ndarray] | None):
    """The oracle's step, followed by zoneout: with the units kept in this step, or expected."""
    names = row.cell.state_names
    rates = zoneout
    if not isinstance(zoneout, list):
        rates = [0.0 if name in row.cell(UNITS).without_zoneout else zoneout for name in names]

    def step(x, states, weights, **options):
        output, new = row.oracle.step(x, states, weights, **options)
        zoned = []
        for name, rate, before, after in zip(names, rates, states, new, strict=True):
            keep = rate
            if kept is not None:
                keep = kept[name].pop(0).astype(float) if rate else 0
            zoned.append(keep * before + (1 - keep) * after)
        return zoned[0] if np.array_equal(output, new[0]) else output, zoned

    return step


def in_numpy(layer, row, x, states, mask=None, drawn: Drawn | None = None):
    """The outputs and final states; in training, with what was drawn."""
    weights = dict(zip((w.name for w in layer.weights), layer.get_weights(), strict=True))
    kept = None
    if drawn is not None:
        for name, dropped in drawn.dropped_weights.items():
            weights[name] = weights[name] * dropped
        weights["recurrent_kernel"] = masked_rows(weights["recurrent_kernel"], drawn.dropped_states)
        order = slice(None, None, -1) if layer.go_backwards else slice(None)
        kept = {name: list(x.swapaxes(0, 1)[order]) for name, x in drawn.kept_units.items()}
    outputs, _, finals = oracle_loop.run(
        with_zoneout(row, layer.zoneout, kept),
        x,
        states,
        weights,
        mask=mask,
        go_backwards=layer.go_backwards,
        zero_output_for_mask=layer.zero_output_for_mask,
        **oracle_options(row, layer),
        **row.of_mode(drawn is not None),
    )
    return [outputs, *finals]


def masked_rows(kernel: np.ndarray, masks: list[np.ndarray]) -> np.ndarray:
    """With a single row in the batch, (h * mask) U = h (diag(mask) U), gate by gate.

    A kernel of several states has the rows of each.
    """
    if not masks:
        return kernel
    assert all(mask.shape == (1, UNITS) for mask in masks)
    if kernel.ndim == 1:
        return kernel * masks[0][0]
    blocks, states = np.split(kernel, len(masks), axis=-1), len(kernel) // UNITS
    return np.hstack(
        [np.tile(mask.T, (states, 1)) * block for mask, block in zip(masks, blocks, strict=True)]
    )


def assert_close(actual, expected, tolerance=TIGHT):
    for a, b in zip(to_list(actual), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    "row",
    [
        row
        for row in ROWS_OR_PROBES
        if {"recurrent_dropout", "weight_drop"} <= row.cell.arguments().keys()
    ],
    ids=variant_id,
)
def test_all_options_of_every_cell(row, monkeypatch):
    """Recurrent dropout has one mask per gate, the same at all steps (Gal & Ghahramani 2016).

    It is left out where the recurrent kernel is not made of blocks by which states are multiplied.
    """
    cell = row.cell(UNITS)
    kernel, gates = cell.recurrent_kernel_shape, len(cell.gates)
    blockwise = kernel == (UNITS,) or (
        kernel[0] % UNITS == 0
        and kernel[1:] == (gates * UNITS,)
        and cell.dropout_blocks == gates
        and row.cell.recurrent_matrices is kerasrnn.Cell.recurrent_matrices
    )
    dropout = 0.4 if blockwise else 0.0
    layer = new_layer(row, recurrent_dropout=dropout, weight_drop=0.3, zoneout=0.5)
    x = normal(1, 4, 2)
    states = [normal(1, *shape, seed=n) for n, shape in enumerate(layer.cell.state_shapes)]
    for _ in range(2):
        with recorded(layer.cell, monkeypatch) as drawn:
            actual = layer(x, initial_state=states, training=True)
        assert len(drawn[-1].dropped_states) == (gates if blockwise else 0)
        assert_close(actual, in_numpy(layer, row, x, states, drawn=drawn[-1]))
    with op_by_op():
        actual = layer(x, initial_state=states)
    assert_close(actual, in_numpy(layer, row, x, states))


# Zoneout.


@pytest.mark.torch_backend
@pytest.mark.parametrize(
    ("row", "zoneout"),
    [*((row, 0.4) for row in PROBES), (LSTM, [0.0, 0.6]), (LSTM, [0.1, 0.5])],
    ids=variant_id,
)
@pytest.mark.parametrize("go_backwards", [False, True])
def test_zoneout_equals_numpy(row, zoneout, go_backwards, monkeypatch):
    """In training and its expectation in inference, with masks of every kind."""
    layer = new_layer(row, zoneout=zoneout, go_backwards=go_backwards)
    x, mask = normal(4, 5, 2), make_mask("mixed", 4, 5)
    states = [normal(4, UNITS, seed=n) for n in range(len(row.cell.state_names))]
    with recorded(layer.cell, monkeypatch) as drawn:
        actual = layer(x, initial_state=states, mask=mask, training=True)
    assert_close(actual, in_numpy(layer, row, x, states, mask, drawn[-1]))
    with op_by_op():
        actual = layer(x, initial_state=states, mask=mask)
    assert_close(actual, in_numpy(layer, row, x, states, mask))


def test_zoneout_keeps_the_fraction_of_units_that_it_is_given():
    cell = kerasrnn.LSTMCell(50, zoneout=[0.2, 0.7], seed=1)
    noise = cell.draw_noise(np.ones((20, 2)), cell.get_initial_state(20), 30)
    for name, rate in (("h", 0.2), ("c", 0.7)):
        kept = np.asarray(noise.steps["zoneout"][name])
        assert kept.shape == (20, 30, 50)
        assert kept.mean() == pytest.approx(rate, abs=0.01)


@pytest.mark.parametrize("name", [name for name in LOOPS if name != "truncated"])
def test_zoneout_in_every_loop(name):
    """Outputs and gradients are those of the unrolled steps with the same seed."""
    options = {"zoneout": 0.4, "weight_drop": 0.3, "recurrent_dropout": 0.2}
    loop = {key: value for key, value in LOOPS[name].items() if key != "unroll"}
    x, mask = normal(4, 5, 2), make_mask("mixed", 4, 5)
    same = {key: loop[key] for key in loop.keys() & {"go_backwards", "zero_output_for_mask"}}
    with op_by_op():
        expected = measure(new_layer(LSTM, unroll=True, **same, **options), x, None, mask, True)
    with op_by_op() if name in ("plain", "unrolled") else contextlib.nullcontext():
        actual = measure(new_layer(LSTM, **LOOPS[name], **options), x, None, mask, True)
    assert_same(actual, expected, TIGHT)


@pytest.mark.tensorflow
def test_zoneout_of_an_unknown_number_of_steps():
    import tensorflow as tf

    unknown = [tf.TensorSpec((None, None, 2), tf.float64)]
    x = normal(4, 5, 2)
    layers = [new_layer(LSTM, zoneout=0.4) for _ in range(2)]
    call = tf.function(lambda x: layers[0](x, training=True), input_signature=unknown)
    assert_close(call(x), to_list(layers[1](x, training=True)))


def test_zoneout_in_wrapping_cells(monkeypatch):
    """The state of the inner cell after zoneout is what a wrapper reads, at its own names."""

    def inner():
        return kerasrnn.LSTMCell(UNITS, zoneout=0.5, weight_drop=0.2, seed=3, dtype=PRECISION)

    x, memory = normal(4, 5, 2), normal(4, 6, 2, seed=1)
    scorer = kerasrnn.LuongAttention("general", dtype=PRECISION)
    cell = kerasrnn.AttentionCell(inner(), scorer, input_feeding=False, dtype=PRECISION)
    options = {"return_sequences": True, "dtype": PRECISION}
    attending, plain = kerasrnn.RNN(cell, **options), kerasrnn.RNN(inner(), **options)
    attending.build(x.shape, memory_shape=memory.shape)
    plain.build(x.shape)
    plain.cell.set_weights(cell.cell.get_weights())
    for training in (True, False):
        with op_by_op():
            y, h = attending(x, memory=memory, training=training), plain(x, training=training)
        np.testing.assert_allclose(y[..., -UNITS:], h, atol=TIGHT)
    # y_t = h_t V, fed back with W_y = 0.
    cell = kerasrnn.FeedbackCell(inner(), 2, activation=None, dtype=PRECISION)
    feeding, plain = kerasrnn.RNN(cell, **options), kerasrnn.RNN(inner(), **options)
    for layer in (feeding, plain):
        layer.build(x.shape)
    plain.cell.set_weights(cell.cell.get_weights())
    cell.feedback_kernel.assign(np.zeros(cell.feedback_kernel.shape))
    for training in (True, False):
        with op_by_op():
            y, h = feeding(x, training=training), plain(x, training=training)
        np.testing.assert_allclose(y, np.asarray(h) @ cell.output_kernel.numpy(), atol=TIGHT)


def test_zoneout_of_a_single_step():
    cell = kerasrnn.GRUCell(UNITS, zoneout=0.5, seed=1, dtype=PRECISION)
    plain = kerasrnn.GRUCell(UNITS, dtype=PRECISION)
    x, h = normal(6, 2), normal(6, UNITS, seed=1)
    for each in (cell, plain):
        each.build(x.shape)
    plain.set_weights(cell.get_weights())
    new, _ = (np.asarray(y) for y in (plain(x, h)[0], h))
    output, state = cell(x, h)
    np.testing.assert_allclose(output, (h + new) / 2, atol=TIGHT)
    assert output is state
    output, _ = cell(x, h, training=True)
    kept = np.isclose(output, h, rtol=0, atol=1e-6)
    assert 0.2 < kept.mean() < 0.8
    np.testing.assert_allclose(output, np.where(kept, h, new), atol=1e-6)


def test_zoneout_of_structured_states():
    """A rate applies to every tensor of a state; an output that is no state is left alone."""
    from tests.recurrence.test_states import MemoryCell

    class Reads(MemoryCell):
        def step(self, a, states, weights, products):
            h, new = super().step(a, states, weights, products)
            return 2 * h, new

    cell, plain = Reads(UNITS, zoneout=[0.0, 0.5], dtype=PRECISION), Reads(UNITS, dtype=PRECISION)
    x = normal(4, 2)
    for each in (cell, plain):
        each.build(x.shape)
    plain.set_weights(cell.get_weights())
    before = [normal(4, 3), {"matrix": normal(4, 3, 3, seed=1), "sums": [normal(4, 3, seed=2)]}]
    (y, new), (expected, after) = cell(x, before), plain(x, before)
    np.testing.assert_allclose(y, expected, atol=TIGHT)
    np.testing.assert_allclose(new[0], after[0], atol=TIGHT)
    half = keras.tree.map_structure(
        lambda a, b: (np.asarray(a) + np.asarray(b)) / 2, before[1], after[1]
    )
    for a, b in zip(keras.tree.flatten(new[1]), keras.tree.flatten(half), strict=True):
        np.testing.assert_allclose(a, b, atol=TIGHT)
    assert len(keras.tree.flatten(cell.draw_noise(x, before, 3).steps)) == 2


@pytest.mark.parametrize(
    ("cell", "zoneout", "checkpoint_every"),
    [
        ("SimpleRNN", 0.4, None),
        ("GRU", 0.4, 2),
        ("LSTM", 0.4, 2),
        ("LSTM", [0.0, 0.5], None),
    ],
)
def test_zoneout_keeps_the_gradient_of_the_cell(cell, zoneout, checkpoint_every):
    """It equals the automatic one, in training and, with checkpoints, in inference."""
    layers = []
    for manual in (True, False):
        layer = new_layer(
            BY_NAME[cell], zoneout=zoneout, recurrent_dropout=0.2, checkpoint_every=checkpoint_every
        )
        assert layer.cell.adjoint() is not None
        if not manual:
            layer.cell.__class__ = type("Automatic", (type(layer.cell),), {"has_adjoint": False})
            assert layer.cell.adjoint() is None
        layers.append(layer)
    x, mask = normal(3, 5, 2), make_mask("mixed", 3, 5)
    with op_by_op():
        for training in (True, False):
            found, expected = (measure(layer, x, None, mask, training) for layer in layers)
            assert_same(found, expected, TIGHT)


def test_operators_do_not_apply_with_zoneout():
    plain, zoned = kerasrnn.LSTMCell(2), kerasrnn.LSTMCell(2, zoneout=[0.1, 0.0])
    assert not plain.alters_step
    assert "step" not in vars(plain)  # without options nothing is added to a step
    assert zoned.alters_step
    assert cudnn.refusal(plain, Options(), "auto") is None
    assert "zoneout" in cudnn.refusal(zoned, Options(), "auto")
    assert cudnn.refusal(kerasrnn.LSTMCell(2, weight_drop=0.5), Options(), "auto") is None
    assert copy.deepcopy(zoned).step.args[0] is not zoned


# Weight drop.


def test_one_mask_of_the_weights_per_call(monkeypatch):
    """The same at every step and for every row, scaled; another in the next call."""
    layer = new_layer(LSTM, weight_drop=0.4)
    x, states = normal(4, 5, 2), [normal(4, UNITS)] * 2
    masks = []
    for _ in range(2):
        with recorded(layer.cell, monkeypatch) as drawn:
            actual = layer(x, initial_state=states, training=True)
        assert_close(actual, in_numpy(layer, LSTM, x, states, drawn=drawn[-1]))
        masks.append(drawn[-1].dropped_weights["recurrent_kernel"])
        np.testing.assert_allclose(np.unique(masks[-1].round(4)), [0, 1 / 0.6], atol=1e-4)
    assert (masks[0] != masks[1]).any()


@probes
def test_gradients_of_weight_drop(row):
    """Of a kernel k * mask: the gradient of the product, times the mask."""
    layer, plain = new_layer(row, weight_drop=0.4), new_layer(row)
    x = normal(4, 5, 2)
    with op_by_op():
        dropped = layer.cell.drop_weights(layer.cell.weights_by_name())["recurrent_kernel"]
        layer.cell.reset_recurrent_dropout_mask()
        layer.cell.seed_generator.state.assign([5, 0])
        kernel = plain.cell.recurrent_kernel
        mask = np.asarray(dropped) / kernel.numpy()
        kernel.assign(np.asarray(dropped))
        actual, expected = measure(layer, x, training=True), measure(plain, x, training=True)
    names = [w.name for w in layer.trainable_weights]
    expected.d_weights[names.index("recurrent_kernel")] *= mask
    assert_same(actual, expected, TIGHT)


def test_weights_are_dropped_before_the_first_step_of_keras_loop():
    """One mask for all steps there, too: the cell's twin in Keras's loop computes the same."""
    options = {"weight_drop": 0.4, "seed": 3, "dtype": PRECISION}
    ours, twin = (
        rnn(kerasrnn.GRUCell(UNITS, **options), dtype=PRECISION)
        for rnn in (kerasrnn.RNN, keras.layers.RNN)
    )
    x = normal(4, 5, 2)
    for layer in (ours, twin):
        layer.build(x.shape)
    twin.set_weights(ours.get_weights())
    with op_by_op():
        for _ in range(2):
            np.testing.assert_allclose(ours(x, training=True), twin(x, training=True), atol=TIGHT)


# What is refused.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: kerasrnn.LSTM(2, zoneout=1.0),
            r"zoneout=1.0: expected a number in \[0, 1\) or a list of such numbers",
        ),
        (lambda: kerasrnn.LSTM(2, zoneout=[0.1, 2]), r"zoneout\[1\]=2: expected a number in"),
        (
            lambda: kerasrnn.LSTM(2, zoneout=[0.1]),
            r"zoneout=\[0.1\]: expected one number, or one for each state \(h, c\)",
        ),
        (
            lambda: kerasrnn.SLSTM(2, zoneout=[0.1, 0, 0.1, 0]),
            "expected 0 for the state n of SLSTMCell",
        ),
        (
            lambda: kerasrnn.FeedbackCell(kerasrnn.GRUCell(2), 3, zoneout=0.1),
            "zoneout: FeedbackCell does not use it; expected `zoneout` as an argument of the cell",
        ),
        (
            lambda: Wraps(kerasrnn.GRUCell(2), 3, weight_drop=0.1),
            "weight_drop=0.1: a Wraps applies the weight_drop of its cell",
        ),
        (lambda: Calls(2, zoneout=0.1), "zoneout=0.1: Calls overrides `call`"),
    ],
)
def test_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


class Wraps(kerasrnn.WrappingCell):
    pass


class Calls(kerasrnn.GRUCell):
    def call(self, inputs, states, training=False):
        return super().call(inputs, states, training)


@pytest.mark.skipif(not FIRST_BACKEND, reason="exports read a TensorFlow graph")
def test_an_export_computes_the_expectation(tmp_path):
    """In a loop: ONNX's LSTM has no zoneout. With weight drop, it is the operator."""
    from kerasrnn import export
    from tests.export.test_onnx import recurrent_nodes

    inputs = keras.Input((None, 2))
    layers = [kerasrnn.LSTM(3, zoneout=0.3), kerasrnn.GRU(3, weight_drop=0.3)]
    model = keras.Model(inputs, [layer(inputs) for layer in layers])
    randomize(model)
    x = normal(2, 4, 2).astype("float32")
    assert export.to_onnx(model, tmp_path / "model.onnx", check=[x]).difference <= 1e-5
    assert recurrent_nodes(tmp_path / "model.onnx") == {"GRU": 1, "Loop": 1}
    with pytest.raises(ValueError, match=r"Keras has no LSTM with zoneout=0\.3"):
        export.to_keras(model)
