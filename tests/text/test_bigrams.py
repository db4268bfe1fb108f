"""`BigramEmbedding`, compared with a loop over pairs, alone and in models of the zoo."""

import itertools

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kerasrnn
from kerasrnn import zoo
from kerasrnn.text.bigrams import IDS

KNOWN = [[9, 3], [0, 5], [5, 7], [7, 5], [7, 0], [3, 9]]


def in_numpy(ids, pairs, table):
    """The two rows of the table for each step."""
    places = {pair: n for n, pair in enumerate(sorted(map(tuple, pairs)), start=1)}
    outputs = []
    for sequence in ids:
        around = [0, *map(int, sequence), 0]
        rows = [table[places.get(pair, 0)] for pair in itertools.pairwise(around)]
        outputs.append([np.concatenate(two) for two in itertools.pairwise(rows)])
    return np.array(outputs)


def table_of(layer):
    return keras.ops.convert_to_numpy(layer.embeddings)


IDENTITY = st.integers(0, 6) | st.integers(IDS - 2, IDS - 1)


@settings(max_examples=25)
@given(
    st.lists(
        st.lists(IDENTITY | st.integers(IDS, 2**31 - 1), min_size=4, max_size=4),
        min_size=1,
        max_size=3,
    ),
    st.sets(st.tuples(IDENTITY, IDENTITY), min_size=1, max_size=40),
)
def test_against_a_loop(ids, pairs):
    """With unknown pairs, and ids that no pair can have."""
    layer = kerasrnn.BigramEmbedding(list(pairs), 3)
    found = layer(np.array(ids, "int32"))
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(found),
        in_numpy(ids, pairs, table_of(layer)).astype("float32"),
    )


def test_frequent_pairs():
    lines = ["abab", "ab", "ba", "c"]
    ids = [[" abc".index(letter) for letter in line] + [0] * 3 for line in lines]
    counted = {"ab": 3, "ba": 2, " a": 2, "b ": 2, " b": 1, "a ": 1, " c": 1, "c ": 1}
    for least in (1, 2, 3, 4):
        expected = sorted(
            [" abc".index(pair[0]), " abc".index(pair[1])]
            for pair, count in counted.items()
            if count >= least
        )
        found = kerasrnn.BigramEmbedding.frequent(ids, least)
        assert found.shape == (len(expected), 2)
        assert found.tolist() == expected
    assert kerasrnn.BigramEmbedding.frequent([[0, 0], []], 1).shape == (0, 2)


def test_dropout_replaces_pairs_by_unknown_in_training_only():
    layer = kerasrnn.BigramEmbedding(KNOWN, 2, dropout=0.25, seed=1)
    ids = np.array([[5, 7] * 500], "int32")
    at_rest = keras.ops.convert_to_numpy(layer(ids))
    table = table_of(layer)
    np.testing.assert_array_equal(at_rest, in_numpy(ids, KNOWN, table).astype("float32"))
    trained = keras.ops.convert_to_numpy(layer(ids, training=True))
    unknown = (trained[..., :2] == table[0]).all(axis=-1)
    np.testing.assert_array_equal(trained[~unknown][:, :2], at_rest[~unknown][:, :2])
    assert 0.2 < unknown.mean() < 0.3
    # The pair after a step is the pair before the next one, also if it is dropped.
    np.testing.assert_array_equal(trained[:, :-1, 2:], trained[:, 1:, :2])
    again = kerasrnn.BigramEmbedding(KNOWN, 2, dropout=0.25, seed=1)
    again.build(ids.shape)
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(again(ids, training=True)), trained)


def test_padding_is_masked_and_is_part_of_pairs():
    layer = kerasrnn.BigramEmbedding(KNOWN, 2)
    ids = np.array([[5, 7, 0], [5, 7, 5]], "int32")
    mask = keras.ops.convert_to_numpy(layer.compute_mask(ids))
    np.testing.assert_array_equal(mask, [[1, 1, 0], [1, 1, 1]])
    y = keras.ops.convert_to_numpy(layer(ids))
    np.testing.assert_array_equal(y[0, 0], y[1, 0])
    # The pair (7, 0) is the end of the row.
    np.testing.assert_array_equal(y[0, 1, :2], y[1, 1, :2])
    assert np.abs(y[0, 1, 2:] - y[1, 1, 2:]).max() > 0


