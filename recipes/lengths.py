"""Sequences of different lengths in batches of few shapes."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

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

    Every batch of a bucket has one shape, so that XLA compiles once a bucket. With
    `drop_remainder`, how many batches there are does not depend on the examples' order.

    Args:
        dataset: of `(inputs, target)`, inputs of any length up to the last of `lengths`; longer
            ones are cut there by the recipe. A target is a number, or as long as the inputs.
        lengths: rising: what is padded to.
        batch_size: of every bucket.
        drop_remainder: whether to leave out the last, smaller batch of each bucket.
        length: of an example `(inputs, target)`; default: the inputs'.
        padding: values to pad `(inputs, target)` with; default: zeros.
    """
    import numpy as np
    import tensorflow as tf

    batches = dataset.bucket_by_sequence_length(
        length or (lambda inputs, target: tf.shape(inputs)[0]),
        # A bucket holds what is shorter than its boundary, and is padded to one less.
        bucket_boundaries=[length + 1 for length in lengths],
        bucket_batch_sizes=[batch_size] * (len(lengths) + 1),
        pad_to_bucket_boundary=True,
        padding_values=padding,
        drop_remainder=drop_remainder,
    )
    # Counted once, for progress and for Keras, which takes an end that it did not foresee for an
    # error.
    count = batches.reduce(np.int64(0), lambda count, _: count + 1)
    return batches.apply(tf.data.experimental.assert_cardinality(count))
