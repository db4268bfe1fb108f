"""The checks of the results of a cell's methods, with all loop options."""

import re

import keras
import numpy as np
import pytest
from keras import ops

import kerasrnn
from kerasrnn.recurrence import Noise, RecurrentProduct
from tests.measure import PRECISION, measure
from tests.recurrence.test_states import normal

X = normal(16, 5, 3)


def trained(cell):
    """The gradients of a layer of the cell."""
    layer = kerasrnn.RNN(cell)
    layer.build(X.shape)
    return measure(layer, X, training=True)


def cell_class(update=None, **attributes):
    """A cell of 4 units; by default h = tanh(a + r)."""

    def plain(self, a, r, states, weights):
        h = ops.tanh(a + r)
        return h, [h]

    return type("OddCell", (kerasrnn.Cell,), {"update": update or plain, **attributes})


def returning(function):
    return cell_class(lambda self, a, r, states, weights: function(a))


def declaring(shapes):
    return cell_class(state_shapes=property(lambda self: shapes))


STEPS = {
    "no states": (lambda a: a, "expected (output, new_states), with a list of states"),
    "states without a list": (lambda a: (a, a), "expected (output, new_states), with a list"),
    "two states": (lambda a: (a, [a, a]), "new_states[0], new_states[1]; expected new_states[0]"),
    "an empty list": (lambda a: (a, []), "returned no states; expected new_states[0]"),
    "a dict": (lambda a: (a, [{"h": a}]), "new_states[0]['h']; expected new_states[0]"),
    "a narrow state": (lambda a: (a, [a[:, :1]]), "of shape (16, 1); expected (16, 4)"),
    "a state of one row": (lambda a: (a, [a[:1]]), "of shape (1, 4); expected (16, 4)"),
    "a narrow output": (lambda a: (a[:, :1], [a]), "of shape (16, 1); expected (16, 4)"),
}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", STEPS)
def test_results_of_a_step(name, training):
    function, message = STEPS[name]
    for options in ({}, {"return_sequences": True, "unroll": True}):
        layer = kerasrnn.RNN(returning(function)(4, dtype=PRECISION), dtype=PRECISION, **options)
        with pytest.raises(ValueError, match=re.escape(message)):
            layer(X, training=training)
    if "output" not in name:
        cell = returning(function)(4, dtype=PRECISION)
        with pytest.raises(ValueError, match=re.escape(message)):
            cell(X[:, 0], cell.get_initial_state(16), training=training)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([4], "state_shapes: h has 4; expected a tuple of integers"),
        ((4,), "state_shapes=(4,): expected a list with an entry for each state, h."),
        ([(4,), (4,)], "expected a list with an entry for each state, h."),
        ({"h": (4,)}, "expected a list with an entry for each state, h."),
        ([[]], "state_shapes: h has []; expected a tuple of integers"),
        ([(None,)], "state_shapes: h has (None,); expected sizes that are known"),
    ],
)
def test_shapes_of_states(shapes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        kerasrnn.RNN(declaring(shapes)(4))(X)


@pytest.mark.parametrize("shape", [4, (None,), [4]])
def test_shape_of_the_output(shape):
    layer = kerasrnn.RNN(cell_class(output_shape=property(lambda self: shape))(4))
    with pytest.raises(ValueError, match=r"OddCell.output_shape=.*: expected a tuple of integers"):
        layer(X)


def test_state_of_a_called_cell():
    cell = cell_class()(4)
    with pytest.raises(ValueError, match=re.escape("h has the shape (16, 1); expected (None, 4)")):
        cell(X[:, 0], [np.zeros((16, 1), "float32")])


class PairCell(kerasrnn.Cell):
    """One state, a structure: p, the output, and q, the sum of all outputs."""

    @property
    def state_shapes(self):
        return [{"q": (self.units,), "p": (self.units,)}]

    def step(self, a, states, weights, products):
        (state,) = states
        p = ops.tanh(a + products[0](state["p"]))
        return p, [{"p": p, "q": state["q"] + p}]


def test_a_single_state_that_is_a_structure():
    layer = kerasrnn.RNN(
        PairCell(4, dtype=PRECISION),
        return_sequences=True,
        return_state=True,
        stateful=True,
        dtype=PRECISION,
    )
    y, state = layer(X)
    kernel, recurrent, bias = (np.asarray(w, "float64") for w in layer.get_weights())
    p, expected = np.zeros((16, 4)), []
    for t in range(10):
        p = np.tanh(X[:, t % 5] @ kernel + bias + p @ recurrent)
        expected.append(p)
    np.testing.assert_allclose(y, np.stack(expected[:5], 1), atol=1e-5)
    np.testing.assert_allclose(state["q"], sum(expected[:5]), atol=1e-5)
    _, state = layer(X)
    np.testing.assert_allclose(state["q"], sum(expected), atol=1e-5)
    layer.reset_state()
    np.testing.assert_allclose(layer(X)[0], y, atol=1e-5)


def drawing(noise):
    return cell_class(draw_noise=lambda self, inputs, states, steps=None: noise)


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        (None, "draw_noise returned None; expected a kerasrnn.recurrence.Noise"),
        (Noise({}, {"n": np.ones(4)}), "sequences['n'] has the shape (4,); expected (batch, ...)"),
        (Noise({}, {"n": [np.ones((1, 4))]}), "sequences['n'][0] has the shape (1, 4)"),
        (Noise({}, {}, {"n": np.ones((16, 3, 4))}), "steps['n'] has the shape (16, 3, 4)"),
        (Noise({}, {}, {"n": np.ones((16, 9, 4))}), "expected (batch, time, ...) = (16, 5, ...)"),
        (
            Noise({"n": np.ones(4)}, {"n": np.ones((16, 4))}),
            "'n' is the name of two random tensors",
        ),
    ],
)
def test_noise(noise, message):
    """Noise of too many steps would be misaligned by `go_backwards`, and noise of a single row
    cannot be split with the batch."""
    for jit_compile in ("auto", True) if keras.backend.backend() != "torch" else ("auto",):
        layer = kerasrnn.RNN(drawing(noise)(4), jit_compile=jit_compile)
        with pytest.raises(ValueError, match=re.escape(message)):
            layer(X, training=True)
        layer(X, training=False)


