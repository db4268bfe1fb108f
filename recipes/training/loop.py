"""Steps, one after the other, on one device or many."""

import concurrent.futures
import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from kerasrnn.recipes.training.execution import ExecutionError, Placement
from kerasrnn.recipes.training.step import Trainee


class Loop:
    """Runs the steps of a model in training.

    Args:
        trainee: what is trained.
        strategy: over what devices; None: one.
        fused: how many steps are run in one call.
    """

    def __init__(
        self, trainee: Trainee, strategy: tf.distribute.Strategy | None = None, fused: int = 1
    ) -> None:
        self.trainee = trainee
        self.strategy = strategy
        self.fused = fused
        self._train = self._each(trainee.train_step)
        self._test = self._each(trainee.test_step)
        self._steps = tf.function(self._repeated)
        logging.getLogger("tensorflow").addFilter(_is_news)  # once, however often it is called

    def batches(self, dataset: tf.data.Dataset) -> Any:
        """Batches, each split among the devices; of one device: as they are."""
        if self.strategy is None:
            return dataset
        options = tf.data.Options()
        # Every worker makes all batches and takes its part of each: they are the batches of one
        # device, whatever they were sorted by.
        policy = tf.data.experimental.AutoShardPolicy.DATA
        options.experimental_distribute.auto_shard_policy = policy
        return self.strategy.experimental_distribute_dataset(dataset.with_options(options))

    @contextlib.contextmanager
    def source(self, dataset: tf.data.Dataset) -> Iterator[Iterator[Any]]:
        """Batches for `train`, one after the other."""
        batches = iter(self.batches(dataset))
        if self.fused > 1 or self.strategy is not None:
            yield batches  # fetched in the graph, or by each device for itself
            return
        ahead = Ahead(batches)
        try:
            yield ahead
        finally:
            ahead.close()

    def train(self, batches: Iterator[Any], steps: int) -> int:
        """Train for so many steps, or for as many as are run in one call; returns how many."""
        count = min(steps, self.fused)
        if self.fused == 1:
            self._train(next(batches))
        else:
            self._steps(batches, tf.constant(count))
        return count

    def evaluate(self, batches: Any, between: Callable[[], None]) -> dict[str, float]:
        """The loss and the metrics of batches; `between` is called after each."""
        self.trainee.reset_metrics()
        for batch in batches:
            self._test(batch)
            between()
        return self.results()

    def results(self) -> dict[str, float]:
        """The loss and the metrics since they were reset."""
        return {name: float(value) for name, value in self.trainee.get_metrics_result().items()}

    def _each(self, step: Callable[[Any], Any]) -> Callable[[Any], None]:
        """A step as a function of a batch."""
        if self.strategy is None:
            run = tf.function(step, jit_compile=self.trainee.by_xla)
        else:

            @tf.function
            def run(batch: Any) -> None:
                self.strategy.run(step, args=(batch,))

        return run

    def _repeated(self, batches: Iterator[Any], count: tf.Tensor) -> None:
        for _ in tf.range(count):
            self._train(next(batches))


class Ahead:
    """The items of an iterator, of which the next is fetched while the last is worked on.

    Also where a pipeline has a batch ready, it takes half a millisecond to wake up and to hand it
    out: a tenth of the step of a small model.

    Args:
        items: read by a thread of its own from now on, one item ahead.
    """

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "ahead")
        self._fetch()

    def _fetch(self) -> None:
        self._coming = self._thread.submit(next, self._items)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        item = self._coming.result()
        self._fetch()
        return item

    def close(self) -> None:
        """End the thread, with the item that it is fetching."""
        self._thread.shutdown(cancel_futures=True)


def _is_news(record: logging.LogRecord) -> bool:
    """Not that a step is traced for each length that batches are padded to: it is meant to be."""
    said = record.getMessage()
    return "triggered tf.function retracing" not in said or not (
        f"method {Trainee.__name__}." in said or f"function {Loop.__name__}." in said
    )


@contextlib.contextmanager
def lost_workers(placement: Placement) -> Iterator[None]:
    """Errors of a cluster that has lost a worker, in words."""
    try:
        yield
    except tf.errors.OpError as error:
        if placement.workers == 1:
            raise
        first = str(error).strip().splitlines()[0]
        raise ExecutionError(
            f"a worker was lost, or has failed, and training has stopped ({type(error).__name__}: "
            f"{first}). Start all workers again with --resume: they go on from the last checkpoint."
        ) from error
