"""Signals that stop a training."""

import os
import signal

import pytest

from kerasrnn.training.interruption import Requests


def test_the_second_interrupt_does_not_wait():
    requests = Requests()
    with requests.handling():
        os.kill(os.getpid(), signal.SIGINT)
        assert requests.number == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
