"""Python processes that start in a tenth of a second.

A new interpreter spends four seconds of processor time on importing TensorFlow, Keras and TFDS. A
server imports them once, and each process is forked off it, as if its imports had been quick: with
its own arguments, environment, folder and session, and with no module of this checkout. TensorFlow
starts its threads when it first computes, and a fork would lose them. Therefore the server only
imports, and refuses to fork if it has more than one thread.

`Forked` replaces `subprocess.Popen`, also for the code under test, and in forked processes as well:

    monkeypatch.setattr(subprocess, "Popen", processes.Forked)

A test of what an import does needs a new interpreter.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SERVER = "TESTS_PROCESSES_SERVER"
"""The environment variable with the address of the server, for processes that fork others."""

PRELOADED = (
    "keras",
    "keras_tuner",
    "matplotlib.pyplot",
    "pytest",
    "sklearn.metrics",
    "tensorboard.backend.event_processing.event_accumulator",
    "tensorflow",
    "tensorflow_datasets",
)
POPEN = subprocess.Popen
NUMBER = struct.Struct("!q")
CALL = """
import importlib, json, sys
module, name, arguments, options = json.loads(sys.argv[1])
getattr(importlib.import_module(module), name)(*arguments, **options)
"""


class Forked(POPEN):
    """A `subprocess.Popen` that forks commands of this interpreter off the server.

    The process has a session of its own, and is killed if this object is deleted. Other commands
    start as usual.
    """

    _connection: socket.socket | None = None

    def _execute_child(self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *others):  # type: ignore[override]
        command = [args] if isinstance(args, (str, bytes, os.PathLike)) else list(args)
        if command[0] != sys.executable:
            given = (args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *others)
            super()._execute_child(*given)
            return
        *_, p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite = others[:9]
        environment = dict(os.environ if env is None else env)
        request = {
            "arguments": [os.fspath(argument) for argument in command[1:]],
            "folder": os.path.abspath(cwd or os.curdir),
            "environment": environment | {SERVER: _server()},
        }
        files = [
            given if given >= 0 else inherited
            for given, inherited in ((p2cread, 0), (c2pwrite, 1), (errwrite, 2))
        ]
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(_server())
        socket.send_fds(connection, [b"\n"], files)
        connection.sendall(json.dumps(request).encode() + b"\n")
        (self.pid,) = NUMBER.unpack(connection.recv(NUMBER.size, socket.MSG_WAITALL))
        if self.pid < 0:
            raise RuntimeError(f"the server has {-self.pid} threads; expected one, to be forked")
        self._connection, self._child_created = connection, True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)

    def poll(self) -> int | None:
        return super().poll() if self._connection is None else self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        if self._connection is None:
            return super().wait(timeout)
        if self._ended(timeout) is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def _ended(self, timeout: float | None) -> int | None:
        """The exit status, if the server has sent it within some seconds."""
        if self.returncode is None and select.select([self._connection], [], [], timeout)[0]:
            status = self._connection.recv(NUMBER.size, socket.MSG_WAITALL)
            self.returncode = os.waitstatus_to_exitcode(*NUMBER.unpack(status))
            self._connection.close()
        return self.returncode


class Call(Forked):
    """A forked process that calls a function of a module of the checkout.

    Args:
        log: the file with its output.
        function: the function.
        arguments: arguments of the function, which are passed as JSON: paths become strings.
        environment: additional environment variables.
        options: keyword arguments of the function.
    """

    def __init__(
        self,
        log: Path,
        function: Callable[..., None],
        *arguments: Any,
        environment: Mapping[str, str] = types.MappingProxyType({}),
        **options: Any,
    ) -> None:
        self.log = log
        called = [function.__module__, function.__name__, arguments, options]
        with log.open("wb") as file:
            super().__init__(
                [sys.executable, "-c", CALL, json.dumps(called, default=str)],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={**os.environ, **environment},
            )

    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait(self, timeout: float | None = 240.0) -> int:
        try:
            return super().wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise TimeoutError(f"running after {timeout} seconds: {self.output()}") from None


@functools.cache
def _server() -> str:
    """The address of the server of the tests, which is started if necessary."""
    if SERVER in os.environ:
        return os.environ[SERVER]
    folder = tempfile.TemporaryDirectory(prefix="processes-")
    address = os.path.join(folder.name, "server")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        process = POPEN(
            [sys.executable, __file__, str(listener.fileno())],
            stdin=subprocess.PIPE,  # the server ends when this is closed
            # OpenBLAS starts its threads when it is loaded.
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            pass_fds=[listener.fileno()],
            start_new_session=True,
        )

    @atexit.register
    def end() -> None:
        process.communicate()
        folder.cleanup()

    return address


def serve(listener: socket.socket) -> None:
    """Fork processes until the standard input is closed."""
    for name in PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    wakeup, on_signal = os.pipe()
    for end in (wakeup, on_signal):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(on_signal)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    running: dict[int, socket.socket] = {}
    selector = selectors.DefaultSelector()
    for file in (sys.stdin, listener, wakeup):
        selector.register(file, selectors.EVENT_READ)

    def fork() -> None:
        connection, _ = listener.accept()
        _, files, *_ = socket.recv_fds(connection, 1, 3)
        with connection.makefile() as lines:
            request = json.loads(lines.readline())
        pid = -_threads()
        if pid == -1:
            pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            selector.close()
            for other in (listener, connection, *running.values()):
                other.close()
            os.close(wakeup)
            os.close(on_signal)
            _become(request, files)
        for file in files:
            os.close(file)
        connection.sendall(NUMBER.pack(pid))
        if pid > 0:
            running[pid] = connection
            selector.register(connection, selectors.EVENT_READ, pid)

    def report() -> None:
        os.read(wakeup, 1 << 10)
        while running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            connection = running.pop(pid)
            selector.unregister(connection)
            with contextlib.suppress(ConnectionError):
                connection.sendall(NUMBER.pack(status))
            connection.close()

    while True:
        ready = [key for key, _ in selector.select()]
        for key in ready:
            if key.fileobj is sys.stdin:
                for pid in running:
                    os.kill(pid, signal.SIGKILL)
                return
            if key.fileobj is listener:
                fork()
            elif key.fileobj == wakeup:
                report()
            elif key.data in running:  # nobody waits for it anymore
                os.kill(key.data, signal.SIGKILL)


def _threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except FileNotFoundError:  # not Linux
        return threading.active_count()


def _become(request: dict[str, Any], files: Sequence[int]) -> None:
    """Turn a fork of the server into the process of a command."""
    os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
    for file in files:
        os.close(file)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    status, interrupted = 1, False
    try:
        _run(request["arguments"])
        status = 0
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            status = end.code or 0
        else:
            sys.stderr.write(f"{end.code}\n")
    except BaseException as error:
        interrupted = type(error) is KeyboardInterrupt  # after a subclass, the status is 1
        sys.excepthook(*sys.exc_info())
    # As an interpreter ends, without the second that freeing everything takes.
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    if interrupted:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(status & 0xFF)


def _run(arguments: list[str]) -> None:
    """Run the code, module or script of a Python command."""
    safe = arguments[0] == "-P"
    option, *rest = arguments[1:] if safe else arguments
    folders = [] if safe else [os.path.dirname(option) if option.endswith(".py") else os.getcwd()]
    folders += filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:0] = folders
    sys.argv = {"-m": rest, "-c": ["-c", *rest[1:]]}.get(option, [option, *rest])
    if option == "-m":
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        return
    sys.modules["__main__"] = module = types.ModuleType("__main__")
    if option == "-c":
        code = compile(rest[0], "<string>", "exec")
    else:
        vars(module)["__file__"] = option
        code = compile(Path(option).read_text(encoding="utf-8"), option, "exec")
    exec(code, vars(module))


if __name__ == "__main__":
    del sys.path[0]  # the folder of this file
    serve(socket.socket(fileno=int(sys.argv[1])))
