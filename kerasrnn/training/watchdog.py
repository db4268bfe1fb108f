"""Detection of lost workers.

TensorFlow informs the workers when one of them is lost, except for the first worker, which sends
this information: without it, the others would wait forever.
"""

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence

PATIENCE = 60.0
"""Seconds that a worker may be unreachable: twice the time that TensorFlow waits."""

PERIOD = 5.0
"""Seconds between two checks."""


@contextlib.contextmanager
def watched(
    addresses: Sequence[str], patience: float = PATIENCE, period: float = PERIOD
) -> Iterator[None]:
    """A context in which the process exits if another worker becomes unreachable.

    At that point the process is blocked in a step, waiting for data from the lost worker, so
    exiting is the only option.

    Args:
        addresses: addresses of the other workers, `host:port`.
        patience: seconds that a worker may be unreachable.
        period: seconds between two checks.
    """
    over = threading.Event()
    last = dict.fromkeys(addresses, time.monotonic())

    def look() -> None:
        while not over.wait(period):
            for address in addresses:
                if _is_reachable(address, period):
                    last[address] = time.monotonic()
            lost = [name for name, when in last.items() if time.monotonic() - when > patience]
            if lost and not over.is_set():
                sys.stderr.write(
                    f"kerasrnn: a worker was lost: {', '.join(lost)} could not be reached for "
                    f"{patience:.0f} seconds. Restart all workers to continue from the last "
                    "checkpoint.\n"
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


def _is_reachable(address: str, patience: float) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=patience):
            return True
    except OSError:
        return False
