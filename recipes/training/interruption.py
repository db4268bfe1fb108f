"""Ctrl-C, and the signal of a machine that is about to be taken away."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """Training has stopped where it can be resumed, since a signal asked for it.

    Args:
        number: of the signal.
        message: where it stopped, and how it goes on.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number


class Requests:
    """Whether a signal has asked to stop."""

    def __init__(self) -> None:
        self.number: int | None = None

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        """While this lasts, SIGINT and SIGTERM only ask; the second SIGINT stops at once.

        Elsewhere than in the main thread, of which alone Python lets signals be handled, nothing
        is heard.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self._ask) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number
