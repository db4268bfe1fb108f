"""`SpecAugment`: where its bands are, and how wide, over many draws."""

import keras
import numpy as np
import pytest
from keras import ops

import kerasrnn
from tests.catalogue import variant_id

ROWS, FRAMES, FEATURES = 2000, 12, 7


def hidden(layer, mask=None):
    x = np.ones((ROWS, FRAMES, FEATURES), "float32")
    return ops.convert_to_numpy(layer(x, mask=mask, training=True)) == layer.fill


def band(row):
    """The first place of a band, and its width; it must be in one piece."""
    places = np.flatnonzero(row)
    if not len(places):
        return None, 0
    assert len(places) == places[-1] - places[0] + 1
    return places[0], len(places)


def check_uniform(counts, number):
    """Within five standard deviations of a binomial distribution."""
    p = 1 / len(counts)
    total = sum(counts)
    assert total == number
    np.testing.assert_allclose(counts, total * p, atol=5 * np.sqrt(total * p * (1 - p)))


@pytest.mark.torch_backend
def test_one_band_of_each_axis_is_uniform():
    over = hidden(kerasrnn.SpecAugment(1, 3, 0, seed=1))
    assert (over == over[:, :1]).all()  # at all times
    bands = [band(row[0]) for row in over]
    check_uniform(np.bincount([width for _, width in bands], minlength=4), ROWS)
    begins = [begin for begin, width in bands if width == 3]
    check_uniform(np.bincount(begins, minlength=FEATURES - 2), len(begins))

    valid = np.ones((ROWS, FRAMES), bool)
    valid[:, [0, 4, 11]] = False  # nine are left
    over = hidden(kerasrnn.SpecAugment(0, 0, 1, 5, time_fraction=0.4, fill=-2.0, seed=2), valid)
    assert (over == over[..., :1]).all()
    assert not over[~valid].any()
    bands = [band(row[use, 0]) for row, use in zip(over, valid, strict=True)]
    check_uniform(np.bincount([width for _, width in bands], minlength=4), ROWS)  # 0.4 * 9 = 3.6
    begins = [begin for begin, width in bands if width == 3]
    check_uniform(np.bincount(begins, minlength=7), len(begins))


@pytest.mark.torch_backend
def test_several_bands_of_both_axes():
    """A feature is hidden if one of the bands hides it: the expected share, and the most."""
    over = hidden(kerasrnn.SpecAugment(2, 2, 3, 2, seed=3))
    columns, rows = over.all(axis=1), over.all(axis=2)
    np.testing.assert_array_equal(over, columns[:, None] | rows[:, :, None])
    assert columns.sum(axis=1).max() == 4
    assert rows.sum(axis=1).max() == 6


@pytest.mark.torch_backend
def test_inference_seeds_and_precision():
    x = np.random.default_rng(0).standard_normal((3, FRAMES, FEATURES)).astype("float32")
    layer, again = (kerasrnn.SpecAugment(1, 3, 1, 4, seed=5) for _ in range(2))
    np.testing.assert_array_equal(layer(x), x)
    first = ops.convert_to_numpy(layer(x, training=True))
    np.testing.assert_array_equal(first, again(x, training=True))
    assert (first != ops.convert_to_numpy(layer(x, training=True))).any()
    config = layer.get_config()
    assert kerasrnn.SpecAugment.from_config(config).get_config() == config
    half = kerasrnn.SpecAugment(1, 3, 1, 4, seed=5, dtype="mixed_bfloat16")(x, training=True)
    assert keras.backend.standardize_dtype(half.dtype) == "bfloat16"
    np.testing.assert_array_equal(ops.cast(half, "float32") == 0, first == 0)
    empty = kerasrnn.SpecAugment(1, 3, 1, 4)(x, mask=np.zeros((3, FRAMES), bool), training=True)
    assert np.isfinite(ops.convert_to_numpy(empty)).all()


@pytest.mark.torch_backend
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time_fraction": 1.5}, r"time_fraction=1.5: expected a number in \[0, 1\]"),
        ({"frequency_masks": -1}, "frequency_masks=-1: expected an integer of at least 0"),
        ({}, r"features of the shape \(2, 5, 7\); expected at least frequency_width=27"),
    ],
    ids=variant_id,
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        kerasrnn.SpecAugment(**options)(np.ones((2, 5, 7), "float32"), training=True)


@pytest.mark.tensorflow
def test_in_a_compiled_graph_of_unknown_shape():
    import tensorflow as tf

    layer = kerasrnn.SpecAugment(1, 3, 1, 4, seed=5)
    call = tf.function(
        lambda x: layer(x, training=True), input_signature=[tf.TensorSpec((None, None, FEATURES))]
    )
    x = np.ones((4, 9, FEATURES), "float32")
    expected = kerasrnn.SpecAugment(1, 3, 1, 4, seed=5)(x, training=True)
    np.testing.assert_array_equal(call(x), expected)
