"""States of any rank and structure, and other products than of matrices, with all loop options."""

import contextlib

import keras
import numpy as np
import pytest
from keras import ops

import kerasrnn
from kerasrnn import export
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

LOOPS = {
    "plain": {},
    "backwards": {"go_backwards": True, "zero_output_for_mask": True},
    "checkpoints": {"checkpoint_every": 2},
    "truncated": {"truncate_every": 2, "return_sequences": False},
    "unrolled": {"unroll": True},
    "compiled": {"jit_compile": True},
}
ON_TENSORFLOW = pytest.mark.skipif(not FIRST_BACKEND, reason="exports read a TensorFlow graph")


def new_layer(cell, features, **options):
    options = {"return_sequences": True, "return_state": True, "dtype": PRECISION, **options}
    layer = kerasrnn.RNN(cell, **options)
    layer.build((None, None, *features))
    randomize(layer)
    return layer


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(PRECISION)


# A convolution as a product, with only the members of the `Product` protocol.


class Convolution:
    """`r = v * U`, over one axis, padded with zeros."""

    rank = 3

    def __init__(self, kernel):
        self.kernel = kernel

    @property
    def weights(self):
        return self.kernel

    def __call__(self, v):
        return ops.conv(v, self.kernel, padding="same", data_format="channels_last")

    def adjoint(self, d_r):
        kernel = ops.transpose(ops.flip(self.kernel, 0), (0, 2, 1))
        return ops.conv(d_r, kernel, padding="same", data_format="channels_last")

    def weight_gradients(self, v, d_r):
        width, around = v.shape[2], self.kernel.shape[0] // 2
        v = ops.pad(v, ((0, 0), (0, 0), (around, around), (0, 0)))
        return ops.stack(
            [
                ops.einsum("tbwi,tbwo->io", v[:, :, n : n + width], d_r)
                for n in range(self.kernel.shape[0])
            ]
        )


@keras.saving.register_keras_serializable(package="test_states")
class ConvolutionalLSTMCell(kerasrnn.LSTMCell):
    """Shi et al. (2015), over one axis, without peepholes."""

    feature_axes = 2
    width = None

    def build(self, input_shape):
        _, self.width, channels = input_shape
        for name, size in (("kernel", channels), ("recurrent_kernel", self.units)):
            shape = (3, size, 4 * self.units)
            setattr(self, name, self.add_weight(shape=shape, name=name))
        self.bias = self.add_weight(shape=(4 * self.units,), name="bias")
        self.built = True

    @property
    def state_shapes(self):
        return [(self.width, self.units)] * 2

    @property
    def output_shape(self):
        return (self.width, self.units)

    def input_part(self, x, weights):
        for mask in weights.noise.get("inputs", ()):
            x = x * mask
        rows = ops.reshape(x, (-1, *x.shape[-2:]))
        a = Convolution(weights["kernel"])(rows) + weights["bias"]
        return ops.reshape(a, (*ops.shape(x)[:-1], 4 * self.units))

    def recurrent_products(self, weights):
        return (Convolution(weights["recurrent_kernel"]),)


def convolutional(units=3, **options):
    cell = ConvolutionalLSTMCell(units, dtype=PRECISION)
    return new_layer(cell, (5, 2), **options)


@pytest.mark.parametrize(("training", "backwards"), [(False, False), (True, True)])
def test_convolutional_states_equal_keras(training, backwards):
    layer = convolutional(go_backwards=backwards)
    twin = keras.layers.ConvLSTM1D(
        3,
        3,
        padding="same",
        recurrent_activation="sigmoid",
        return_sequences=True,
        return_state=True,
        go_backwards=backwards,
        dtype=PRECISION,
    )
    x = normal(4, 6, 5, 2)
    twin.build(x.shape)
    twin.set_weights(layer.get_weights())
    actual, expected = measure(layer, x, training=training), measure(twin, x)
    assert_same(actual, expected, 1e-9 if FIRST_BACKEND else 1e-4)
    assert layer.compute_output_shape((None, None, 5, 2)) == (
        (None, None, 5, 3),
        (None, 5, 3),
        (None, 5, 3),
    )


# A matrix memory: one state is a structure of tensors of ranks 2 and 1.


class MemoryCell(kerasrnn.Cell):
    """A gated matrix memory: m_t = f m_{t-1} + v k^T, n_t = f n_{t-1} + k, h_t = m_t q / n_t q."""

    gates = ("q", "k", "v", "f")
    state_names = ("h", "memory")

    @property
    def state_shapes(self):
        return [(self.units,), {"sums": [(self.units,)], "matrix": (self.units, self.units)}]

    def step(self, a, states, weights, products):
        h, memory = states
        q, k, v, f = ops.split(a + products[0](h), 4, axis=-1)
        f, k = ops.sigmoid(f), ops.tanh(k)
        matrix = f[:, :, None] * memory["matrix"] + v[:, :, None] * k[:, None, :]
        (sums,) = memory["sums"]
        sums = f * sums + k
        read = ops.sum(matrix * q[:, None, :], axis=-1)
        h = ops.tanh(read / (1 + ops.square(ops.sum(sums * q, axis=-1, keepdims=True))))
        return h, [h, {"matrix": matrix, "sums": [sums]}]