def test_configuration_and_shape():
    """The pairs are saved with the weights."""
    layer = kerasrnn.BigramEmbedding(KNOWN, 2, dropout=0.1, seed=3, name="pairs")
    twin = kerasrnn.BigramEmbedding.from_config(layer.get_config())
    assert (twin.pairs, twin.units, twin.dropout, twin.seed, twin.name) == (6, 2, 0.1, 3, "pairs")
    assert layer.compute_output_shape((3, None)) == (3, None, 4)
    ids = np.array([[5, 7, 2]], "int32")
    y = keras.ops.convert_to_numpy(layer(ids))
    without = keras.ops.convert_to_numpy(twin(ids))
    unknown = table_of(twin)[0]
    np.testing.assert_array_equal(without, np.tile(unknown, (1, 3, 2)))
    twin.set_weights(layer.get_weights())
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(twin(ids)), y)
    assert [weight.path for weight in layer.trainable_weights] == ["pairs/embeddings"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": 0}, "units=0: expected a positive integer"),
        ({"units": 2.0}, r"units=2\.0: expected a positive integer"),
        ({"units": True}, "units=True: expected a positive integer"),
        ({"dropout": 1.0}, r"dropout=1\.0: expected a number in \[0, 1\)"),
        ({"dropout": "3"}, "dropout='3': expected a number"),
        ({"pairs": 0}, "pairs=0: expected 1 to 1073741824 pairs"),
        ({"pairs": []}, r"expected integers of the shape \(count, 2\); received float64 of"),
        ({"pairs": np.zeros((0, 2), int)}, "expected at least one pair; received none"),
        ({"pairs": [[1, 2, 3]]}, r"received int64 of the shape \(1, 3\)"),
        ({"pairs": [[1.0, 2.0]]}, r"received float64 of the shape \(1, 2\)"),
        ({"pairs": True}, r"received bool of the shape \(\)"),
        ({"pairs": [[1, IDS]]}, "expected ids from 0 to 32767; received 1 to 32768"),
        ({"pairs": [[1, -1]]}, "expected ids from 0 to 32767; received -1 to 1"),
        ({"pairs": [[1, 2], [2, 1], [1, 2]]}, "1 of 3 are duplicates"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        kerasrnn.BigramEmbedding(**{"pairs": KNOWN, "units": 5, **arguments})


def test_a_tagger_reads_pairs_beside_embeddings(tmp_path):
    inputs = zoo.Tokens(20, 4, bigrams=KNOWN, bigram_units=3, bigram_dropout=0.5)
    model = zoo.many_to_many(inputs, zoo.Classes(5), cell="gru", units=6)
    ids = np.array([[3, 9, 3, 2], [7, 5, 0, 0]], "int32")
    table = keras.ops.convert_to_numpy(model.get_layer("embedding").embeddings)
    pairs = in_numpy(ids, KNOWN, table_of(model.get_layer("bigrams")))
    joined = keras.Model(model.input, model.get_layer("with_bigrams").output)(ids)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(joined), np.concatenate([table[ids], pairs], -1), rtol=1e-6
    )
    # Padding does not affect the other steps.
    whole = keras.ops.convert_to_numpy(model(ids))
    short = keras.ops.convert_to_numpy(model(ids[1:, :2]))
    np.testing.assert_allclose(whole[1:, :2], short, atol=1e-6)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(loaded(ids)), whole)


def test_without_pairs_there_is_no_table():
    model = zoo.many_to_many(zoo.Tokens(20, 4), zoo.Classes(5), units=6)
    assert not any(isinstance(layer, kerasrnn.BigramEmbedding) for layer in model.layers)
    with pytest.raises(ValueError, match=r"bigram_dropout=1\.0: expected"):
        zoo.Tokens(20, 4, bigrams=KNOWN, bigram_dropout=1.0)


@pytest.mark.parametrize("argument", [{"bigram_units": 16}, {"bigram_dropout": 0.1}])
def test_options_of_pairs_need_pairs(argument):
    with pytest.raises(ValueError, match="expected none without bigrams"):
        zoo.Tokens(20, 4, **argument)
