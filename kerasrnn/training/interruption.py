"""Handling of Ctrl-C and of SIGTERM, which precedes the shutdown of a machine."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """A signal has stopped the training at a point from which it can be resumed.

    Args:
        number: the number of the signal.
        message: where it stopped, and how to resume it.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number


class Requests:
    """Whether a signal has requested a stop."""

    def __init__(self) -> None:
        self.number: int | None = None

    @contextlib.contextmanager
    def handling(self) -> Iterator[None]:
        """A context in which SIGINT and SIGTERM request a stop; a second SIGINT stops at once.

        Only in the main thread, since Python does not allow signal handlers in others.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self._request) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number
