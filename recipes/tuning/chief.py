"""Parallel trials: keras-tuner's chief distributes them, and its workers run them.

The protocol is keras-tuner's own, over gRPC. Three environment variables make a process a chief or
a worker; on a single machine, the chief starts its workers itself.

    KERASTUNER_TUNER_ID      chief, or a different name for each worker
    KERASTUNER_ORACLE_IP     the chief's address
    KERASTUNER_ORACLE_PORT

keras-tuner's chief waits forever for a lost worker, and its workers wait an hour for a chief. Here
workers send a heartbeat every few seconds, and the chief assigns the trial of a lost worker to
another.

Anyone who can reach the port can send messages. The chief accepts only those with the token in the
search's folder, which only the folder's owner can read, and validates their content: a rejected
message has no effect.
"""

import contextlib
import hmac
import math
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent import futures
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import keras_tuner
from keras_tuner.engine import trial as trials
from keras_tuner.src import protos  # keras-tuner exports no part of its protocol
from keras_tuner.src.distribute import oracle_chief

from kerasrnn.files import remove, replacing
from kerasrnn.recipes.base.config import ConfigError
from kerasrnn.recipes.base.recipe import Recipe
from kerasrnn.recipes.tuning.oracles import direction
from kerasrnn.recipes.tuning.results import Outcome, read_outcome, write_outcome
from kerasrnn.recipes.tuning.search import Search, TuningError
from kerasrnn.training.interruption import Interrupted, Requests

if TYPE_CHECKING:
    from kerasrnn.recipes.tuning.tuner import Tuner

PATIENCE = 120.0
"""Seconds without a message after which a worker or the chief counts as lost."""

PERIOD = 5.0
"""Seconds between two heartbeats."""

TO_END = 60.0
"""Seconds for workers to exit on request, after the current step."""

TWICE = 2
"""Number of lost workers after which a trial counts as failed."""

COMMAND = (sys.executable, "-P", "-m", "kerasrnn")
"""The command that starts a worker on this machine."""

TOKEN = "chief.token"
"""The file with the token, in the search's folder."""

HEADER = "kerasrnn-token"
"""The message metadata with the token."""

LARGEST = 1 << 20
"""Largest size of a message, in bytes."""

PARENT = "KERASRNN_TUNE_CHIEF"
"""The environment variable with the chief's process id, for workers on this machine."""


def role() -> str:
    """The role of this process according to keras-tuner's environment variables.

    Raises:
        ConfigError: only some of them are set.
    """
    names = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")
    if not os.environ.get("KERASTUNER_ORACLE_IP"):
        return "alone"
    for name in names:
        if not os.environ.get(name):
            raise ConfigError(f"{name} is not set; expected all of {', '.join(names)}, or none.")
    return "chief" if "chief" in os.environ["KERASTUNER_TUNER_ID"] else "worker"


def awaited(recipe: Recipe, folder: Path | None, patience: float = 600.0) -> Search:
    """Wait for the chief to start the search, and open it.

    Raises:
        ConfigError: no folder is given, or no search was started in it.
    """
    if folder is None:
        raise ConfigError("--output: expected the folder that the chief and the workers share.")
    until = time.monotonic() + patience
    while not (folder / "search.json").is_file():
        if time.monotonic() > until:
            raise ConfigError(f"--output {folder}: the chief has not started a search there.")
        time.sleep(0.5)
    return Search.open(recipe, folder)


def work(tuner: "Tuner") -> None:
    """Run the chief's trials until there are no more.

    Raises:
        TuningError: the chief cannot be reached, or rejects this worker.
    """
    address = f"{os.environ['KERASTUNER_ORACLE_IP']}:{os.environ['KERASTUNER_ORACLE_PORT']}"
    tuner.oracle.stub = stub(address, tuner.task.folder)
    try:
        with _heartbeat(tuner):
            tuner.search()
    except grpc.RpcError as error:
        if error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.INVALID_ARGUMENT):
            raise TuningError(f"the chief rejected a message: {error.details()}") from error
        raise TuningError(f"the chief has exited or failed: {error.details()}.") from error


