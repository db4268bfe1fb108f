"""A mask is lost where padding changes what the model computes."""

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn.diagnostics import masks

pytestmark = [
    # Keras warns of the lost masks, from 3.16 on also of its own recurrent layers.
    pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask:UserWarning"),
]

LAYERS = {
    "ours": lambda: kerasrnn.LSTM(3, return_sequences=True),
    "two directions": lambda: kerasrnn.Bidirectional(kerasrnn.GRU(3, return_sequences=True)),
    "Keras's": lambda: keras.layers.LSTM(3, return_sequences=True),
    "Keras's two directions": lambda: keras.layers.Bidirectional(
        keras.layers.GRU(3, return_sequences=True)
    ),
    "each step": lambda: keras.layers.TimeDistributed(keras.layers.Dense(3)),
    "pointwise": lambda: keras.layers.LayerNormalization(),
    "neighbours": lambda: keras.layers.Conv1D(3, 1),
    "nested": lambda: keras.Sequential(
        [keras.Input((None, 4)), kerasrnn.MGU(3, return_sequences=True), keras.layers.Dense(2)]
    ),
    "an operation": lambda: twice(),
    "two of them": lambda: summed(),
    "nested, lost": lambda: keras.Sequential([keras.Input((None, 4)), keras.layers.Conv1D(3, 1)]),
}


def twice():
    """A nested model whose mask an operation loses."""
    x = keras.Input((None, 4))
    return keras.Model(x, 2.0 * x)


def summed():
    x = keras.Input((None, 4))
    return keras.Model(x, keras.layers.Add()([x, keras.layers.LayerNormalization()(x)]))


def embedding():
    return keras.layers.Embedding(9, 4, mask_zero=True, name="embedding")


@pytest.mark.parametrize("name", LAYERS)
def test_a_mask_is_lost_where_padding_changes_the_output(name):
    layer = LAYERS[name]()
    model = keras.Sequential(
        [keras.Input((None,), dtype="int32"), embedding(), layer, kerasrnn.GRU(2, name="last")]
    )
    ids = np.array([[3, 1, 4, 1]])
    padded = np.pad(ids, ((0, 0), (0, 3)))
    # Eagerly: in a graph, TimeDistributed is wrong about sequences of unknown length.
    outputs = [keras.ops.convert_to_numpy(model(x)) for x in (ids, padded)]
    same = np.allclose(*outputs, atol=1e-6)
    flow = masks(model)
    assert (flow.lost == ()) == same
    fates = [found.mask for found in flow.layers]
    assert fates[0] == "created"
    assert fates[-1] == ("used" if same else "none")


def test_the_summary():
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            embedding(),
            keras.layers.Conv1D(3, 1, name="conv"),
            kerasrnn.LSTM(2, name="lstm"),
        ],
        name="model",
    )
    first, *table, advice = masks(model).summary().splitlines()
    assert first == "model: the mask is lost in 1 of 3 layers"
    assert [line.split() for line in table] == [
        ["layer", "class", "mask"],
        ["embedding", "keras.Embedding", "created"],
        ["conv", "keras.Conv1D", "lost"],
        ["lstm", "LSTM", "none"],
    ]
    assert advice.startswith("conv: Conv1D does not pass masks on;")


class Subclassed(keras.Model):
    def __init__(self, middle):
        super().__init__(name="subclassed")
        self.embedding, self.middle, self.last = embedding(), middle, kerasrnn.GRU(2, name="last")

    def call(self, ids):
        return self.last(self.middle(self.embedding(ids)))


def test_a_subclassed_model():
    middle = keras.layers.Conv1D(3, 1, name="conv")
    with pytest.raises(ValueError, match="x=None: 'subclassed' is not functional"):
        masks(Subclassed(middle))
    if keras.backend.backend() == "jax":
        with pytest.raises(ValueError, match="model='subclassed': expected a functional"):
            masks(Subclassed(middle), np.array([[1, 2, 0]]))
        return
    call = keras.layers.Layer.__call__
    found = masks(Subclassed(middle), np.array([[1, 2, 0]])).layers
    assert [(f.name, f.mask) for f in found] == [
        ("embedding", "created"),
        ("conv", "lost"),
        ("last", "none"),
    ]
    assert keras.layers.Layer.__call__ is call


def test_a_mask_as_an_argument():
    """It is passed on like the mask of the input."""
    x, mask = keras.Input((None, 4)), keras.Input((None,), dtype="bool")
    lower = kerasrnn.GRU(3, return_sequences=True, name="lower")
    model = keras.Model([x, mask], kerasrnn.GRU(2, name="upper")(lower(x, mask=mask)))
    assert [(f.name, f.mask) for f in masks(model).layers] == [
        ("lower", "passed on"),
        ("upper", "used"),
    ]
    values = np.random.default_rng(0).normal(size=(1, 5, 4)).astype("float32")
    used = np.array([[True, True, True, False, False]])
    outputs = [model([values[:, :n], used[:, :n]]) for n in (3, 5)]
    np.testing.assert_allclose(*map(keras.ops.convert_to_numpy, outputs), atol=1e-6)


@pytest.mark.parametrize("given", [True, False], ids=["given", "not given"])
def test_a_mask_given_to_the_next_layer_is_not_lost(given):
    """As the advice says. Padding then has no effect."""
    x = embedding()(ids := keras.Input((None,), dtype="int32"))
    mask = {"mask": keras.ops.not_equal(ids, 0)} if given else {}
    x = keras.layers.Conv1D(3, 1, name="neighbours")(keras.ops.tanh(2.0 * x))
    model = keras.Model(ids, kerasrnn.GRU(2, name="last")(x, **mask))
    outputs = [model(np.array([row])) for row in ([3, 1, 4], [3, 1, 4, 0, 0])]
    same = np.allclose(*map(keras.ops.convert_to_numpy, outputs), atol=1e-6)
    assert same == given
    assert (not masks(model).lost) == same


def test_operations_of_a_mask_are_no_layers():
    """Keras concatenates masks along with their sequences."""
    x = embedding()(ids := keras.Input((None,), dtype="int32"))
    twice = keras.layers.Concatenate(axis=1, name="twice")([x, x])
    model = keras.Model(ids, kerasrnn.GRU(2, name="last")(twice))
    assert [layer.name for layer in masks(model).layers] == ["embedding", "twice", "last"]
    outputs = [model(np.array([row])) for row in ([3, 1], [3, 1, 0])]
    np.testing.assert_allclose(*map(keras.ops.convert_to_numpy, outputs), atol=1e-6)


def test_advice():
    x = embedding()(ids := keras.Input((None,), dtype="int32"))
    other = keras.Input((None, 4))
    model = keras.Model([ids, other], keras.layers.Add(name="sum")([2.0 * x, other]))
    (lost,) = masks(model).lost
    assert lost.layer == "keras.ops.Multiply"
    assert lost.advice.startswith("operations on tensors pass no mask on")
    model = keras.Model([ids, other], keras.layers.Add(name="sum")([x, other]))
    (lost,) = masks(model).lost
    assert (lost.name, lost.advice) == (
        "sum",
        "Add passes a mask on only if all of its inputs have one.",
    )
    with pytest.raises(ValueError, match="a Sequential model without an Input"):
        masks(keras.Sequential([embedding(), kerasrnn.GRU(2)]))
