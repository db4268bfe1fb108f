"""The gradient of the time loop, against automatic differentiation of the unrolled steps."""

import contextlib

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

import kerasrnn
from tests.catalogue import BUILT_IN, PROBES, variant_id
from tests.measure import (
    FIRST_BACKEND,
    PRECISION,
    TIGHT,
    assert_same,
    make_mask,
    measure,
    op_by_op,
    random_states,
    randomize,
)
from tests.recurrence.test_applications import MidpointCell, TangledCell


class LeakyGatedCell(kerasrnn.Cell):
    """Step weights, and a product whose argument depends on another product."""

    gates = ("g", "h", "k")
    state_names = ("h", "m")
    step_weights = ("leak", "peephole")

    @property
    def product_groups(self):
        return (("g",), ("h", "k"))

    def build(self, input_shape):
        super().build(input_shape)
        self.leak = self.add_weight(shape=(self.units,), name="leak", initializer="uniform")
        self.peephole = self.add_weight(shape=(self.units,), name="peephole", initializer="uniform")

    def step(self, a, states, weights, products):
        first, second = products
        h, m = states
        a_g, a_h, a_k = ops.split(a, 3, axis=-1)
        gate = ops.sigmoid(a_g + first(h) + weights["peephole"] * m)
        r_h, r_k = ops.split(second(gate * h), 2, axis=-1)
        new = ops.tanh(a_h + r_h) * ops.sigmoid(a_k + r_k)
        m = weights["leak"] * m + gate * new
        return new + 0.1 * h, [new, m]


TOYS = (LeakyGatedCell, MidpointCell, TangledCell)
OF_CELLS = {
    **{row.cell: row.variants for row in (*BUILT_IN, *PROBES)},
    **dict.fromkeys(TOYS, ({},)),
}
TRACED = [row.cell for row in PROBES]


@st.composite
def cases(draw):
    return {
        "shape": (draw(st.integers(1, 3)), draw(st.integers(1, 6))),
        "options": {
            "return_sequences": draw(st.booleans()),
            "go_backwards": draw(st.booleans()),
            "zero_output_for_mask": draw(st.booleans()),
        },
        "mask": draw(st.booleans()),
        "dropout": draw(st.sampled_from([{}, {"dropout": 0.3}, {"recurrent_dropout": 0.3}])),
        "checkpoint_every": draw(st.sampled_from([None, None, 1, 2, 5, "sqrt"])),
        "seed": draw(st.integers(0, 1000)),
    }


@pytest.mark.parametrize("cell_class", OF_CELLS, ids=lambda cls: cls.__name__)
@settings(max_examples=4 if FIRST_BACKEND else 1)
@given(case=cases(), data=st.data())
def test_the_adjoint_is_the_derivative(cell_class, case, data):
    """For inputs, initial states and weights, with any mask, dropout and options."""
    variant = data.draw(st.sampled_from(OF_CELLS[cell_class]))
    batch, time = case["shape"]
    random = np.random.default_rng(case["seed"])
    mask = random.random((batch, time)) < 0.6 if case["mask"] else None
    x = random.standard_normal((batch, time, 2)).astype(PRECISION)
    names = cell_class.arguments()
    dropout = {name: rate for name, rate in case["dropout"].items() if name in names}

    def measured(**options):
        cell = cell_class(3, seed=case["seed"], dtype=PRECISION, **variant, **dropout)
        layer = kerasrnn.RNN(cell, return_state=True, dtype=PRECISION, **case["options"], **options)
        layer.build(x.shape)
        randomize(layer, case["seed"])
        states = random_states(layer, batch, np.random.default_rng(case["seed"] + 1))
        states = [state.astype(PRECISION) for state in states]
        return measure(layer, x, states, mask, training=True)

    # Tracing would take most of the time. Graphs do not depend on what a cell computes.
    traced = cell_class in TRACED and data.draw(st.booleans())
    with op_by_op():
        expected = measured(unroll=True)
    with contextlib.nullcontext() if traced else op_by_op():
        actual = measured(checkpoint_every=case["checkpoint_every"])
    assert_same(actual, expected, TIGHT)


