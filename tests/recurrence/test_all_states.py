"""`return_all_states`: the states after every step, with every kind of cell, mask and loop."""

import contextlib

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn import export
from kerasrnn.keras_internals import get_keras_mask
from kerasrnn.recurrence import cudnn
from kerasrnn.recurrence.loop import Options
from tests.catalogue import BY_NAME, PROBES, Row, variant_id
from tests.cells.test_numbers import oracle_run
from tests.measure import (
    FIRST_BACKEND,
    PRECISION,
    TIGHT,
    assert_same,
    make_mask,
    measure,
    op_by_op,
    randomize,
)
from tests.recurrence.test_states import LOOPS, MemoryCell, normal

UNITS = 3
LINEAR = [BY_NAME[name] for name in ("MinGRU", "QRNN")]  # the second reads a window of inputs
cells = pytest.mark.parametrize("row", [*PROBES, *LINEAR], ids=variant_id)


def new_layer(row: Row, **options) -> kerasrnn.RNN:
    options = {"return_all_states": True, "return_state": True, **options}
    layer = row.layer(UNITS, dtype=PRECISION, **options)
    layer.build((None, None, 2))
    randomize(layer)
    return layer


@pytest.mark.torch_backend
@cells
@pytest.mark.parametrize("go_backwards", [False, True])
def test_they_are_the_final_states_of_the_steps_so_far(row, go_backwards):
    """In the order of the steps, for masks of every kind; also against NumPy, for probes."""
    options = {"go_backwards": go_backwards, "return_sequences": not go_backwards}
    layer = new_layer(row, **options)
    x, mask = normal(4, 5, 2), make_mask("mixed", 4, 5)
    shapes = layer.cell.state_shapes
    states = [normal(4, *shape, seed=n) for n, shape in enumerate(shapes)]
    with op_by_op():
        results = layer(x, initial_state=states, mask=mask, training=go_backwards)
        output, *of_steps = (np.asarray(y) for y in results)
        all_states, finals = of_steps[: len(shapes)], of_steps[len(shapes) :]
        layer.return_all_states = False
        for t in range(5):
            steps = slice(-t - 1, None) if go_backwards else slice(t + 1)
            y, *so_far = layer(x[:, steps], initial_state=states, mask=mask[:, steps])
            expected = so_far
            if row in PROBES:
                loop = {"go_backwards": go_backwards}
                _, _, expected = oracle_run(row, layer, x[:, steps], states, mask[:, steps], **loop)
            for a, b in zip(all_states, expected, strict=True):
                np.testing.assert_allclose(a[:, t], b, atol=TIGHT)
    np.testing.assert_allclose(output, y, atol=TIGHT)
    for a, b in zip(all_states, finals, strict=True):
        np.testing.assert_array_equal(a[:, -1], b)


@pytest.mark.parametrize("name", [name for name in LOOPS if name != "truncated"])
@cells
def test_outputs_and_gradients_in_every_loop(row, name):
    """Those of the unrolled steps. LSTM is traced; a loop of another cell has the same graph."""
    options = {**LOOPS[name], "return_sequences": True}
    unrolled = {k: v for k, v in options.items() if k not in ("checkpoint_every", "jit_compile")}
    x, mask = normal(4, 5, 2), make_mask("mixed", 4, 5)
    with op_by_op():
        expected = measure(new_layer(row, **{**unrolled, "unroll": True}), x, None, mask, True)
    traced = row is PROBES[0] and name in ("checkpoints", "compiled")
    if not traced:
        options.pop("jit_compile", None)
    with contextlib.nullcontext() if traced else op_by_op():
        actual = measure(new_layer(row, **options), x, None, mask, True)
    assert_same(actual, expected, TIGHT)