def stub(address: str, folder: Path) -> Any:
    """A worker's connection to the chief, with the token in the search's folder."""
    channel = grpc.insecure_channel(address, options=[("grpc.max_receive_message_length", LARGEST)])
    return protos.get_service_grpc().OracleStub(grpc.intercept_channel(channel, _Bearer(folder)))


class _Bearer(grpc.UnaryUnaryClientInterceptor):
    """Adds the token to each message. It is read each time, since a restarted chief has a new one.

    Raises:
        TuningError: the token cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / TOKEN

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        token = self._token()
        call = self._sent(continuation, details, request, token)
        # A chief that starts later has a new token.
        if call.code() == grpc.StatusCode.UNAUTHENTICATED and self._token() != token:
            return self._sent(continuation, details, request, self._token())
        return call

    def _sent(self, continuation: Any, details: Any, request: Any, token: str) -> Any:
        metadata = [*(details.metadata or ()), (HEADER, token)]
        return continuation(details._replace(metadata=metadata), request)

    def _token(self) -> str:
        try:
            return self.path.read_text(encoding="ascii")
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise TuningError(
                f"{self.path} cannot be read: {error.strerror}; expected workers of the "
                "same user as the chief."
            ) from None


class _TokenCheck(grpc.ServerInterceptor):
    """Accepts only messages with the token."""

    def __init__(self, token: str) -> None:
        self.token = token.encode()
        self.refusal = grpc.unary_unary_rpc_method_handler(self._refuse)

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        token = dict(details.invocation_metadata).get(HEADER, "")
        token = token if isinstance(token, bytes) else token.encode()
        return continuation(details) if hmac.compare_digest(token, self.token) else self.refusal

    def _refuse(self, request: Any, context: Any) -> None:
        context.abort(
            grpc.StatusCode.UNAUTHENTICATED,
            f"expected the token of {TOKEN} in the search's folder.",
        )


def server(servicer: "_Servicer", address: str) -> tuple[Any, int]:
    """Create a gRPC server for a servicer; returns it, not started, and its port.

    It writes the token for the workers, readable only by the user.

    Raises:
        TuningError: the address is taken.
    """
    token = secrets.token_hex(32)
    grpc_server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=1),
        interceptors=[_TokenCheck(token)],
        # Not shared with other processes, which could reply in place of the chief.
        options=[("grpc.max_receive_message_length", LARGEST), ("grpc.so_reuseport", 0)],
    )
    protos.get_service_grpc().add_OracleServicer_to_server(servicer, grpc_server)
    try:
        port = grpc_server.add_insecure_port(address)
    except RuntimeError as error:
        raise TuningError(f"the chief cannot listen at {address}: {error}") from None
    path = servicer.tuner.task.folder / TOKEN
    remove(path)  # of a killed chief
    with replacing(path) as scratch:
        scratch.touch(mode=0o600)
        scratch.write_text(token, encoding="ascii")
    return grpc_server, port


@contextlib.contextmanager
def _heartbeat(tuner: "Tuner") -> Iterator[None]:
    """A context that sends heartbeats to the chief; if the chief is lost, the worker exits.

    It receives SIGTERM then: a training stops with a checkpoint, anything else immediately.
    """
    over = threading.Event()
    parent = int(os.environ.get(PARENT, 0))

    def beat() -> None:
        last = time.monotonic()
        while not over.wait(PERIOD):
            request = protos.get_service().GetTrialRequest(trial_id=tuner.running)
            try:
                tuner.oracle.stub.GetTrial(request, timeout=PERIOD)
                last = time.monotonic()
            except grpc.RpcError as error:
                # It has replied, even if only with an unknown trial.
                if error.code() not in (
                    grpc.StatusCode.UNAVAILABLE,
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                ):
                    last = time.monotonic()
            orphaned = parent and os.getppid() != parent
            if orphaned or time.monotonic() - last > PATIENCE:
                sys.stderr.write("kerasrnn: the chief has exited; this worker exits, too.\n")
                os.kill(os.getpid(), signal.SIGTERM)
                return

    thread = threading.Thread(target=beat, daemon=True, name="heartbeat")
    thread.start()
    try:
        yield
    finally:
        over.set()


def serve(tuner: "Tuner", workers: int, data_dir: str | None) -> None:
    """Distribute trials until there are no more.

    Args:
        tuner: the tuner.
        workers: processes to start on this machine; 0: they are started elsewhere, and the
            environment defines the chief's address.
        data_dir: the TFDS data directory.

    Raises:
        TuningError: the address is in use; a worker has failed; or all are lost.
        Interrupted: a signal stopped the search; the workers have written checkpoints.
    """
    servicer = _Servicer(tuner)
    address = "127.0.0.1:0"
    if not workers:
        address = f"{os.environ['KERASTUNER_ORACLE_IP']}:{os.environ['KERASTUNER_ORACLE_PORT']}"
    listening, port = server(servicer, address)
    listening.start()
    processes = _Workers(tuner, workers, port, data_dir)
    requests = Requests()
    try:
        with requests.handling():
            processes.begin()
            while not (processes.have_exited() if workers else servicer.is_done()):
                time.sleep(0.2)
                if requests.number is not None:
                    raise Interrupted(requests.number, "")
                if servicer.error is not None:
                    raise TuningError(f"the chief has failed: {servicer.error}") from servicer.error
                servicer.report_ended()
                if workers:
                    processes.replace_lost(servicer)
                else:
                    servicer.withdraw_silent()
    finally:
        processes.end()
        listening.stop(None)
        remove(tuner.task.folder / TOKEN)
    servicer.report_ended()


class RefusedError(ValueError):
    """A message that no worker sends."""


class _Servicer(oracle_chief.OracleServicer):
    """Handles the workers' messages, in one thread; the chief works in another.

    All content of a message is validated before it is passed to keras-tuner's oracle, which an
    error would leave locked forever.
    """

    def __init__(self, tuner: "Tuner") -> None:
        super().__init__(tuner.own_oracle)
        self.tuner = tuner
        self.lock = threading.RLock()
        self.error: Exception | None = None
        self.last_message: dict[str, float] = {}
        """The time of the last message from a trial's worker."""

        self.last = time.monotonic()
        self.losses: Counter[str] = Counter()
        """Workers that were lost in a trial."""

        self.reported = len(tuner.own_oracle.end_order)

    @contextlib.contextmanager
    def _handling(self, context: Any) -> Iterator[None]:
        self.last = time.monotonic()
        with self.lock:
            try:
                yield
            except RefusedError as error:
                if context is None:
                    raise
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            except Exception as error:
                self.error = error
                raise

    def _trial(self, name: str) -> Any:
        """The trial of a message.

        Raises:
            RefusedError: there is no such trial.
        """
        if name not in self.oracle.trials:
            raise RefusedError(f"trial_id={name[:40]!r}: expected the id of a trial.")
        self.last_message[name] = time.monotonic()
        return self.oracle.trials[name]

    def GetSpace(self, request: Any, context: Any) -> Any:
        with self._handling(context):
            raise RefusedError("this chief sends values to its workers, not the search space.")

    UpdateSpace = GetBestTrials = GetSpace

    def CreateTrial(self, request: Any, context: Any) -> Any:
        with self._handling(context):
            if not re.fullmatch(r"[\w.-]{1,100}", request.tuner_id):
                raise RefusedError(f"tuner_id={request.tuner_id[:40]!r}: expected a worker's name.")
            trial = self.oracle.create_trial(request.tuner_id)
            self.stop_triggered |= trial.status == "STOPPED"
            self.last_message[trial.trial_id] = time.monotonic()
            return protos.get_service().CreateTrialResponse(trial=_plain(trial))

    def UpdateTrial(self, request: Any, context: Any) -> Any:
        with self._handling(context):
            trial = self._trial(request.trial_id)
            metrics = dict(request.metrics)
            self._check_report(trial, metrics, request.step)
            if trial.status == "RUNNING":  # not a worker considered lost
                trial = self.oracle.update_trial(request.trial_id, metrics, step=request.step)
            return protos.get_service().UpdateTrialResponse(trial=_plain(trial))

    def _check_report(self, trial: Any, metrics: dict[str, float], step: int) -> None:
        """Raise RefusedError if a trial cannot have such a result.

        Its worker writes the result to a file before reporting it.
        """
        search = self.tuner.task
        objective = self.tuner.options.objective
        if set(metrics) != {objective}:
            raise RefusedError(f"metrics={sorted(metrics)[:5]}: expected [{objective!r}].")
        value = metrics[objective]
        is_fraction = direction(objective) == "max"
        if not math.isfinite(value) or (is_fraction and not 0.0 <= value <= 1.0):
            possible = "a number in [0, 1]" if is_fraction else "a finite number"
            raise RefusedError(f"{objective}={value}: expected {possible}.")
        epochs = search.config_of(trial.hyperparameters.values).epochs
        if not 1 <= step <= epochs:
            raise RefusedError(f"step={step}: expected an epoch from 1 to {epochs}.")
        known = read_outcome(search.trial_folder(trial.trial_id))
        if known is not None and known.value != value:
            raise RefusedError(f"{objective}={value}: the trial's result.json has {known.value}.")

    def GetTrial(self, request: Any, context: Any) -> Any:
        with self._handling(context):
            if not request.trial_id:  # a worker without a trial
                return protos.get_service().GetTrialResponse()
            trial = self._trial(request.trial_id)
            return protos.get_service().GetTrialResponse(trial=_plain(trial))

    def EndTrial(self, request: Any, context: Any) -> Any:
        with self._handling(context):
            known = self._trial(request.trial.trial_id)
            proto = protos.get_proto()
            if request.trial.status not in (proto.COMPLETED, proto.FAILED):
                raise RefusedError(f"status={request.trial.status}: expected COMPLETED or FAILED.")
            if known.status == "RUNNING":  # not a worker considered lost
                status = trials.TrialStatus.from_proto(request.trial.status)
                objective = self.tuner.options.objective
                if status == "COMPLETED" and not known.metrics.exists(objective):
                    raise RefusedError(
                        f"status=COMPLETED: expected {objective} to be reported first."
                    )
                ended = trials.Trial(known.hyperparameters, known.trial_id, status)
                self.oracle.end_trial(ended)
                self.oracle.save()  # keras-tuner's is from before the trial ended
            return protos.get_service().EndTrialResponse()

    def report_ended(self) -> None:
        """Report the trials that have ended since."""
        with self.lock:
            ended = self.oracle.end_order[self.reported :]
            self.reported += len(ended)
            by_name = {outcome.trial: outcome for outcome in self.tuner.outcomes()} if ended else {}
            for name in ended:
                self.tuner.report_trial(by_name[name])

    def is_done(self) -> bool:
        """Whether the search is over and all workers know it or are lost."""
        with self.lock:
            oracle = self.oracle
            if not self.stop_triggered or oracle.ongoing_trials or oracle._retry_queue:
                return False
            return not oracle.tuner_ids or time.monotonic() - self.last > PATIENCE

    def withdraw_silent(self) -> None:
        """Withdraw the trials of silent workers."""
        with self.lock:
            for worker, trial in list(self.oracle.ongoing_trials.items()):
                if time.monotonic() - self.last_message.get(trial.trial_id, self.last) > PATIENCE:
                    self.withdraw(worker, f"no message for {PATIENCE:.0f} seconds")

    def withdraw(self, worker: str, reason: str) -> bool:
        """Withdraw the trial of a lost worker; returns whether it had one.

        Another worker will run it, unless this was its second attempt.
        """
        with self.lock:
            oracle, search = self.oracle, self.tuner.task
            oracle.tuner_ids.discard(worker)
            trial = oracle.ongoing_trials.pop(worker, None)
            if trial is None:
                return False
            name = trial.trial_id
            self.losses[name] += 1
            if self.losses[name] < TWICE:
                oracle._retry_queue.append(name)
            else:
                values = search.chosen(trial.hyperparameters.values)
                message = f"its process was lost twice: {reason}"
                write_outcome(
                    search.trial_folder(name), Outcome(name, "failed", values, reason=message)
                )
                trial.status, trial.message = "FAILED", message
                oracle.end_order.append(name)
                oracle._save_trial(trial)
            oracle.save()
            self.tuner.progress.report(
                "lost", f"worker {worker} was lost ({reason}) in trial {name}", trial=name
            )
            return True