class FlatMemoryCell(MemoryCell):
    """The same, with vectors as states."""

    state_names = ("h", "sums", "matrix")

    @property
    def state_shapes(self):
        return [(self.units,), (self.units,), (self.units**2,)]

    def step(self, a, states, weights, products):
        h, sums, matrix = states
        tree = {"matrix": ops.reshape(matrix, (-1, self.units, self.units)), "sums": [sums]}
        y, (h, tree) = super().step(a, [h, tree], weights, products)
        return y, [h, tree["sums"][0], ops.reshape(tree["matrix"], (-1, self.units**2))]


def tree_of(h, sums, matrix):
    units = h.shape[-1]
    return [h, {"matrix": np.reshape(matrix, (-1, units, units)), "sums": [sums]}]


def pair(units=3, dropout=0.0, **options):
    """A layer with structured states, and one with vectors, with the same weights."""
    layers = []
    for cls in (MemoryCell, FlatMemoryCell):
        cell = cls(units, recurrent_dropout=dropout, seed=1, dtype=PRECISION)
        layers.append(new_layer(cell, (2,), **options))
    return layers


@pytest.mark.parametrize("name", LOOPS)
def test_trees_equal_vectors(name):
    """Outputs and gradients in training, with masks and recurrent dropout."""
    trees, vectors = pair(dropout=0.3, **LOOPS[name])
    x, mask = normal(4, 5, 2), make_mask("mixed", 4, 5)
    with op_by_op():
        vectors.checkpoint_every, vectors.jit_compile = None, False
        expected = measure(vectors, x, mask=mask, training=True)
    # The graph of "plain" is that of "compiled".
    with op_by_op() if name in ("plain", "unrolled") else contextlib.nullcontext():
        assert_same(measure(_Flat(trees), x, mask=mask, training=True), expected, TIGHT)


class _Flat:
    """A layer that returns the states of `FlatMemoryCell`."""

    def __init__(self, layer):
        self.layer = layer

    def __getattr__(self, name):
        return getattr(self.layer, name)

    def __call__(self, *args, **kwargs):
        return self._flat(self.layer(*args, **kwargs))

    def stateless_call(self, *args, **kwargs):
        results, others = self.layer.stateless_call(*args, **kwargs)
        return self._flat(results), others

    def _flat(self, results):
        y, h, memory = results
        matrix = memory["matrix"]
        return [y, h, memory["sums"][0], ops.reshape(matrix, (-1, matrix.shape[-1] ** 2))]


@pytest.mark.torch_backend
def test_initial_and_final_states():
    trees, vectors = pair()
    x, states = normal(4, 5, 2), [normal(4, 3, seed=1), normal(4, 3, seed=2), normal(4, 9, seed=3)]
    y, h, sums, matrix = vectors(x, initial_state=states)
    results = trees(x, initial_state=tree_of(*states))
    keras.tree.assert_same_structure(list(results[1:]), tree_of(h, sums, np.asarray(matrix)))
    for a, b in zip(
        keras.tree.flatten(list(results)),
        keras.tree.flatten([y, *tree_of(h, sums, np.asarray(matrix))]),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=TIGHT)
    # In two calls, and step by step.
    _, *middle = trees(x[:, :2])
    _, *end = trees(x[:, 2:], initial_state=middle)
    state = trees.cell.get_initial_state(4)
    for t in range(5):
        _, state = trees.cell(x[:, t], state)
    _, *whole = trees(x)
    for other in (end, state):
        for a, b in zip(keras.tree.flatten(other), keras.tree.flatten(whole), strict=True):
            np.testing.assert_allclose(a, b, atol=TIGHT)


def test_stateful():
    layer = kerasrnn.RNN(MemoryCell(3, dtype=PRECISION), stateful=True, dtype=PRECISION)
    x = normal(4, 6, 2)
    first, second = layer(x[:, :3]), layer(x[:, 3:])
    layer.reset_state()
    np.testing.assert_allclose(layer(x), second, atol=TIGHT)
    assert np.abs(np.asarray(first) - np.asarray(second)).max() > 1e-3


def test_half_precision_carries_single_precision():
    x = normal(4, 9, 2).astype("float32")
    layer = kerasrnn.RNN(MemoryCell(3, dtype="mixed_float16"), dtype="mixed_float16")
    twin = kerasrnn.RNN(MemoryCell(3), dtype="float32")
    for each in (layer, twin):
        each.build((None, None, 2))
        randomize(each)
    np.testing.assert_allclose(
        np.asarray(layer(x), "float32"), np.asarray(twin(x), "float32"), atol=5e-3
    )


