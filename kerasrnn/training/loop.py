"""Sequences of steps on one or several devices."""

import concurrent.futures
import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from kerasrnn.training.errors import ExecutionError
from kerasrnn.training.placement import Placement
from kerasrnn.training.step import TrainingModel


class Loop:
    """Runs the steps of a model in training.

    Args:
        model: the model in training.
        strategy: the distribution strategy; None: one device.
        fused: number of steps per call.
    """

    def __init__(
        self, model: TrainingModel, strategy: tf.distribute.Strategy | None = None, fused: int = 1
    ) -> None:
        self.model = model
        self.strategy = strategy
        self.fused = fused
        self.traces = 0  # the graphs traced so far, each in a call that takes longer than others
        self._train = self._each(model.train_step)
        self._test = self._each(model.test_step)
        self._steps = tf.function(self._repeated)
        logging.getLogger("tensorflow").addFilter(_is_relevant)  # once, however often it is called

    def batches(self, dataset: tf.data.Dataset) -> Any:
        """Distribute batches among the devices; unchanged for one device."""
        if self.strategy is None:
            return dataset
        options = tf.data.Options()
        # Every worker creates all batches and takes its part of each, so that they equal those of a
        # single device.
        policy = tf.data.experimental.AutoShardPolicy.DATA
        options.experimental_distribute.auto_shard_policy = policy
        return self.strategy.experimental_distribute_dataset(dataset.with_options(options))

    @contextlib.contextmanager
    def source(self, dataset: tf.data.Dataset) -> Iterator[Iterator[Any]]:
        """An iterator over batches for `train`."""
        batches = iter(self.batches(dataset))
        if self.fused > 1 or self.strategy is not None:
            yield batches  # fetched in the graph, or by each device
            return
        prefetcher = Prefetcher(batches)
        try:
            yield prefetcher
        finally:
            prefetcher.close()

    def train(self, batches: Iterator[Any], steps: int) -> int:
        """Train for up to `steps` steps, at most those of one call; returns their number."""
        count = min(steps, self.fused)
        if self.fused == 1:
            self._train(next(batches))
        else:
            self._steps(batches, tf.constant(count))
        return count

    def evaluate(self, batches: Any, between: Callable[[], None]) -> dict[str, float]:
        """The loss and the metrics of batches; `between` is called after each one."""
        self.model.reset_metrics()
        for batch in batches:
            self._test(batch)
            between()
        return self.results()

    def results(self) -> dict[str, float]:
        """The loss and the metrics since the last reset."""
        return {name: float(value) for name, value in self.model.get_metrics_result().items()}

    def _each(self, step: Callable[[Any], Any]) -> Callable[[Any], None]:
        """A step as a function of a batch."""
        if self.strategy is None:

            @tf.function(jit_compile=self.model.by_xla)
            def run(batch: Any) -> None:
                self.traces += 1
                step(batch)

        else:

            @tf.function
            def run(batch: Any) -> None:
                self.traces += 1
                self.strategy.run(step, args=(batch,))

        return run

    def _repeated(self, batches: Iterator[Any], count: tf.Tensor) -> None:
        for _ in tf.range(count):
            self._train(next(batches))


class Prefetcher:
    """Prefetch the items of an iterator, one at a time.

    Even if a pipeline has a batch ready, fetching it takes half a millisecond, a tenth of the step
    of a small model.

    Args:
        items: the iterator, read by a separate thread from now on.
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
        """Stop the thread after the current item."""
        self._thread.shutdown(cancel_futures=True)


def _is_relevant(record: logging.LogRecord) -> bool:
    """Hide the warning about retracing: a step is intentionally traced for each padded length."""
    message = record.getMessage()
    return "triggered tf.function retracing" not in message or not (
        f"method {TrainingModel.__name__}." in message or f"function {Loop.__name__}." in message
    )


@contextlib.contextmanager
def lost_workers(placement: Placement) -> Iterator[None]:
    """Convert the errors of a cluster that has lost a worker."""
    try:
        yield
    except tf.errors.OpError as error:
        if placement.workers == 1:
            raise
        first = str(error).strip().splitlines()[0]
        raise ExecutionError(
            f"a worker was lost or failed, and the training stopped ({type(error).__name__}: "
            f"{first}). Restart all workers to continue from the last checkpoint."
        ) from error
