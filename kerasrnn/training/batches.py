"""The training and validation batches of a training."""

import functools
import math
from collections.abc import Callable
from typing import Any, Self

import keras
import tensorflow as tf

from kerasrnn.training.errors import BatchError
from kerasrnn.validation import NonNegativeInteger, PositiveInteger, Seed, checked
from kerasrnn.wording import counted

Batching = Callable[[tf.data.Dataset, bool], tf.data.Dataset]
"""See the argument `batching` of `Batches`."""


class Batches:
    """The training and validation batches of a training.

    The order of the examples in each epoch follows from `seed`, and from that of
    `keras.utils.set_random_seed` if it has been called. A resumed training therefore has the same
    batches as an uninterrupted one.

    Args:
        examples: unbatched examples: `(inputs, target)`, with a weight as a third element if any.
        size: number of examples.
        batch_size: number of examples in a batch.
        batching: a function that creates the batches: `batching(dataset, training)` returns padded
            batches, in a dataset of known length, such as those of `kerasrnn.training.bucketed`. In
            training, all of them must be full. Default: `dataset.batch`, without the last, smaller
            batch in training.
        validation: unbatched validation examples, if any.
        held_out: number of examples, the first ones, that are held out for validation.
        shuffle: whether the training examples are shuffled in each epoch.
        seed: seed of the order.

    Attributes:
        size: number of training examples.
        steps: number of batches per epoch.
        validation: the validation batches; None if there are none.

    Raises:
        BatchError: a batch is larger than the training data; the number of batches is infinite or
            unknown; or `held_out` leaves no training
            examples, or is combined with `validation`.
        ValueError: another argument is invalid.

    Example:

        >>> import numpy as np, kerasrnn
        >>> x, y = np.arange(10.0), np.arange(10)
        >>> batches = kerasrnn.training.Batches.from_arrays((x, y), batch_size=4, held_out=2)
        >>> batches.size, batches.steps
        (8, 2)
    """

    @checked
    def __init__(
        self,
        examples: tf.data.Dataset,
        size: PositiveInteger,
        batch_size: PositiveInteger,
        *,
        batching: Batching | None = None,
        validation: tf.data.Dataset | None = None,
        held_out: NonNegativeInteger = 0,
        shuffle: bool = True,
        seed: Seed = 0,
    ) -> None:
        if validation is not None and held_out:
            raise BatchError(f"held_out={held_out}: expected 0 with validation examples.")
        if held_out >= size:
            raise BatchError(
                f"held_out={held_out}: expected fewer than the {counted(size, 'example')}."
            )
        if batching is None:
            batching = functools.partial(_batched, batch_size)
            if examples.cardinality() == tf.data.UNKNOWN_CARDINALITY:  # as from a generator
                examples = examples.apply(tf.data.experimental.assert_cardinality(size))
        self._again = functools.partial(
            Batches,
            examples,
            size,
            batch_size,
            batching=batching,
            validation=validation,
            held_out=held_out,
            shuffle=shuffle,
            seed=seed,
        )
        self.size = size - held_out
        self.batch_size = batch_size
        self._some = lambda count: batching(examples.take(count), False)
        dataset = examples.skip(held_out).cache()
        if shuffle:
            dataset = dataset.shuffle(self.size, seed=seed, reshuffle_each_iteration=True)
        self._train = batching(dataset, True)
        validated = examples.take(held_out) if held_out else validation
        self.validation = None if validated is None else batching(validated, False).cache()
        self.steps = int(self._train.cardinality())
        if self.steps < 0:
            raise BatchError(
                "the batches are a dataset of infinite or unknown length; expected a known one, as "
                "after tf.data.experimental.assert_cardinality."
            )
        if self.steps < 1:
            raise BatchError(
                f"batch_size={batch_size}: expected at most the "
                f"{counted(self.size, 'training example')}."
            )

    @classmethod
    def from_arrays(
        cls, arrays: Any, batch_size: int, *, validation: Any = None, **options: Any
    ) -> Self:
        """Batches of arrays.

        Args:
            arrays: `(x, y)` or `(x, y, weights)`; x and y may be nested. The first axis of all
                arrays is that of the examples.
            batch_size: number of examples in a batch.
            validation: validation arrays of the same structure, if any.
            **options: further arguments of the constructor.
        """
        validation_set = (
            None if validation is None else tf.data.Dataset.from_tensor_slices(validation)
        )
        return cls(
            tf.data.Dataset.from_tensor_slices(arrays),
            len(keras.tree.flatten(arrays)[0]),
            batch_size,
            validation=validation_set,
            **options,
        )

    def train(self, passed: int = 0) -> tf.data.Dataset:
        """The batches after the first `passed` ones, for an infinite number of epochs."""
        # The orders of the epochs follow one another from the seed: skip those of past epochs.
        return self._train.repeat().skip(passed).prefetch(tf.data.AUTOTUNE)

    def again(self) -> "Batches":
        """New batches in the same order.

        A second pass over the same batches would have another order.
        """
        return self._again()

    def check(self) -> None:
        """Raise BatchError unless a training step can read the batches."""
        _check_elements("batches", self._train.element_spec)
        if self.validation is not None:
            _check_elements("validation", self.validation.element_spec, self._train.element_spec)

    def some(self, examples: int) -> tf.data.Dataset:
        """Batches of a part of the examples; the last ones may be partial."""
        # A text is one example with many batches.
        return self._some(examples).take(math.ceil(examples / self.batch_size))


def _batched(batch_size: int, dataset: tf.data.Dataset, training: bool) -> tf.data.Dataset:
    return dataset.batch(batch_size, drop_remainder=training)


def _check_elements(name: str, batch: Any, expected: Any = None) -> None:
    """Raise BatchError unless a batch is structured as a training step expects it.

    Args:
        name: the argument that it comes from.
        batch: the specification of a batch.
        expected: a batch whose inputs and targets have the expected structure.
    """
    if not isinstance(batch, tuple) or len(batch) not in (2, 3):
        raise BatchError(
            f"{name}: a batch is {_described(batch)}; expected (inputs, target) or "
            "(inputs, target, weight)."
        )
    if expected is not None and _paths(batch[:2]) != _paths(expected[:2]):
        raise BatchError(
            f"{name}: a batch is {_described(batch)}; expected the structure of the training "
            f"batches, {_described(expected)}."
        )


def _paths(batch: Any) -> list[tuple[Any, ...]]:
    return [path for path, _ in keras.tree.flatten_with_path(batch)]


def _described(batch: Any) -> Any:
    return keras.tree.map_structure(lambda spec: getattr(spec, "shape", spec), batch)