@pytest.mark.tensorflow
def test_an_unknown_number_of_steps():
    """In a graph: compiled in training, where sequences are padded, and possibly none."""
    import tensorflow as tf

    layer = new_layer(PROBES[0], return_sequences=True)
    x = normal(4, 6, 2)

    @tf.function(input_signature=[tf.TensorSpec((None, None, 2), PRECISION)])
    def train(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            results = layer(x, training=True)
            loss = sum(tf.reduce_sum(y * tf.sin(y)) for y in results)
        return results, tape.gradient(loss, x)

    def one_by_one(x):
        with op_by_op(), tf.GradientTape() as tape:
            x = tf.constant(x)
            tape.watch(x)
            results = layer(x)
            loss = sum(tf.reduce_sum(y * tf.sin(y)) for y in results)
        return results, tape.gradient(loss, x)

    for steps in (6, 3):
        for a, b in zip(
            *(tf.nest.flatten(f(x[:, :steps])) for f in (train, one_by_one)), strict=True
        ):
            np.testing.assert_allclose(a, b, atol=TIGHT)
    predict = tf.function(layer, input_signature=[tf.TensorSpec((None, None, 2), PRECISION)])
    assert [tuple(y.shape) for y in predict(x[:, :0])] == [(4, 0, UNITS)] * 3 + [(4, UNITS)] * 2


def test_shapes_and_masks_of_symbolic_calls():
    tokens = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(5, 2, mask_zero=True)(tokens)
    layer = kerasrnn.LSTM(UNITS, return_all_states=True, go_backwards=True)
    results = layer(x)
    shapes = [(None, UNITS), (None, None, UNITS), (None, None, UNITS)]
    assert [tuple(y.shape) for y in results] == shapes
    ids = np.array([[1, 2, 0, 0], [3, 0, 0, 4]])
    with op_by_op():
        embedded = keras.layers.Embedding(5, 2, mask_zero=True)(ids)
        output, h, _ = layer(embedded)
    assert get_keras_mask(output) is None
    np.testing.assert_array_equal(get_keras_mask(h), ids[:, ::-1] != 0)
    assert kerasrnn.GRU(2, return_all_states=True).compute_output_shape((4, 6, 3)) == (
        (4, 2),
        (4, 6, 2),
    )


def test_structured_states():
    layer = kerasrnn.RNN(
        MemoryCell(UNITS, dtype=PRECISION), return_all_states=True, dtype=PRECISION
    )
    x = normal(4, 5, 2)
    with op_by_op():
        _, h, memory = layer(x)
        state = layer.get_initial_state(4)
        for t in range(5):
            _, state = layer.cell(x[:, t], state)
            now = keras.tree.map_structure(lambda s, t=t: s[:, t], [h, memory])
            for a, b in zip(keras.tree.flatten(now), keras.tree.flatten(state), strict=True):
                np.testing.assert_allclose(a, b, atol=TIGHT)
    expected = [(2, 5, 3), {"matrix": (2, 5, 3, 3), "sums": [(2, 5, 3)]}]
    assert layer.compute_output_shape((2, 5, 2)) == ((2, 3), *expected)


@pytest.mark.parametrize("input_feeding", [False, True])
def test_of_wrapping_cells(input_feeding):
    """Also of an attention that would leave the loop."""
    scorer = kerasrnn.LuongAttention("general", dtype=PRECISION)
    cell = kerasrnn.AttentionCell(
        kerasrnn.LSTMCell(UNITS, dtype=PRECISION),
        scorer,
        units=2,
        input_feeding=input_feeding,
        dtype=PRECISION,
    )
    cell = kerasrnn.FeedbackCell(cell, 2, dtype=PRECISION) if input_feeding else cell
    layer = kerasrnn.RNN(cell, return_sequences=True, return_all_states=True, dtype=PRECISION)
    x, memory = normal(4, 5, 2), normal(4, 6, 2, seed=1)
    with op_by_op():
        output, *all_states = layer(x, memory=memory)
        prepared = cell.prepare_memory(memory)
        states = cell.get_initial_state(prepared=prepared)
        for t in range(5):
            y, states = cell(x[:, t], states, prepared=prepared)
            np.testing.assert_allclose(output[:, t], y, atol=TIGHT)
            for a, b in zip(all_states, states, strict=True):
                np.testing.assert_allclose(a[:, t], b, atol=TIGHT)


@pytest.mark.parametrize("return_state", [False, True])
def test_both_directions(return_state):
    """The states of the backward layer, too, in the order of time."""
    options = {"return_all_states": True, "return_state": return_state, "dtype": PRECISION}
    layer = kerasrnn.Bidirectional(kerasrnn.LSTM(UNITS, **options), dtype=PRECISION)
    x, mask = normal(4, 5, 2), make_mask("mixed", 4, 5)
    layer.build(x.shape)
    randomize(layer)
    with op_by_op():
        output, *states = layer(x, mask=mask)
        forward, backward = (
            each(x, mask=mask) for each in (layer.forward_layer, layer.backward_layer)
        )
    np.testing.assert_allclose(output, np.hstack([forward[0], backward[0]]), atol=TIGHT)
    expected = [*forward[1:3], *(np.asarray(s)[:, ::-1] for s in backward[1:3])]
    expected += [*forward[3:], *backward[3:]]
    for a, b in zip(states, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=TIGHT)
    shapes = [tuple(y.shape) for y in (output, *states)]
    assert [tuple(shape) for shape in layer.compute_output_shape(x.shape)] == shapes
    assert len(layer.compute_mask(x, mask)) == len(shapes)


@pytest.mark.skipif(not FIRST_BACKEND, reason="exports read a TensorFlow graph")
def test_exports_and_steps(tmp_path):
    inputs = keras.Input((None, 2))
    layer = kerasrnn.LSTM(UNITS, return_sequences=True, return_all_states=True, name="lstm")
    y, h, c = layer(inputs)
    model = keras.Model(inputs, [keras.layers.Dense(2)(c), y])
    randomize(model)
    x = normal(2, 4, 2).astype("float32")
    assert export.to_onnx(model, tmp_path / "model.onnx", check=[x]).difference <= 1e-5
    step, expected = export.to_step(model), model(x)
    states = [np.zeros((2, UNITS), "float32")] * 2
    for t in range(4):
        *ys, h, c = (np.asarray(v) for v in step([x[:, t], *states]))
        states = [h, c]
        for a, b in zip(ys, expected, strict=True):
            np.testing.assert_allclose(a, b[:, t], atol=1e-5)
    with pytest.raises(ValueError, match="Keras has no LSTM with return_all_states=True"):
        export.to_keras(model)


def test_cudnn_does_not_return_them():
    cell = kerasrnn.GRUCell(2)
    assert cudnn.refusal(cell, Options(), "auto") is None
    assert "return_all_states" in cudnn.refusal(cell, Options(return_all_states=True), "auto")


class OwnLoop(kerasrnn.GRU):
    def inner_loop(self, sequences, initial_state, mask, training=False):
        state = keras.ops.tanh(keras.ops.sum(sequences, axis=1) + initial_state[0])
        return state, state[:, None], [state]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: kerasrnn.RNN(keras.layers.GRUCell(2), return_all_states=True),
            "return_all_states=True: an option of kerasrnn's time loop; expected False with GRUC",
        ),
        (
            lambda: kerasrnn.StackedRNN([kerasrnn.GRU(2, return_all_states=True)]),
            "has return_all_states=True; expected False in a stack",
        ),
        (
            lambda: OwnLoop(2, return_all_states=True)(normal(4, 3, 2)),
            "OwnLoop overrides `inner_loop` without a call of `collect_states`",
        ),
    ],
)
def test_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
