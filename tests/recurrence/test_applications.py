"""Steps that apply a product several times, in another order than declared, or never."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

import kerasrnn
from tests.measure import PRECISION, TIGHT, measure, op_by_op, randomize


class MidpointCell(kerasrnn.Cell):
    """A step of the midpoint rule for h' = tanh(a + h U + b): one product, twice."""

    @property
    def bias_shape(self):
        return (2, self.units)

    def step(self, a, states, weights, products):
        (product,) = products
        (h,) = states
        half = h + 0.25 * ops.tanh(a + product(h))
        h = h + 0.5 * ops.tanh(a + product(half))
        return h, [h]

    @staticmethod
    def in_numpy(a, h, kernel, bias):
        half = h + 0.25 * np.tanh(a + h @ kernel + bias)
        return h + 0.5 * np.tanh(a + half @ kernel + bias)


class TangledCell(kerasrnn.Cell):
    """Four products: the second in a loop, the last first, one unused and one left out."""

    gates = ("one", "two", "three", "four")

    @property
    def product_groups(self):
        return (("one",), ("two",), ("three",), ("four",))

    @property
    def bias_shape(self):
        return (2, 4 * self.units)

    def step(self, a, states, weights, products):
        first, second, _, last = products
        (h,) = states
        a_1, a_2, a_3, a_4 = ops.split(a, 4, axis=-1)
        gate = ops.sigmoid(a_4 + last(ops.tanh(a_3)))  # the argument is not a state
        last(gate)  # unused
        for _ in range(3):
            h = h + 0.3 * ops.tanh(a_2 + second(h))
        new = gate * states[0] + (1 - gate) * ops.tanh(a_1 + first(second(h) * states[0]))
        return new + h, [new]

    @staticmethod
    def in_numpy(a, h, kernel, bias):
        a_1, a_2, a_3, a_4 = np.split(a, 4, axis=-1)
        (u_1, u_2, _, u_4), (b_1, b_2, _, b_4) = np.split(kernel, 4, -1), np.split(bias, 4, -1)
        gate = 1 / (1 + np.exp(-(a_4 + np.tanh(a_3) @ u_4 + b_4)))
        start = h
        for _ in range(3):
            h = h + 0.3 * np.tanh(a_2 + h @ u_2 + b_2)
        inner = ((h @ u_2 + b_2) * start) @ u_1 + b_1
        new = gate * start + (1 - gate) * np.tanh(a_1 + inner)
        return new + h, new


class BesideCell(kerasrnn.Cell):
    """Two products, whose concatenated results `update` reads: a residual and its gate."""

    gates = ("gate", "h")

    @property
    def product_groups(self):
        return (("gate",), ("h",))

    @property
    def bias_shape(self):
        return (2, 2 * self.units)

    def update(self, a, r, states, weights):
        gate, h = ops.split(a + r, 2, axis=-1)
        h = states[0] + ops.sigmoid(gate) * ops.tanh(h)
        return h, [h]

    @staticmethod
    def in_numpy(a, h, kernel, bias):
        gate, new = np.split(a + h @ kernel + bias, 2, axis=-1)
        return h + np.tanh(new) / (1 + np.exp(-gate))


class InGroupsCell(kerasrnn.LSTMCell):
    """One product for each gate."""

    @property
    def product_groups(self):
        return tuple((gate,) for gate in self.gates)


both = pytest.mark.parametrize("cell_class", [MidpointCell, TangledCell, BesideCell])


def build(cell_class, **options):
    layer = kerasrnn.RNN(cell_class(2, dtype=PRECISION), dtype=PRECISION, **options)
    layer.build((None, None, 2))
    randomize(layer)
    return layer


def inputs():
    return np.random.default_rng(3).standard_normal((2, 3, 2)).astype(PRECISION)


@functools.cache
def measured(cell_class):
    return measure(build(cell_class, return_sequences=True), inputs(), training=True)