def _plain(trial: Any) -> Any:
    """A trial as sent to workers, which need only its values.

    With conditions in its space, keras-tuner prints a line each time it is sent.
    """
    hyperparameters = keras_tuner.HyperParameters()
    hyperparameters.values = dict(trial.hyperparameters.values)
    return trials.Trial(hyperparameters, trial.trial_id, trial.status).to_proto()


class _Workers:
    """The worker processes on this machine."""

    def __init__(self, tuner: "Tuner", count: int, port: int, data_dir: str | None) -> None:
        self.tuner, self.count, self.port, self.data_dir = tuner, count, port, data_dir
        self.processes: dict[str, subprocess.Popen] = {}
        self.logs = tuner.task.folder / "workers"

    def begin(self) -> None:
        for n in range(self.count):
            self._start(f"worker{n}")

    def _start(self, name: str) -> None:
        search = self.tuner.task
        command = [*COMMAND, "tune", search.recipe.name, "--output", str(search.folder)]
        command += ["--progress", "lines"]
        command += ["--data-dir", self.data_dir] if self.data_dir else []
        number = int(name.removeprefix("worker"))
        cores = _shares(self.count)[number]
        environment = {
            **os.environ,
            "KERASTUNER_TUNER_ID": name,
            "KERASTUNER_ORACLE_IP": "127.0.0.1",
            "KERASTUNER_ORACLE_PORT": str(self.port),
            PARENT: str(os.getpid()),
            # Each takes its share of the cores, and as much GPU memory as it needs.
            "TF_NUM_INTRAOP_THREADS": str(len(cores)),
            "TF_NUM_INTEROP_THREADS": str(len(cores)),
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        }
        self.logs.mkdir(exist_ok=True)
        with (self.logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Only the chief handles Ctrl-C; it informs the workers once.
                start_new_session=True,
            )
        if hasattr(os, "sched_setaffinity"):  # Linux only
            with contextlib.suppress(OSError):
                os.sched_setaffinity(process.pid, cores)
        self.processes[name] = process

    def have_exited(self) -> bool:
        return not self.processes

    def replace_lost(self, servicer: _Servicer) -> None:
        """Withdraw the trials of lost workers, and start replacements.

        Raises:
            TuningError: a worker has failed in a way that would affect others, too.
        """
        for name, process in list(self.processes.items()):
            code = process.poll()
            if code is None:
                continue
            del self.processes[name]
            if code == 0:
                servicer.oracle.tuner_ids.discard(name)
                continue
            reason = f"signal {-code}" if code < 0 else f"exit status {code}"
            killed = code < 0 or code > 128
            if killed and servicer.withdraw(name, reason):
                self._start(name)
                continue
            if killed and self.processes:  # the others go on
                continue
            raise TuningError(f"{name} failed with {reason}: {self._last_line(name)}")

    def end(self) -> None:
        """Ask all workers to exit with a checkpoint; kill those that do not."""
        for process in self.processes.values():
            process.terminate()
        until = time.monotonic() + TO_END
        for process in self.processes.values():
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()

    def _last_line(self, name: str) -> str:
        path = self.logs / f"{name}.log"
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() or ["nothing"]
        return f"{lines[-1]} (see {path})"


def _shares(count: int) -> Sequence[Sequence[int]]:
    """The cores of this process, divided among the workers."""
    if hasattr(os, "sched_getaffinity"):  # Linux only
        cores = sorted(os.sched_getaffinity(0))
    else:
        cores = list(range(os.cpu_count() or 1))
    if count >= len(cores):
        return [[cores[n % len(cores)]] for n in range(count)]
    return [cores[n::count] for n in range(count)]