def multiplying(**members):
    """A cell whose product overrides members of `RecurrentProduct`."""
    product = type("OddProduct", (RecurrentProduct,), members)

    def recurrent_products(self, weights):
        return (product(weights["recurrent_kernel"], None),)

    return cell_class(recurrent_products=recurrent_products)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda v, d: d[0, :4], "OddProduct.weight_gradients returned the shapes (4, 4)"),
        (
            lambda v, d: (d[0, :4],),
            "shapes [0]: (4, 4); expected those of its weights, [0]: (4, 4)",
        ),
        (lambda v, d: (None, d[0, :4]), "shapes [0]: None, [1]: (4, 4); expected"),
        (lambda v, d: (d[0, 0], None), "shapes [0]: (4,), [1]: None; expected"),
    ],
)
def test_gradients_of_weights(returned, message):
    cell = multiplying(weight_gradients=lambda self, v, d_r: returned(v, d_r))(4)
    with pytest.raises(ValueError, match=re.escape(message)):
        trained(cell)


@pytest.mark.parametrize("returned", [None, 1])
def test_adjoint_of_a_product(returned):
    """None would be read as zero, and a narrow gradient would be broadcast."""
    cell = multiplying(adjoint=lambda self, d_r: None if returned is None else d_r[:, :returned])(4)
    with pytest.raises(ValueError, match=r"products\[0\].adjoint returned .*expected the shape"):
        trained(cell)


@pytest.mark.parametrize(
    ("products", "message"),
    [
        (lambda kernel: lambda v: v, "recurrent_products returned a function; expected a tuple"),
        (lambda kernel: (lambda v: v,), "products[0], a function, lacks rank, weights, adjoint"),
    ],
)
def test_products(products, message):
    cell = cell_class(
        recurrent_products=lambda self, weights: products(weights["recurrent_kernel"])
    )(4)
    with pytest.raises(ValueError, match=re.escape(message)):
        kerasrnn.RNN(cell)(X)