def layer_pair(cell_class, variant, dropout=0.2, **options):
    """A layer, and the same layer unrolled."""
    layers = []
    for more in (options, {"unroll": True}):
        cell = cell_class(5, dtype=PRECISION, seed=1, recurrent_dropout=dropout, **variant)
        layer = kerasrnn.RNN(
            cell, return_sequences=True, return_state=True, dtype=PRECISION, **more
        )
        layer.build((None, None, 3))
        randomize(layer)
        layers.append(layer)
    return layers


def arrays(cell_class, batch, time=6):
    random = np.random.default_rng(0)
    x = random.standard_normal((batch, time, 3)).astype(PRECISION)
    return x, [random.standard_normal((batch, 5)).astype(PRECISION) for _ in cell_class.state_names]


@pytest.mark.tensorflow
@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell_class", "variant"),
    [
        (kerasrnn.LSTMCell, {}),
        (kerasrnn.GRUCell, {"reset_after": False}),
        (kerasrnn.IndRNNCell, {}),
        (TangledCell, {}),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else variant_id(value),
)
def test_compiled_in_equal_parts(cell_class, variant, monkeypatch):
    """With masks of every kind."""
    from kerasrnn.recurrence.tensorflow import parts

    monkeypatch.setattr(parts, "cores", lambda: 2)
    x, states = arrays(cell_class, batch=16)
    mask = make_mask("mixed", *x.shape[:2])
    compiled, written_out = layer_pair(cell_class, variant, jit_compile=True)
    with op_by_op():
        expected = measure(written_out, x, states, mask, training=True)
    assert_same(measure(compiled, x, states, mask, training=True), expected, TIGHT)


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("cell_class", "training", "checkpoint_every"),
    [(kerasrnn.SimpleRNNCell, True, 4), (LeakyGatedCell, False, None)],
)
def test_compiled_in_unequal_parts(cell_class, training, checkpoint_every, monkeypatch):
    """Without a mask: with checkpoints, and the gradient of inference."""
    from kerasrnn.recurrence.tensorflow import parts

    monkeypatch.setattr(parts, "cores", lambda: 3)
    monkeypatch.setattr(parts, "ROWS_A_PART", 2)
    x, states = arrays(cell_class, batch=7)
    compiled, written_out = layer_pair(
        cell_class, {}, jit_compile=True, checkpoint_every=checkpoint_every
    )
    with op_by_op():
        expected = measure(written_out, x, states, training=training)
    assert_same(measure(compiled, x, states, training=training), expected, TIGHT)


