"""Buckets: every example once, in shapes that are known in advance."""

from collections import Counter

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasrnn.training.bucketing import bucketed

pytestmark = pytest.mark.tensorflow
LENGTHS = (3, 5, 9)


def examples(lengths, long_targets=False):
    """Sequences that repeat the number of their example, by which it is recognized."""

    def generate():
        for n, length in enumerate(lengths, start=1):
            yield np.full(length, n), np.full(length, -n) if long_targets else n

    target = tf.TensorSpec((None,) if long_targets else (), tf.int32)
    return tf.data.Dataset.from_generator(
        generate, output_signature=(tf.TensorSpec((None,), tf.int32), target)
    )


def bucket(length):
    return min(bucket for bucket in LENGTHS if bucket >= length)


@settings(max_examples=6)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(1, 4))
def test_every_example_occurs_once_in_the_shortest_possible_shape(lengths, batch_size):
    batches = bucketed(examples(lengths), LENGTHS, batch_size)
    seen = []
    for x, y in batches.as_numpy_iterator():
        assert len(x) == len(y) <= batch_size
        for row, n in zip(x, y, strict=True):
            length = lengths[n - 1]
            assert x.shape[1] == bucket(length)
            np.testing.assert_array_equal(row, [n] * length + [0] * (x.shape[1] - length))
            seen.append(n)
    assert sorted(seen) == list(range(1, len(lengths) + 1))
    assert int(batches.cardinality()) == sum(1 for _ in batches)


@settings(max_examples=6)
@given(st.data(), st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 4))
def test_without_remainders_the_number_does_not_depend_on_the_order(data, lengths, batch_size):
    shapes = []
    for order in (lengths, data.draw(st.permutations(lengths))):
        batches = bucketed(examples(order), LENGTHS, batch_size, drop_remainder=True)
        shapes.append(Counter(x.shape for x, _ in batches.as_numpy_iterator()))
        assert int(batches.cardinality()) == shapes[-1].total()
        # Less than a batch is left out of each bucket, and no bucket is all left out.
        out = len(lengths) - batch_size * shapes[-1].total()
        assert out <= max((batch_size - 1) * len(shapes[-1]), min(len(lengths), batch_size - 1))
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([1, 2, 4, 5, 7, 8], {3: 1, 5: 1, 9: 1}),
        ([1, 4, 7, 8], {5: 1, 9: 1}),  # the shortest one joins the next
        ([1, 2, 4, 7, 8], {3: 1, 9: 1}),
        ([1, 2, 4, 5, 7], {3: 1, 9: 1}),  # shorter ones join the longest one
        ([1, 2, 4], {5: 1}),
        ([7], {}),
    ],
)
def test_buckets_with_less_than_a_batch_are_merged(lengths, expected):
    """In batches of two. In the course of the epochs, every example occurs."""
    dataset = examples(lengths).shuffle(20, seed=0, reshuffle_each_iteration=True)
    batches = bucketed(dataset, LENGTHS, 2, drop_remainder=True).repeat(12)
    found = list(batches.as_numpy_iterator())
    count = sum(expected.values())
    assert len(found) == 12 * count
    assert Counter(x.shape[1] for x, _ in found[:count]) == expected
    if expected:
        assert {int(n) for _, y in found for n in y} == set(range(1, len(lengths) + 1))


def test_the_padding_values_are_given():
    batches = bucketed(examples([2, 4], True), LENGTHS, 2, padding=(7, 9))
    (a, b), (c, d) = batches.as_numpy_iterator()
    np.testing.assert_array_equal(np.concatenate([a, b]), [[1, 1, 7], [-1, -1, 9]])
    np.testing.assert_array_equal(np.concatenate([c, d]), [[2] * 4 + [7], [-2] * 4 + [9]])


def test_the_length_may_be_that_of_the_targets():
    dataset = examples([2, 9], True).map(lambda x, y: ((tf.ones((4,)) * 0.5, x), y))
    batches = bucketed(dataset, LENGTHS, 1, length=lambda x, y: tf.shape(y)[0])
    shapes = [(picture.shape, x.shape) for (picture, x), _ in batches.as_numpy_iterator()]
    assert sorted(shapes) == [((1, 4), (1, 3)), ((1, 4), (1, 9))]


def test_weights_of_the_examples_are_batched_too():
    dataset = examples([2, 4, 1]).map(lambda x, y: (x, y, tf.cast(y, "float32") / 2))
    batches = list(bucketed(dataset, LENGTHS, 2).as_numpy_iterator())
    assert [(y.tolist(), w.tolist()) for _, y, w in batches] == [([1, 3], [0.5, 1.5]), ([2], [1])]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"lengths": (5, 3)}, r"lengths=\(5, 3\): expected increasing positive integers"),
        ({"lengths": (3, 3)}, r"lengths=\(3, 3\): expected increasing positive integers"),
        ({"lengths": (0, 9)}, r"lengths=\(0, 9\): expected increasing positive integers"),
        ({"lengths": (2.5, 9)}, r"lengths=\(2.5, 9\): expected increasing positive integers"),
        ({"lengths": ()}, r"lengths=\(\): expected increasing positive integers"),
        ({"lengths": 9}, "lengths=9: expected increasing positive integers"),
        ({"lengths": (2, 3)}, r"lengths=\(2, 3\): the longest example has 4 steps"),
        ({"batch_size": 0}, "batch_size=0: expected a positive integer"),
        ({"drop_remainder": 1}, "drop_remainder=1: expected True or False"),
        ({"length": 3}, "length=3: expected a function or None"),
    ],
    ids=str,
)
def test_invalid_arguments_are_named(changed, message):
    with pytest.raises(ValueError, match=message):
        bucketed(examples([2, 4]), **{"lengths": LENGTHS, "batch_size": 2, **changed})


def test_inputs_of_several_tensors_need_a_length():
    dataset = examples([2]).map(lambda x, y: ({"a": x}, y))
    with pytest.raises(ValueError, match="length=None: expected a function, since the inputs"):
        bucketed(dataset, LENGTHS, 2)
