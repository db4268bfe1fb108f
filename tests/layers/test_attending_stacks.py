"""`StackedRNN` with a layer that attends to a memory, against the recursions in NumPy."""

import keras
import numpy as np
import pytest

import kerasrnn
from tests import numpy_models
from tests.measure import MASKS, PRECISION, TIGHT, make_mask, op_by_op, randomize

TOKENS = np.array([[1, 2, 3, 4], [5, 6, 0, 0], [0, 0, 7, 8], [0, 0, 0, 0]], "int32")


@pytest.fixture(autouse=True)
def _op_by_op():
    """What is traced is tested in `test_in_graphs.py`."""
    with op_by_op():
        yield


def sequences():
    return np.random.default_rng(0).standard_normal((4, 6, 3)).astype(PRECISION)


def attending_stack(query="output", **options):
    """Three layers, one of which attends."""
    cell = kerasrnn.AttentionCell(
        kerasrnn.LSTMCell(5, dtype=PRECISION),
        kerasrnn.CoverageAttention(3, dtype=PRECISION),
        units=4,
        query=query,
        dtype=PRECISION,
    )
    layers = [
        kerasrnn.GRU(4, dtype=PRECISION),
        kerasrnn.RNN(cell, dtype=PRECISION),
        kerasrnn.SimpleRNN(4, dtype=PRECISION),
    ]
    options = {"return_sequences": True, "return_state": True, "dtype": PRECISION, **options}
    stack = kerasrnn.StackedRNN(layers, residual=True, **options)
    stack.build((4, 6, 3), memory_shape=(4, 7, 2))
    randomize(stack)
    return stack


def memory():
    return np.random.default_rng(5).standard_normal((4, 7, 2)).astype(PRECISION)


def stack_by_hand(stack, x, mask, memory_mask, states):
    """Outputs, and the weights of the last step."""
    bottom, middle, top = stack.layers
    y, _, _ = numpy_models.run(bottom, x, mask, states[:1])
    z, alpha = numpy_models.run_attending(
        middle, y, memory(), mask, memory_mask, states=states[1:3]
    )
    z = z + y
    outputs, _, _ = numpy_models.run(top, z, mask, states[3:])
    return outputs + z, alpha[:, -1]


@pytest.mark.parametrize("query", ["output", "state"])
def test_a_stack_with_one_attending_layer(query):
    """With the states of an encoder, or with all; in one call, in two, or step by step."""
    stack, x = attending_stack(query), sequences()
    assert stack.external_state_shapes == [(4,), (5,), (5,), (4,)]
    random = np.random.default_rng(3)
    states = [
        random.standard_normal((4, *n)).astype(PRECISION) for n in stack.external_state_shapes
    ]
    memory_mask = make_mask("mixed", 4, 7)
    for kind in MASKS:
        mask = make_mask(kind, 4, 6)
        given = {"memory": memory(), "memory_mask": memory_mask}
        outputs, *finals = stack(x, initial_state=states, mask=mask, **given)
        expected, alpha = stack_by_hand(stack, x, mask, memory_mask, states)
        np.testing.assert_allclose(outputs, expected, atol=TIGHT)
        np.testing.assert_allclose(stack.weights_of_step(finals), alpha, atol=TIGHT)
    first, *middle = stack(x[:, :2], initial_state=states, **given)
    second, *finals = stack(x[:, 2:], initial_state=middle, **given)
    whole = np.concatenate([first, second], axis=1)
    prepared = stack.prepare_memory(memory(), memory_mask)
    stepped = stack.extend_states(states, prepared)
    assert len(stepped) == len(stack.state_size) == len(finals)
    for t in range(6):
        y, stepped = stack.step(x[:, t], stepped, prepared)
        np.testing.assert_allclose(y, whole[:, t], atol=TIGHT)
    for a, b in zip(stepped, finals, strict=True):
        np.testing.assert_allclose(a, b, atol=TIGHT)


def test_a_model_with_an_attending_stack(tmp_path):
    """With the masks of both embeddings; shapes, values, saved and loaded."""
    ids, of_source = keras.Input((None,), dtype="int32"), keras.Input((None,), dtype="int32")
    embedded = [
        keras.layers.Embedding(9, width, mask_zero=True)(x)
        for x, width in ((ids, 3), (of_source, 2))
    ]
    cell = kerasrnn.AttentionCell(kerasrnn.GRUCell(4), kerasrnn.BahdanauAttention(3))
    stack = kerasrnn.StackedRNN(
        [kerasrnn.GRU(4), kerasrnn.RNN(cell)], return_sequences=True, return_state=True
    )
    model = keras.Model([ids, of_source], stack(embedded[0], memory=embedded[1]))
    states = [(None, size) for size in (4, 4, 2, None)]
    assert list(model.output_shape) == [(None, None, 6), *states]
    given = [TOKENS, TOKENS[:, :3]]
    outputs, *finals = model(given)
    x, source = (layer(n) for layer, n in zip(model.layers[2:4], given, strict=True))
    below, _, _ = numpy_models.run(stack.layers[0], np.asarray(x), given[0] != 0)
    expected, alpha = numpy_models.run_attending(
        stack.layers[1], below, np.asarray(source), given[0] != 0, given[1] != 0
    )
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    np.testing.assert_allclose(finals[-1], alpha[:, -1], atol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for a, b in zip(loaded(given), (outputs, *finals), strict=True):
        np.testing.assert_array_equal(a, b)


def test_missing_and_unexpected_memories():
    x, stack = sequences(), attending_stack()
    with pytest.raises(ValueError, match="a memory was given; expected none without a layer of an"):
        kerasrnn.StackedRNN([kerasrnn.GRU(5)])(x, memory=memory())
    with pytest.raises(ValueError, match=r"memory=None: expected \(batch, positions, width\)"):
        stack(x)
    with pytest.raises(ValueError, match="prepared=None: expected the result of `prepare_memory`"):
        stack.get_initial_state(4)
    with pytest.raises(ValueError, match="no layer has an AttentionCell; expected one"):
        kerasrnn.StackedRNN([kerasrnn.GRU(5)]).weights_of_step([])
