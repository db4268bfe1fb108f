"""Processes of their own that have TensorFlow imported already, which takes a new one seconds.

They are forked off a server, which has imported it and done nothing else.
"""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["tests.training.plain", "tests.recipes.training.cluster", "tests.recipes.training.kill_loop"]
)


class Forked:
    """A process that calls a function.

    Args:
        log: where what it prints goes.
        function: of a module.
        arguments: of the function.
        environment: variables that it has besides.
    """

    def __init__(
        self, log: Path, function: Callable[..., None], *arguments: Any, **environment: str
    ) -> None:
        self._log = log
        self._process = _CONTEXT.Process(
            target=_call, args=(log, environment, function, arguments), daemon=True
        )
        self._process.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit status, that of a signal being negative; None: it is running."""
        return self._process.exitcode

    def said(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def wait(self, seconds: float = 240.0) -> int:
        """Wait for its end, and not longer."""
        self._process.join(seconds)
        status = self.poll()
        if status is None:
            self._process.kill()
            raise TimeoutError(f"not done after {seconds} seconds: {self.said()}")
        return status


def _call(
    log: Path, environment: dict[str, str], function: Callable[..., None], arguments: Any
) -> None:
    with log.open("wb", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(environment)
    function(*arguments)
