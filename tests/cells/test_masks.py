"""Masks: attached to sequences, passed as arguments, passed on to the next layer."""

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn.keras_internals import get_keras_mask
from tests import numpy_models
from tests.catalogue import MANUAL_AND_AUTOMATIC, variant_id
from tests.measure import make_mask, op_by_op, randomize, to_list

manual_and_automatic = pytest.mark.parametrize("row", MANUAL_AND_AUTOMATIC, ids=variant_id)

TOKENS = np.array([[1, 2, 3, 4], [5, 6, 0, 0], [0, 0, 7, 8], [0, 0, 0, 0]], "int32")


@pytest.fixture(autouse=True)
def _op_by_op():
    with op_by_op():
        yield


def sequences():
    return np.random.default_rng(0).standard_normal((4, 6, 3)).astype("float32")


@pytest.mark.parametrize("keras_drops_masks", [False, True])
def test_masks_are_passed_on(keras_drops_masks, monkeypatch):
    """From Embedding through a stack; also when Keras's RNN stops supporting masks, as in 3.16."""
    if keras_drops_masks:
        original = keras.layers.RNN.__init__

        def without_masks(self, *args, **kwargs):
            original(self, *args, **kwargs)
            self.supports_masking = False

        monkeypatch.setattr(keras.layers.RNN, "__init__", without_masks)
        monkeypatch.delattr(keras.layers.RNN, "compute_mask")
    embedding = keras.layers.Embedding(11, 3, mask_zero=True)
    first, second = kerasrnn.LSTM(5, return_sequences=True), kerasrnn.GRU(4)
    padded = second(first(embedding(TOKENS[:2])))
    short = second(first(embedding(TOKENS[1:2, :2])))
    np.testing.assert_allclose(padded[1:], short, atol=1e-6)


def test_a_stack_above_padding_is_exact():
    """Compared with the NumPy oracles, with gaps; Keras's own layers lose the mask from 3.16 on."""
    ids = np.array([[1, 0, 3, 4, 0], [5, 6, 0, 0, 0], [0, 0, 7, 8, 9], [0, 0, 0, 0, 0]])
    layers = [
        keras.layers.Embedding(11, 3, mask_zero=True),
        kerasrnn.LSTM(4, return_sequences=True),
        kerasrnn.Bidirectional(kerasrnn.GRU(3, return_sequences=True)),
        kerasrnn.StackedRNN([kerasrnn.SimpleRNN(6), kerasrnn.LSTM(6)], residual=True),
    ]
    model = keras.Sequential([keras.Input((None,), dtype="int32"), *layers])
    randomize(model)
    x, mask = np.asarray(layers[0](ids)), ids != 0
    for layer in layers[1:]:
        x, _, _ = numpy_models.run(layer, x, mask)
    np.testing.assert_allclose(model(ids), x[:, -1], rtol=0, atol=1e-5)


def test_attached_masks_are_used_with_initial_states():
    """Keras ignores them there; a decoder receives states and padded targets together."""
    states = [np.full((4, 5), 0.5, "float32") for _ in range(2)]
    embedding = keras.layers.Embedding(11, 3, mask_zero=True)
    layer = kerasrnn.LSTM(5, return_sequences=True)
    expected = np.asarray(layer(embedding(TOKENS), initial_state=states, mask=TOKENS != 0))
    eager = np.asarray(layer(embedding(TOKENS), initial_state=states))
    np.testing.assert_array_equal(eager, expected)
    tokens = keras.Input((None,), dtype="int32")
    inputs = [keras.Input((5,)) for _ in states]
    model = keras.Model([tokens, *inputs], layer(embedding(tokens), initial_state=inputs))
    np.testing.assert_allclose(model([TOKENS, *states]), expected, atol=1e-6)


@manual_and_automatic
def test_masks_of_every_kind_and_type(row):
    """From a masking layer, boolean or numeric; masked steps have no effect on the results."""
    x, mask = sequences(), make_mask("gapped", 4, 6)
    x[~mask] = 0
    layer = row.layer(5, return_sequences=True, return_state=True)
    expected = [np.asarray(y) for y in to_list(layer(x, mask=mask))]
    masked = keras.layers.Masking(0.0)(x)
    np.testing.assert_array_equal(np.asarray(layer(masked)[0]), expected[0])
    for other in (mask.astype("int32"), mask.astype("float32")):
        np.testing.assert_array_equal(np.asarray(layer(x, mask=other)[0]), expected[0])
    x[~mask] = 1e6
    for a, b in zip(to_list(layer(x, mask=mask)), expected, strict=True):
        np.testing.assert_array_equal(np.asarray(a), b)


@manual_and_automatic
def test_compute_mask(row):
    mask = np.ones((2, 3), bool)
    n = len(row.cell.state_names)
    assert row.layer(5).compute_mask(None, mask) is None
    assert row.layer(5, return_sequences=True).compute_mask(None, mask) is mask
    layer = row.layer(5, return_sequences=True, return_state=True)
    assert layer.compute_mask(None, [mask, None]) == [mask] + [None] * n


def test_the_mask_of_reversed_outputs_is_reversed():
    """For ids [1, 2, 0, 0] the outputs are [0, 0, y_1, y_0]."""
    embedding = keras.layers.Embedding(11, 3, mask_zero=True)
    options = {"go_backwards": True, "return_sequences": True}
    for return_state in (False, True):
        layer = kerasrnn.GRU(5, **options, return_state=return_state)
        y = keras.tree.flatten(layer(embedding(TOKENS)))[0]
        mask = np.asarray(get_keras_mask(y))
        np.testing.assert_array_equal(mask, (TOKENS != 0)[:, ::-1])
    # The layer above reads only the valid steps.
    above = kerasrnn.LSTM(4)
    actual = np.asarray(above(y))
    for row, ids in enumerate(TOKENS[:3]):
        used = layer(embedding(ids[None, ids != 0]))
        expected = above(keras.tree.flatten(used)[0])
        np.testing.assert_allclose(actual[row : row + 1], expected, atol=1e-6)
    assert kerasrnn.GRU(5, go_backwards=True).compute_mask(None, TOKENS != 0) is None
