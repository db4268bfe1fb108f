"""Bucketing: sequences of different lengths in batches of a few shapes."""

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from kerasrnn.training.errors import BatchError

if TYPE_CHECKING:
    import tensorflow as tf


def bucketed(
    dataset: "tf.data.Dataset",
    lengths: Sequence[int],
    batch_size: int,
    drop_remainder: bool = False,
    padding: Any = None,
    length: Callable[..., Any] | None = None,
) -> "tf.data.Dataset":
    """Batches of examples of similar length, padded to one of a few lengths.

    All batches of a bucket have one shape, so XLA compiles once per bucket. With `drop_remainder`,
    the number of batches does not depend on the order of the examples, but the choice of dropped
    examples does, so different ones are dropped in each epoch. Buckets too small to fill a batch
    are merged into the next.

    Args:
        dataset: unbatched examples: `(inputs, target)`, with a weight as a third element if any;
            inputs of any length up to the last of `lengths`. A target is a number, or as long as
            the inputs.
        lengths: increasing lengths to pad to.
        batch_size: the batch size of every bucket.
        drop_remainder: whether to leave out the last, smaller batch of each bucket.
        length: returns the length of an example, given its elements; default: that of the inputs,
            a single tensor.
        padding: values to pad the elements with, in the structure of an example; default: zeros.

    Returns:
        The batches, in a dataset of known length, as `kerasrnn.training.Batches` needs them.

    Raises:
        BatchError: an example is longer than the last of `lengths`.
        ValueError: another argument is invalid.

    Example:

        >>> import tensorflow as tf, kerasrnn
        >>> pairs = [([1, 2], 0), ([3], 1), ([4, 5, 6], 0)]
        >>> signature = (tf.TensorSpec((None,), "int32"), tf.TensorSpec((), "int32"))
        >>> examples = tf.data.Dataset.from_generator(lambda: pairs, output_signature=signature)
        >>> batches = kerasrnn.training.bucketed(examples, lengths=[2, 4], batch_size=2)
        >>> [x.tolist() for x, _ in batches.as_numpy_iterator()]
        [[[1, 2], [3, 0]], [[4, 5, 6, 0]]]
    """
    import numpy as np
    import tensorflow as tf

    # Not before: recipes import this module before Keras is loaded.
    from kerasrnn import validation
    from kerasrnn.validation import ArgumentError

    lengths = _increasing("lengths", lengths)
    batch_size = validation.positive_integer("batch_size", batch_size)
    drop_remainder = validation.boolean("drop_remainder", drop_remainder)
    if length is None:
        inputs = dataset.element_spec
        inputs = inputs[0] if isinstance(inputs, tuple) else inputs
        if not isinstance(inputs, tf.TensorSpec) or inputs.shape.rank == 0:
            raise ArgumentError(
                "length", None, f"a function, since the inputs of an example are {inputs}"
            )
        length = _length_of_inputs
    elif not callable(length):
        raise ArgumentError("length", length, "a function", "None")
    example_lengths = list(dataset.map(length).batch(1024).as_numpy_iterator())
    example_lengths = np.concatenate(example_lengths) if example_lengths else np.zeros(0, "int32")
    if len(example_lengths) and max(example_lengths) > lengths[-1]:
        raise BatchError(
            f"lengths={lengths}: the longest example has {max(example_lengths)} steps; expected "
            "its length or more as the last one."
        )
    sizes = np.bincount(np.searchsorted(lengths, example_lengths), minlength=len(lengths))
    if drop_remainder:
        lengths, sizes = _joined(lengths, sizes, batch_size)
    batches = dataset.bucket_by_sequence_length(
        length,
        # A bucket holds sequences shorter than its boundary and is padded to the boundary minus
        # one.
        bucket_boundaries=[length + 1 for length in lengths],
        bucket_batch_sizes=[batch_size] * (len(lengths) + 1),
        pad_to_bucket_boundary=True,
        padding_values=padding,
        drop_remainder=drop_remainder,
    )
    count = sum(size // batch_size if drop_remainder else -(-size // batch_size) for size in sizes)
    # For progress bars, and for Keras, which treats an unexpected end of the data as an error.
    return batches.apply(tf.data.experimental.assert_cardinality(int(count)))


def _increasing(name: str, value: Any) -> tuple[int, ...]:
    from kerasrnn import validation
    from kerasrnn.validation import ArgumentError

    expected = "increasing positive integers"
    try:
        lengths = validation.sizes(name, value)
    except ArgumentError:
        raise ArgumentError(name, value, expected) from None
    if not lengths or any(a >= b for a, b in itertools.pairwise(lengths)):
        raise ArgumentError(name, value, expected)
    return lengths


def _length_of_inputs(inputs: Any, *others: Any) -> Any:
    import tensorflow as tf

    return tf.shape(inputs)[0]


def _joined(
    lengths: Sequence[int], sizes: Sequence[int], least: int
) -> tuple[list[int], list[int]]:
    """The lengths of the buckets with at least `least` examples, and their sizes."""
    buckets: list[tuple[int, int]] = []
    waiting = longest = 0
    for length, size in zip(lengths, sizes, strict=True):
        waiting += int(size)
        longest = length if size else longest
        if waiting >= least:
            buckets.append((length, waiting))
            waiting = 0
    # The last bucket has no next one: smaller buckets are merged into it.
    if waiting:
        _, before = buckets.pop() if buckets else (0, 0)
        buckets.append((longest, before + waiting))
    return [length for length, _ in buckets], [size for _, size in buckets]
