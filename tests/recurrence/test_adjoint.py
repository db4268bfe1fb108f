"""The gradient of TensorFlow's loop against automatic differentiation of the written-out loop."""

import dataclasses

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

import kerasrnn
from kerasrnn.recurrence import unrolled
from kerasrnn.recurrence.loop import Dropout, Options
from tests.catalogue import VARIANTS

pytestmark = pytest.mark.tensorflow


class LeakyGatedCell(kerasrnn.Cell):
    """A made-up cell with what no classic one has: step weights, and products of products."""

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


CELLS = [(row.cell, variant) for row, variant in VARIANTS] + [(LeakyGatedCell, {})]


@st.composite
def cases(draw):
    cell_class, variant = draw(st.sampled_from(CELLS))
    batch, time = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    return {
        "cell": (cell_class, variant),
        "shape": (batch, time),
        "options": Options(
            return_sequences=draw(st.booleans()),
            go_backwards=draw(st.booleans()),
            zero_output_for_mask=draw(st.booleans()),
        ),
        "mask": draw(st.booleans()),
        "dropout": draw(st.sampled_from(["none", "one mask", "one a gate"])),
        "seed": draw(st.integers(0, 1000)),
    }


def run_and_differentiate(loop, cell, options, arrays):
    import tensorflow as tf

    sequences, states, weights, mask, dropout, seed = arrays
    with tf.GradientTape() as tape:
        tape.watch([sequences, states, weights])
        # A graph, as in a compiled model; eager loops are compiled by the door.
        results = tf.function(lambda *tensors: loop(cell, options, *tensors), autograph=False)(
            sequences, states, weights, dropout, mask
        )
        random = np.random.default_rng(seed)
        flat = tf.nest.flatten(results)
        loss = tf.add_n([tf.reduce_sum(y * random.standard_normal(tuple(y.shape))) for y in flat])
    gradients = tape.gradient(loss, [sequences, states, weights], unconnected_gradients="zero")
    return tf.nest.flatten(results), tf.nest.flatten(gradients)


@given(cases())
def test_the_adjoint_is_the_derivative(case):
    """Every argument: inputs, initial states, every weight; any mask, dropout and option."""
    import tensorflow as tf

    from kerasrnn.recurrence import tensorflow as room

    cell_class, variant = case["cell"]
    batch, time = case["shape"]
    random = np.random.default_rng(case["seed"])
    cell = cell_class(3, dtype="float64", **variant)
    cell.build((None, 2))
    cell.set_weights([0.7 * random.standard_normal(w.shape) for w in cell.get_weights()])

    def tensor(*shape):
        return tf.constant(random.standard_normal(shape))

    masks = {"none": 0, "one mask": 1, "one a gate": len(cell.gates)}[case["dropout"]]
    dropout = Dropout()
    if masks:
        dropout = Dropout(
            [tf.abs(tensor(batch, 2)) for _ in range(masks)],
            [tf.abs(tensor(batch, 3)) for _ in range(masks)],
        )
    mask = tf.constant(random.random((batch, time)) < 0.6) if case["mask"] else None
    arrays = (
        tensor(batch, time, 2),
        [tensor(batch, 3) for _ in cell.state_names],
        cell.weights_by_name(),
        mask,
        dropout,
        case["seed"],
    )
    options = case["options"]
    expected = run_and_differentiate(unrolled.loop, cell, options, arrays)
    for training in (True, False):
        actual = run_and_differentiate(
            room.loop, cell, dataclasses.replace(options, training=training), arrays
        )
        for kind, ours, theirs in zip(("result", "gradient"), actual, expected, strict=True):
            for n, (a, b) in enumerate(zip(ours, theirs, strict=True)):
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10, err_msg=f"{kind} {n}")


def test_a_cell_of_a_users_own_trains_and_saves(tmp_path):
    """Step weights receive their gradients in `fit`; the class is registered by its author."""
    registered = keras.saving.register_keras_serializable("tests")(LeakyGatedCell)
    model = keras.Sequential(
        [keras.Input((None, 2)), kerasrnn.RNN(registered(3)), keras.layers.Dense(1)]
    )
    before = [w.copy() for w in model.get_weights()]
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).standard_normal((8, 4, 2))
    model.fit(x, np.ones((8, 1)), verbose=0)
    for weight, old in zip(model.weights, before, strict=True):
        assert np.abs(weight.numpy() - old).max() > 0, weight.path
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))


def test_second_derivatives():
    """The gradient is itself made of operations that can be differentiated."""
    import tensorflow as tf

    layer = kerasrnn.SimpleRNN(2, dtype="float64")
    x = tf.constant(np.random.default_rng(0).standard_normal((1, 3, 2)))
    layer(x)
    hessians = []
    for training in (False, True):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = tf.reduce_sum(layer(x, training=training) ** 2)
            (gradient,) = inner.gradient(y, [x])
            total = tf.reduce_sum(gradient * tf.constant([1.0, 2.0], tf.float64))
        hessians.append(outer.gradient(total, x))
    np.testing.assert_allclose(hessians[1], hessians[0], atol=1e-10)