def loss_in_numpy(cell_class, x, weights, factors):
    """The loss of `measured`."""
    kernel, recurrent_kernel, bias = weights
    h, loss = np.zeros((len(x), len(recurrent_kernel))), 0.0
    for t in range(x.shape[1]):
        a = x[:, t] @ kernel + bias[0]
        after = cell_class.in_numpy(a, h, recurrent_kernel, bias[1])
        y, h = after if isinstance(after, tuple) else (after, after)
        loss += np.sum(y * factors[:, t])
    return loss


@both
def test_gradients_equal_finite_differences_in_numpy(cell_class):
    layer, found = build(cell_class), measured(cell_class)
    factors = np.random.default_rng(7).standard_normal((2, 3, 2))
    arguments = [np.asarray(v, "float64") for v in (inputs(), *layer.get_weights())]
    np.testing.assert_allclose(
        np.sum(found.outputs[0] * factors),
        loss_in_numpy(cell_class, arguments[0], arguments[1:], factors),
        rtol=1e-6,
    )
    for array, actual in zip(arguments, [found.d_inputs, *found.d_weights], strict=True):
        expected = np.zeros_like(array)
        for at in np.ndindex(*array.shape):
            value, losses = array[at], []
            for moved in (value + 1e-5, value - 1e-5):
                array[at] = moved
                losses.append(loss_in_numpy(cell_class, arguments[0], arguments[1:], factors))
            array[at] = value
            expected[at] = (losses[0] - losses[1]) / 2e-5
        np.testing.assert_allclose(actual, expected, atol=max(TIGHT, 1e-8) * 10)


def test_product_groups_do_not_change_the_gradient():
    found = measured(InGroupsCell)
    with op_by_op():
        expected = measured(kerasrnn.LSTMCell)
    for a, b in zip(keras.tree.flatten(found), keras.tree.flatten(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=TIGHT)


def test_a_cell_without_product_groups_is_refused():
    class Nothing(BesideCell):
        product_groups = ()

    with pytest.raises(
        ValueError, match="Nothing: product_groups is empty; expected at least one group"
    ):
        build(Nothing)(inputs())


def test_an_unused_product_has_no_gradient():
    _, d_kernel, d_bias = measured(TangledCell).d_weights
    np.testing.assert_array_equal(d_kernel[:, 4:6], 0)
    np.testing.assert_array_equal(d_bias[1, 4:6], 0)
    assert np.abs(d_kernel[:, :4]).min() > 0


def cell_with(step_of):
    class MyCell(kerasrnn.Cell):
        def step(self, a, states, weights, products):
            h = step_of(a, states[0], products[0])
            return h, [h]

    return MyCell


def in_a_backend_loop(a, h, product):
    _, h = ops.while_loop(
        lambda n, h: n < 2, lambda n, h: (n + 1, ops.tanh(a + product(h))), (0, h)
    )
    return h


traces = []


def one_more_in_every_trace(a, h, product):
    traces.append(1)
    for _ in range(len(traces)):
        h = ops.tanh(a + product(h))
    return h


@pytest.mark.parametrize(
    ("step_of", "message"),
    [
        (in_a_backend_loop, r"is applied inside a loop, a branch or a function of the backend"),
        (
            lambda a, h, product: a + ops.matmul(h, product.kernel),
            r"was accessed for its attribute 'kernel'",
        ),
        (
            lambda a, h, product: a + h + product(ops.ones((1, 2), PRECISION)),
            r"is applied to an argument of shape \(1, 2\); expected \(batch, width\)",
        ),
        (
            one_more_in_every_trace,
            r"was applied \d times when .* first traced, and \w+ times when",
        ),
    ],
    ids=["backend loop", "attribute", "no batch", "changing"],
)
def test_steps_that_cannot_be_recorded_are_refused(step_of, message):
    traces.clear()
    layer = build(cell_with(step_of))
    with pytest.raises(ValueError, match=r"MyCell\.step: products\[0\] \(of 1\) " + message):
        measure(layer, inputs(), training=True)
    assert layer(inputs()).shape == (2, 2)