@pytest.mark.tensorflow
def test_batches_of_unknown_size_are_compiled_in_parts(monkeypatch):
    """As in `fit`, where the number of steps is known. The first of two parts may be empty."""
    import tensorflow as tf

    from kerasrnn.recurrence.tensorflow import parts

    monkeypatch.setattr(parts, "cores", lambda: 2)
    layer, written_out = layer_pair(kerasrnn.LSTMCell, {})

    @tf.function(input_signature=[tf.TensorSpec((None, 6, 3), PRECISION)])
    def gradients(x):
        with tf.GradientTape() as tape:
            outputs = layer(x, training=True)
            loss = tf.add_n([tf.reduce_sum(y**2) for y in outputs])
        return tape.gradient(loss, [w.value for w in layer.trainable_weights])

    for batch in (1, 3):
        x, _ = arrays(kerasrnn.LSTMCell, batch)
        with op_by_op(), tf.GradientTape() as tape:
            loss = tf.add_n([tf.reduce_sum(y**2) for y in written_out(x, training=True)])
        expected = tape.gradient(loss, [w.value for w in written_out.trainable_weights])
        for a, b in zip(gradients(x), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    ("cell_class", "options", "training"),
    [
        (kerasrnn.GRUCell, {}, True),
        (kerasrnn.LSTMCell, {"go_backwards": True}, True),
        (LeakyGatedCell, {}, False),
        (LeakyGatedCell, {"jit_compile": True}, True),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else variant_id(value),
)
def test_truncation_equals_calls_with_stopped_gradients(cell_class, options, training):
    """Of three steps each, with the final states of the previous call as initial states."""
    x, states = arrays(cell_class, batch=3, time=7)

    def build(**more):
        cell = cell_class(5, dtype=PRECISION)
        kept = {name: value for name, value in options.items() if name == "go_backwards"}
        layer = kerasrnn.RNN(
            cell, return_sequences=True, return_state=True, dtype=PRECISION, **kept, **more
        )
        layer.build((None, None, 3))
        randomize(layer)
        return layer

    class Pieces(keras.layers.Layer):
        """Calls a layer on one piece of the sequence after the other."""

        def __init__(self):
            super().__init__(dtype=PRECISION)
            self.piece = build()
            self.built = True

        def call(self, x, initial_state=None, mask=None, training=False):
            if options.get("go_backwards"):
                cuts, states = [(4, 7), (1, 4), (0, 1)], initial_state
            else:
                cuts, states = [(0, 3), (3, 6), (6, 7)], initial_state
            outputs = []
            for start, end in cuts:
                if outputs:
                    states = [ops.stop_gradient(state) for state in states]
                output, *states = self.piece(x[:, start:end], initial_state=list(states))
                outputs.append(output)
            return [ops.concatenate(outputs, axis=1), *states]

    layer = build(truncate_every=3, **{k: v for k, v in options.items() if k != "go_backwards"})
    truncated = measure(layer, x, states, training=training)
    with op_by_op():
        pieces = measure(Pieces(), x, states)
        whole = measure(build(unroll=True), x, states)
        never = measure(build(truncate_every=7), x, states, training=training)
    assert_same(truncated, pieces, TIGHT)
    assert np.abs(truncated.d_inputs - whole.d_inputs).max() > 1e-3
    assert_same(never, whole, TIGHT)


@pytest.mark.tensorflow
def test_inference_stores_only_the_outputs():
    """In training, the graph has further arrays: the residuals."""
    import tensorflow as tf

    def arrays_of(training, return_sequences):
        layer = kerasrnn.LSTM(4, return_sequences=return_sequences, jit_compile=False)
        function = tf.function(lambda x: layer(x, training=training))
        graph = function.get_concrete_function(tf.TensorSpec((2, None, 3))).graph
        return sum(op.type == "TensorListStack" for op in graph.get_operations())

    assert arrays_of(False, False) == 0
    assert arrays_of(False, True) == 1
    assert arrays_of(True, True) > 1


def test_an_inherited_adjoint_is_not_used():
    """A subclass with other equations is differentiated automatically."""

    class Doubled(kerasrnn.LSTMCell):
        def update(self, a, r, states, weights):
            h, states = super().update(a, r, states, weights)
            return 2 * h, states

    assert kerasrnn.LSTMCell(3).has_adjoint
    assert not kerasrnn.LSTMCell(3, activation="gelu").has_adjoint
    assert not Doubled(3).has_adjoint
    layer, written_out = layer_pair(Doubled, {})
    x, states = arrays(Doubled, 3)
    with op_by_op():
        expected = measure(written_out, x, states, training=True)
        assert_same(measure(layer, x, states, training=True), expected, TIGHT)


def test_a_custom_cell_is_trained_and_saved(tmp_path):
    """Training changes every weight, step weights included."""
    registered = keras.saving.register_keras_serializable("tests")(LeakyGatedCell)
    model = keras.Sequential(
        [keras.Input((None, 2)), kerasrnn.RNN(registered(3)), keras.layers.Dense(1)]
    )
    before = [w.copy() for w in model.get_weights()]
    model.compile("sgd", "mse", jit_compile=False)
    x = np.random.default_rng(0).standard_normal((8, 4, 2)).astype("float32")
    model.train_on_batch(x, np.ones((8, 1)))
    for weight, old in zip(model.weights, before, strict=True):
        assert np.abs(weight.numpy() - old).max() > 0, weight.path
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    with op_by_op():
        np.testing.assert_array_equal(loaded(x), model(x))


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("cell_class", "jit_compile", "training"),
    [
        (kerasrnn.LSTMCell, "auto", True),  # compiled, since the number of steps is known
        (kerasrnn.SimpleRNNCell, True, False),
        (MidpointCell, "auto", False),
    ],
)
def test_second_derivatives(cell_class, jit_compile, training):
    """The gradient consists of operations that can be differentiated."""
    import tensorflow as tf

    layer, written_out = layer_pair(cell_class, {}, dropout=0.0, jit_compile=jit_compile)
    x = tf.constant(arrays(cell_class, 1, 3)[0])

    def second(layer, training):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                loss = tf.add_n([tf.reduce_sum(y**2) for y in layer(x, training=training)])
            total = tf.reduce_sum(inner.gradient(loss, x) * tf.constant([1.0, 2.0, 3.0], x.dtype))
        return outer.gradient(total, [x, layer.cell.recurrent_kernel.value])

    with op_by_op():
        expected = second(written_out, False)
    actual = tf.function(second, autograph=False)(layer, training)
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.tensorflow
def test_a_tape_used_twice_and_a_function_traced_again():
    """Eagerly and compiled, with lengths that are known first and then unknown."""
    import tensorflow as tf

    layer, written_out = layer_pair(kerasrnn.SimpleRNNCell, {}, dropout=0.0)
    x = tf.constant(arrays(kerasrnn.SimpleRNNCell, 3)[0])

    def gradients(layer, x):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            loss = tf.add_n([tf.reduce_sum(y**2) for y in layer(x, training=True)])
        return tape.gradient(loss, x), tape.gradient(loss, x)

    graph = tf.function(lambda x: gradients(layer, x), reduce_retracing=True)
    for some in (x, x[:, :4], x[:2], x):
        with op_by_op():
            expected, _ = gradients(written_out, some)
        for d_x in (*gradients(layer, some), *graph(some)):
            np.testing.assert_allclose(d_x, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.tensorflow
def test_cores_are_counted_on_every_system(monkeypatch):
    from kerasrnn.recurrence.tensorflow import parts

    monkeypatch.setattr(parts.tf.config.threading, "get_inter_op_parallelism_threads", lambda: 0)
    monkeypatch.setattr(parts.tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.delattr(parts.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(parts.os, "cpu_count", lambda: 6)
    assert parts.cores() == 6
    monkeypatch.setattr(parts.tf.config, "list_physical_devices", lambda kind: [kind])
    assert parts.cores() == 1


def test_checkpoints_need_a_custom_gradient():
    """On PyTorch, where training would ignore the option, it is refused."""
    from kerasrnn.recurrence import unrolled
    from kerasrnn.recurrence.loop import Options

    with pytest.raises(ValueError, match=r"checkpoint_every=3: .* expected None"):
        unrolled.run(kerasrnn.LSTMCell(2), Options(checkpoint_every=3, training=True), None, "auto")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"checkpoint_every": 0},
            "checkpoint_every=0: expected a positive integer, 'sqrt' or None",
        ),
        ({"checkpoint_every": "log"}, "checkpoint_every='log'"),
        ({"truncate_every": 2.5}, "truncate_every=2.5: expected a positive integer or None"),
        ({"truncate_every": True}, "truncate_every=True"),
        ({"checkpoint_every": 2, "unroll": True}, "checkpoint_every=2: .* unroll=True"),
    ],
    ids=str,
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        kerasrnn.LSTM(2, **options)


def test_options_are_part_of_the_configuration():
    layer = kerasrnn.GRU(2, checkpoint_every="sqrt", truncate_every=5)
    config = type(layer).from_config(layer.get_config()).get_config()
    assert (config["checkpoint_every"], config["truncate_every"]) == ("sqrt", 5)
    assert "checkpoint_every" not in kerasrnn.GRU(2).get_config()
