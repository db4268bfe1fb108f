"""What the loop reads from."""

import threading
import time

import pytest
import tensorflow as tf

from kerasrnn.training.loop import Loop, Prefetcher

pytestmark = pytest.mark.tensorflow


class Source:
    """Numbers from 0 on, each told when it is asked for, in what thread; one of them fails."""

    def __init__(self, fails=None):
        self.asked, self.threads, self.fails = 0, set(), fails
        self.told = threading.Condition()

    def __iter__(self):
        return self

    def __next__(self):
        with self.told:
            self.asked += 1
            self.threads.add(threading.current_thread())
            self.told.notify_all()
        if self.asked - 1 == self.fails:
            raise OSError("no such file")
        return self.asked - 1

    def comes_to(self, count):
        with self.told:
            return self.told.wait_for(lambda: self.asked >= count, timeout=60)


def test_the_next_item_is_fetched_while_one_is_worked_on():
    """One item, and not more of them, by one thread, which is not that of who reads."""
    source = Source()
    prefetcher = Prefetcher(source)
    for number in range(5):
        assert next(prefetcher) == number
        assert source.comes_to(number + 2)
    time.sleep(0.05)
    assert source.asked == 6
    (thread,) = source.threads
    assert thread is not threading.current_thread()
    prefetcher.close()
    assert not thread.is_alive()


def test_an_error_comes_in_the_place_of_its_item():
    prefetcher = Prefetcher(Source(fails=2))
    assert [next(prefetcher), next(prefetcher)] == [0, 1]
    for _ in range(2):
        with pytest.raises(OSError, match="no such file"):
            next(prefetcher)
    prefetcher.close()


def test_it_ends_where_the_items_end():
    prefetcher = Prefetcher(iter(range(3)))
    assert list(prefetcher) == [0, 1, 2]
    assert next(prefetcher, None) is None
    prefetcher.close()


class TrainingModel:
    """The batches that it is trained on."""

    by_xla = False

    def __init__(self):
        self.seen = tf.Variable(tf.zeros(0, tf.int64), shape=[None])

    def train_step(self, batch):
        self.seen.assign(tf.concat([self.seen, batch[None]], 0))

    def test_step(self, batch):
        raise NotImplementedError


@pytest.mark.parametrize("fused", [1, 3])
@pytest.mark.parametrize("strategy", [None, tf.distribute.OneDeviceStrategy])
def test_each_batch_is_trained_on_once_and_in_its_place(fused, strategy):
    model = TrainingModel()
    strategy = strategy and strategy("cpu:0")
    loop, before = Loop(model, strategy, fused), threading.active_count()
    with loop.source(tf.data.Dataset.range(100)) as batches:
        for _ in range(0, 7, fused):
            loop.train(batches, fused)
    assert list(model.seen.numpy()[:7]) == list(range(7))
    assert threading.active_count() == before
