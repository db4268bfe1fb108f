"""The batches of a training: their order, and held-out examples."""

import numpy as np
import pytest
import tensorflow as tf

from kerasrnn.training import BatchError, Batches

pytestmark = pytest.mark.tensorflow


def numbers(dataset, count):
    """The examples of some batches, in order."""
    return [int(n) for batch in dataset.take(count).as_numpy_iterator() for n in batch]


def of_range(size=12, batch_size=3, **options):
    return Batches(tf.data.Dataset.range(size), size, batch_size, **options)


def test_each_epoch_has_every_example_once_in_a_new_order():
    batches = of_range(seed=1)
    assert (batches.size, batches.steps) == (12, 4)
    found = numbers(batches.train(), 12)
    epochs = [found[n : n + 12] for n in (0, 12, 24)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(12))] * 3
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert numbers(of_range(seed=1).train(), 12) == found
    assert numbers(of_range(seed=2).train(), 12) != found


def test_the_order_continues_after_skipped_batches():
    found = numbers(of_range().train(), 12)
    for passed in (1, 4, 6):
        assert numbers(of_range().train(passed), 12 - passed) == found[3 * passed :]
    batches = of_range()
    assert numbers(batches.train(), 2) == found[:6]
    assert numbers(batches.again().train(5), 1) == found[15:18]


def test_without_shuffling():
    assert numbers(of_range(shuffle=False).train(), 5) == [*range(12), 0, 1, 2]


def test_held_out_examples_are_not_trained_on():
    batches = of_range(held_out=5)
    assert (batches.size, batches.steps) == (7, 2)
    assert numbers(batches.validation, 9) == [0, 1, 2, 3, 4]
    assert set(numbers(batches.train(), 20)) == set(range(5, 12))
    own = of_range(validation=tf.data.Dataset.range(100, 104))
    assert numbers(own.validation, 9) == [100, 101, 102, 103]
    assert own.size == 12
    assert of_range().validation is None


def test_a_function_forms_the_batches():
    def padded(dataset, training):
        return dataset.map(lambda n: tf.fill([n], n)).padded_batch(2, drop_remainder=training)

    examples = tf.data.Dataset.from_tensor_slices([1, 3, 2, 4, 5])
    batches = Batches(examples, 5, 2, batching=padded, shuffle=False, held_out=1)
    (held,) = batches.validation.as_numpy_iterator()
    assert held.tolist() == [[1]]
    first, second = batches.train().take(2).as_numpy_iterator()
    assert first.tolist() == [[3, 3, 3], [2, 2, 0]]
    assert second.tolist() == [[4, 4, 4, 4, 0], [5, 5, 5, 5, 5]]
    (some,) = batches.some(2).as_numpy_iterator()
    assert some.tolist() == [[1, 0, 0], [3, 3, 3]]


def test_arrays():
    x, y, weights = np.arange(8.0).reshape(4, 2), np.arange(4), np.ones(4)
    batches = Batches.from_arrays((x, y, weights), 2, shuffle=False)
    for n, (a, b, c) in enumerate(batches.train().take(2).as_numpy_iterator()):
        np.testing.assert_array_equal(a, x[2 * n : 2 * n + 2])
        np.testing.assert_array_equal(b, y[2 * n : 2 * n + 2])
        np.testing.assert_array_equal(c, [1, 1])
    nested = Batches.from_arrays(({"a": x, "b": y}, y), 2, validation=({"a": x, "b": y}, y))
    assert (nested.size, set(nested.train().element_spec[0])) == (4, {"a", "b"})
    assert int(nested.validation.cardinality()) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 13}, "batch_size=13: expected at most the 12 training examples"),
        ({"held_out": 10}, "batch_size=3: expected at most the 2 training examples"),
        ({"held_out": 12}, "held_out=12: expected fewer than the 12 examples"),
    ],
)
def test_impossible_batches_are_refused(options, message):
    with pytest.raises(BatchError, match=message):
        of_range(**options)


def from_generator(size=10):
    return tf.data.Dataset.from_generator(lambda: iter(range(size)), output_types=tf.int32)


def test_examples_from_a_generator():
    """Their number is known only from `size`."""
    batches = Batches(from_generator(), 10, 4, held_out=2, shuffle=False)
    found = [batch.tolist() for batch in batches.train().take(2).as_numpy_iterator()]
    assert (batches.steps, found) == (2, [[2, 3, 4, 5], [6, 7, 8, 9]])
    assert [batch.tolist() for batch in batches.validation.as_numpy_iterator()] == [[0, 1]]
    fewer = Batches(from_generator(7), 10, 4, shuffle=False)
    with pytest.raises(tf.errors.FailedPreconditionError, match="expected to contain 10 elements"):
        list(fewer.train().take(2))


@pytest.mark.parametrize("endless", [True, False], ids=["endless", "unknown"])
def test_a_number_of_batches_that_is_not_known_is_refused(endless):
    dataset = tf.data.Dataset.range(3).repeat() if endless else from_generator()
    with pytest.raises(BatchError, match="of infinite or unknown length; expected a known one"):
        Batches(dataset, 10, 2, batching=lambda examples, training: examples.batch(2))


def test_two_validation_sets_are_refused():
    with pytest.raises(BatchError, match="held_out=1: expected 0 with validation examples"):
        of_range(held_out=1, validation=tf.data.Dataset.range(2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size=0: expected a positive integer"),
        ({"batch_size": 2.5}, "batch_size=2.5: expected a positive integer"),
        ({"held_out": -1}, "held_out=-1: expected an integer of at least 0"),
        ({"shuffle": "no"}, "shuffle='no': expected True or False"),
        ({"seed": -3}, "seed=-3: expected an integer from 0"),
    ],
)
def test_invalid_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        of_range(**options)
