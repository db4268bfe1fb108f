"""The batches that the loop reads."""

import threading
import time

import pytest
import tensorflow as tf

from kerasrnn.training.loop import Loop, Prefetcher

pytestmark = pytest.mark.tensorflow


class Source:
    """Iterates over numbers, and records requests and the threads of the requests.

    Args:
        fails: the number in place of which there is an error.
    """

    def __init__(self, fails=None):
        self.requests, self.threads, self.fails = 0, set(), fails
        self.requested = threading.Condition()

    def __iter__(self):
        return self

    def __next__(self):
        with self.requested:
            self.requests += 1
            self.threads.add(threading.current_thread())
            self.requested.notify_all()
        if self.requests - 1 == self.fails:
            raise OSError("no such file")
        return self.requests - 1

    def receives(self, count):
        with self.requested:
            return self.requested.wait_for(lambda: self.requests >= count, timeout=60)


def test_one_item_is_prefetched():
    """By another thread than the one that reads."""
    source = Source()
    prefetcher = Prefetcher(source)
    for number in range(5):
        assert next(prefetcher) == number
        assert source.receives(number + 2)
    time.sleep(0.05)
    assert source.requests == 6
    (thread,) = source.threads
    assert thread is not threading.current_thread()
    prefetcher.close()
    assert not thread.is_alive()


def test_an_error_is_raised_in_place_of_its_item():
    prefetcher = Prefetcher(Source(fails=2))
    assert [next(prefetcher), next(prefetcher)] == [0, 1]
    for _ in range(2):
        with pytest.raises(OSError, match="no such file"):
            next(prefetcher)
    prefetcher.close()


def test_it_ends_with_its_items():
    prefetcher = Prefetcher(iter(range(3)))
    assert list(prefetcher) == [0, 1, 2]
    assert next(prefetcher, None) is None
    prefetcher.close()


class Recorder:
    """In place of a model: records the batches of its training steps."""

    by_xla = False

    def __init__(self):
        self.seen = tf.Variable(tf.zeros(0, tf.int64), shape=[None])

    def train_step(self, batch):
        self.seen.assign(tf.concat([self.seen, batch[None]], 0))

    def test_step(self, batch):
        """Required by `Loop`, which does not evaluate here."""


@pytest.mark.parametrize("fused", [1, 3])
@pytest.mark.parametrize("strategy", [None, tf.distribute.OneDeviceStrategy])
def test_batches_are_trained_on_once_and_in_order(fused, strategy):
    model = Recorder()
    strategy = strategy and strategy("cpu:0")
    loop, before = Loop(model, strategy, fused), threading.active_count()
    with loop.source(tf.data.Dataset.range(100)) as batches:
        for _ in range(0, 7, fused):
            loop.train(batches, fused)
    assert list(model.seen.numpy()[:7]) == list(range(7))
    assert loop.traces == 1
    assert threading.active_count() == before