@pytest.mark.parametrize("cell", ["matrix", "convolutional"])
def test_shapes_and_symbolic_calls(cell):
    if cell == "matrix":
        layer, features = pair()[0], (2,)
        states = [(4, 3), {"sums": [(4, 3)], "matrix": (4, 3, 3)}]
    else:
        layer, features, states = convolutional(), (5, 2), [(4, 5, 3)] * 2
    outputs = (4, 6, *layer.cell.output_shape)
    expected = (outputs, *states)
    assert layer.compute_output_shape((4, 6, *features)) == expected
    results = layer(keras.Input(batch_shape=(4, 6, *features), dtype=PRECISION))
    assert keras.tree.map_structure(lambda x: tuple(x.shape), tuple(results)) == expected


@ON_TENSORFLOW
def test_exports(tmp_path):
    inputs = [keras.Input((None, 2)), keras.Input((None, 5, 2))]
    cells = [MemoryCell(3), ConvolutionalLSTMCell(3)]
    layers = [kerasrnn.RNN(cell, return_sequences=True) for cell in cells]
    model = keras.Model(inputs, [layer(x) for layer, x in zip(layers, inputs, strict=True)])
    for layer in layers:
        randomize(layer)
    x = [normal(2, 4, 2).astype("float32"), normal(2, 4, 5, 2).astype("float32")]
    assert export.to_onnx(model, tmp_path / "model.onnx", check=[x]).difference <= 1e-5
    assert export.to_saved_model(model, tmp_path / "model", check=[x]).difference <= 1e-5
    step = export.to_step(model)
    states = [np.zeros((2, *s.shape[1:]), "float32") for s in step.inputs[2:]]
    expected = model(x)
    for t in range(4):
        *ys, a, b, c, d, e = map(np.asarray, step([x[0][:, t], x[1][:, t], *states]))
        states = [a, b, c, d, e]
        for y, of_layer in zip(ys, expected, strict=True):
            np.testing.assert_allclose(y, of_layer[:, t], atol=1e-5)


@ON_TENSORFLOW
def test_names_of_the_states_in_a_step():
    inputs = keras.Input((None, 2))
    model = keras.Model(inputs, kerasrnn.RNN(MemoryCell(3), name="memory")(inputs))
    names = [x.name.split(":")[0] for x in export.to_step(model).inputs[1:]]
    assert names == ["memory_h", "memory_memory_matrix", "memory_memory_sums_0"]


@pytest.mark.parametrize(
    ("states", "message"),
    [
        ([normal(4, 3)], r"initial_state has 1 tensor; expected 2 \(h, memory\)"),
        ([normal(4, 3), normal(4, 3)], "initial_state memory has 1 tensor; expected 2, of the"),
        (
            [normal(4, 3), {"matrix": normal(4, 3, 2), "sums": [normal(4, 3)]}],
            r"memory has the shape \(4, 3, 2\); expected \(batch, ...\) = \(4, 3, 3\)",
        ),
    ],
)
def test_wrong_initial_states_are_refused(states, message):
    layer, _ = pair()
    with pytest.raises(ValueError, match=message):
        layer(normal(4, 5, 2), initial_state=states)


@pytest.mark.skipif(not FIRST_BACKEND, reason="JAX traces the forward pass alone first")
def test_a_product_of_another_rank():
    class Wrong(ConvolutionalLSTMCell):
        def step(self, a, states, weights, products):
            h, c = states
            return super().step(a, [h[:, 0], c], weights, products)

    layer = new_layer(Wrong(3, activation="relu", dtype=PRECISION), (5, 2))
    with pytest.raises(ValueError, match=r"shape \(4, 3\); expected 3 axes, \(batch, ...\)"):
        measure(layer, normal(4, 6, 5, 2), training=True)


def test_products_of_the_second_state_and_of_no_state():

    @keras.saving.register_keras_serializable(package="test_states")
    class Reads(kerasrnn.Cell):
        gates = ("g", "h")
        state_names = ("h", "c")

        @property
        def product_groups(self):
            return (("g",), ("h",))

        def step(self, a, states, weights, products):
            h, c = states
            a_g, a_h = ops.split(a, 2, axis=-1)
            c = ops.tanh(a_g + products[0](c))
            h = ops.tanh(a_h + products[1](c * h))
            return h, [h, c]

    layer = new_layer(Reads(3, dtype=PRECISION), (2,))
    x, mask = normal(4, 5, 2), make_mask("mixed", 4, 5)
    with op_by_op():
        expected = measure(layer, x, mask=mask)  # differentiated automatically
    actual = measure(layer, x, mask=mask, training=True)
    assert_same(actual, expected, TIGHT)
