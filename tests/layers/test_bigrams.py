"""`BigramEmbedding` against a loop over pairs, alone and among the inputs of the zoo."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kerasrnn
from kerasrnn import zoo
from kerasrnn.layers.bigrams import IDS


def by_hand(ids, table):
    """Each step's two rows of the table."""
    rows = len(table)
    outputs = []
    for sequence in ids:
        around = [0, *(int(n) % IDS for n in sequence), 0]
        steps = []
        for t in range(1, len(around) - 1):
            before = (40503 * around[t - 1] + 25013 * around[t]) % rows
            after = (40503 * around[t] + 25013 * around[t + 1]) % rows
            steps.append(np.concatenate([table[before], table[after]]))
        outputs.append(steps)
    return np.array(outputs)


def table_of(layer):
    return keras.ops.convert_to_numpy(layer.embeddings)


@settings(max_examples=15)
@given(
    st.lists(st.lists(st.integers(0, 2**16), min_size=4, max_size=4), min_size=1, max_size=3),
    st.integers(1, 50),
)
def test_against_a_loop(ids, rows):
    layer = kerasrnn.BigramEmbedding(rows, 3)
    found = layer(np.array(ids, "int32"))
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(found), by_hand(ids, table_of(layer)).astype("float32")
    )


def test_the_largest_ids_stay_within_32_bits():
    ids = np.array([[IDS - 1, IDS - 1, IDS - 1]], "int32")
    layer = kerasrnn.BigramEmbedding(1000, 2)
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(layer(ids)), by_hand(ids, table_of(layer)).astype("float32")
    )


def test_padding_is_masked_and_is_a_neighbour():
    layer = kerasrnn.BigramEmbedding(64, 2)
    ids = np.array([[5, 7, 0], [5, 7, 9]], "int32")
    mask = keras.ops.convert_to_numpy(layer.compute_mask(ids))
    np.testing.assert_array_equal(mask, [[1, 1, 0], [1, 1, 1]])
    y = keras.ops.convert_to_numpy(layer(ids))
    np.testing.assert_array_equal(y[0, 0], y[1, 0])
    # The pair (7, 0) says that the row ends there.
    np.testing.assert_array_equal(y[0, 1, :2], y[1, 1, :2])
    assert np.abs(y[0, 1, 2:] - y[1, 1, 2:]).max() > 0


def test_configuration_and_shape():
    layer = kerasrnn.BigramEmbedding(64, 2, name="pairs")
    twin = kerasrnn.BigramEmbedding.from_config(layer.get_config())
    assert (twin.rows, twin.units, twin.name) == (64, 2, "pairs")
    assert layer.compute_output_shape((3, None)) == (3, None, 4)
    ids = np.array([[5, 7]], "int32")
    layer(ids), twin(ids)
    twin.set_weights(layer.get_weights())
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(twin(ids)), keras.ops.convert_to_numpy(layer(ids))
    )


@pytest.mark.parametrize("value", [0, -1, 2.0, True, None, "3"])
@pytest.mark.parametrize("name", ["rows", "units"])
def test_impossible_sizes_are_refused(name, value):
    sizes = {"rows": 5, "units": 5, name: value}
    with pytest.raises(ValueError, match=rf"{name}={value!r}: expected a positive integer"):
        kerasrnn.BigramEmbedding(**sizes)


def test_in_a_tagger_pairs_stand_beside_the_embeddings(tmp_path):
    inputs = zoo.Tokens(20, 4, bigrams=32, bigram_units=3)
    model = zoo.many_to_many(inputs, zoo.Classes(5), cell="gru", units=6)
    ids = np.array([[3, 9, 3, 2], [4, 19, 0, 0]], "int32")
    table = keras.ops.convert_to_numpy(model.get_layer("embedding").embeddings)
    pairs = by_hand(ids, table_of(model.get_layer("bigrams")))
    joined = keras.Model(model.input, model.get_layer("with_bigrams").output)(ids)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(joined), np.concatenate([table[ids], pairs], -1), rtol=1e-6
    )
    # Padding has no part in what is said of the other steps.
    whole = keras.ops.convert_to_numpy(model(ids))
    short = keras.ops.convert_to_numpy(model(ids[1:, :2]))
    np.testing.assert_allclose(whole[1:, :2], short, atol=1e-6)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(loaded(ids)), whole)


def test_no_pairs_no_table():
    model = zoo.many_to_many(zoo.Tokens(20, 4), zoo.Classes(5), units=6)
    assert not any(isinstance(layer, kerasrnn.BigramEmbedding) for layer in model.layers)
    with pytest.raises(ValueError, match="bigrams=-1: expected a positive integer"):
        zoo.Tokens(20, 4, bigrams=-1)
