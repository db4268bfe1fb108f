"""Workers that are gone.

TensorFlow tells the workers when one of them is lost, unless it was the first one, which would have
told them: then the others would wait for ever.
"""

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence

PATIENCE = 60.0
"""Seconds that a worker may not be reached: twice as long as TensorFlow waits before it tells."""

PERIOD = 5.0
"""Seconds between two looks."""


@contextlib.contextmanager
def watched(
    addresses: Sequence[str], patience: float = PATIENCE, period: float = PERIOD
) -> Iterator[None]:
    """While this lasts, the process ends if another worker cannot be reached any more.

    It is in the midst of a step then, and waits for what the other would have sent: nothing else
    than its end can be brought about.

    Args:
        addresses: of the other workers, `host:port`.
        patience: seconds that one may not be reached.
        period: seconds between two looks.
    """
    over = threading.Event()
    last = dict.fromkeys(addresses, time.monotonic())

    def look() -> None:
        while not over.wait(period):
            for address in addresses:
                if _answers(address, period):
                    last[address] = time.monotonic()
            gone = [name for name, when in last.items() if time.monotonic() - when > patience]
            if gone and not over.is_set():
                sys.stderr.write(
                    f"kerasrnn: a worker was lost: {', '.join(gone)} could not be reached for "
                    f"{patience:.0f} seconds. Start all workers again with --resume: they go on "
                    "from the last checkpoint.\n"
                )
                sys.stderr.flush()
                os._exit(1)

    if not addresses:
        yield
        return
    thread = threading.Thread(target=look, daemon=True, name="watchdog")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _answers(address: str, patience: float) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=patience):
            return True
    except OSError:
        return False
