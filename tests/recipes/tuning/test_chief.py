"""Parallel searches: the chief, its workers, their messages, and processes that are killed."""

import contextlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest
from keras_tuner.src import protos

from kerasrnn.__main__ import main
from kerasrnn.recipes import tuning
from kerasrnn.recipes.base.config import ConfigError
from kerasrnn.recipes.base.execution import Execution
from kerasrnn.recipes.tuning import chief
from kerasrnn.recipes.tuning.results import Outcome, read_outcome, write_outcome
from kerasrnn.recipes.tuning.search import TuningError
from kerasrnn.training.progress import Progress
from tests.processes import Forked
from tests.recipes.tuning.searching import TUNE, results

pytestmark = [pytest.mark.tensorflow, pytest.mark.xdist_group("processes")]

SCRIPT = Path(__file__).with_name("tuned.py")


@contextlib.contextmanager
def started(*options, seconds_a_step):
    """A search in another process, with pauses before the steps of its trainings."""
    process = Forked(
        [sys.executable, "-P", str(SCRIPT), *TUNE, "--progress=lines", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "SECONDS_A_STEP": str(seconds_a_step)},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(condition, process, seconds=300.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.usefixtures("light")
def test_a_killed_search_is_resumed(there):
    """The completed trial is not repeated; the interrupted one is resumed."""
    output = f"--output={there / 'found'}"
    with started("--trials=2", output, seconds_a_step=0.15) as process:
        wait_for((there / "found/trials/0001/checkpoint/index.json").exists, process)
    assert not (there / "found/trials/0001/result.json").exists()
    first = (there / "found/trials/0000/result.json").stat().st_mtime_ns
    assert main(["tune", "japanese_vowels", "--resume", "--output=found"]) == 0
    assert [trial["status"] for trial in results("found")] == ["completed"] * 2
    assert (there / "found/trials/0000/result.json").stat().st_mtime_ns == first
    sessions = (there / "found/trials/0001/sessions.jsonl").read_text().splitlines()
    assert [json.loads(line).get("ended") for line in sessions] == [None, "finished"]


@pytest.mark.slow
def test_two_workers_of_which_one_is_killed(there):
    """Another worker resumes the trial of the killed one."""
    found = there / "found"
    output = f"--output={found}"
    with started("--trials=2", "--workers=2", output, seconds_a_step=0.2) as process:
        wait_for((found / "trials/0001/checkpoint/index.json").exists, process)
        running = [
            json.loads((found / f"trials/{n}/environment.json").read_text())["process"]
            for n in ("0000", "0001")
        ]
        assert len({*running, process.pid}) == 3
        os.kill(running[1], signal.SIGKILL)
        printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0, printed
    assert re.search(r"worker worker\d was lost \(signal 9\) in trial 0001", printed)
    trials = results(found)
    assert [trial["status"] for trial in trials] == ["completed"] * 2
    sessions = (found / "trials/0001/sessions.jsonl").read_text().splitlines()
    assert [json.loads(line).get("ended") for line in sessions] == [None, "finished"]
    assert len(re.findall(r"^trial \d{4}: val_loss", printed, re.MULTILINE)) == 2
    environment = json.loads((found / "trials/0001/environment.json").read_text())
    assert environment["process"] != running[1]
    assert "worker0.log" in os.listdir(found / "workers")


@pytest.fixture
def servicer(recipe, there):
    """The chief of a search."""
    search = tuning.Search.create(
        recipe, there / "found", {"units": 4}, tuning.SearchOptions(trials=2), Execution(), None
    )
    return chief._Servicer(tuning.Tuner(search, search.options, None, Progress()))


def create_trial(servicer, worker):
    service = protos.get_service()
    return servicer.CreateTrial(service.CreateTrialRequest(tuner_id=worker), None).trial


def end_trial(servicer, name, status):
    service, proto = protos.get_service(), protos.get_proto()
    request = service.EndTrialRequest(trial=proto.Trial(trial_id=name, status=status))
    servicer.EndTrial(request, None)


def test_a_silent_worker_loses_its_trial(servicer, monkeypatch):
    first, second = create_trial(servicer, "a"), create_trial(servicer, "b")
    assert (first.trial_id, second.trial_id) == ("0000", "0001")
    assert not create_trial(servicer, "c").trial_id or servicer.stop_triggered  # there are two
    now = time.monotonic() + chief.PATIENCE + 1
    monkeypatch.setattr(chief.time, "monotonic", lambda: now)
    servicer.GetTrial(protos.get_service().GetTrialRequest(trial_id="0001"), None)  # b's heartbeat
    servicer.withdraw_silent()
    assert set(servicer.oracle.ongoing_trials) == {"b"}
    again = create_trial(servicer, "c")
    assert again.trial_id == "0000"
    assert again.hyperparameters == first.hyperparameters
    assert not servicer.is_done()

    end_trial(servicer, "0000", "FAILED")
    end_trial(servicer, "0000", "COMPLETED")  # by worker a, which was only slow
    assert servicer.oracle.trials["0000"].status == "FAILED"
    assert servicer.oracle.end_order == ["0000"]
    assert servicer.withdraw("b", "signal 9")
    assert not servicer.withdraw("b", "signal 9")  # it has none anymore
    assert create_trial(servicer, "d").trial_id == "0001"
    assert servicer.withdraw("d", "signal 9")
    failed = read_outcome(servicer.tuner.task.trial_folder("0001"))
    assert failed.reason == "its process was lost twice: signal 9"
    assert create_trial(servicer, "c").status == protos.get_proto().STOPPED
    assert servicer.oracle.ongoing_trials == {}


def test_a_killed_chief_is_restarted(servicer):
    """Trials that have ended are not repeated."""
    create_trial(servicer, "a")
    create_trial(servicer, "b")
    servicer.oracle.update_trial("0000", {"val_loss": 0.5})
    end_trial(servicer, "0000", "COMPLETED")
    search = servicer.tuner.task
    tuner = tuning.Tuner(search, search.options, None, Progress())
    assert tuner.own_oracle.ongoing_trials == {}
    assert tuner.own_oracle.trials["0000"].score == 0.5
    assert [tuner.own_oracle.create_trial("c").trial_id for _ in range(2)] == ["0001", "0001"]
    assert tuner.own_oracle.create_trial("d").status == "STOPPED"


@contextlib.contextmanager
def listening(servicer):
    """The address of a chief that listens."""
    server, port = chief.server(servicer, "127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None)


def refusal(method, request, **options):
    """The status and the text of the error about a message."""
    with pytest.raises(grpc.RpcError) as error:
        method(request, timeout=20, **options)
    return error.value.code().name, error.value.details()


def test_messages_without_the_token_are_refused(servicer):
    """Another user of the machine may find the port, but cannot read the token."""
    service, folder = protos.get_service(), servicer.tuner.task.folder
    ask = service.CreateTrialRequest(tuner_id="a")
    with listening(servicer) as address, grpc.insecure_channel(address) as channel:
        path = folder / chief.TOKEN
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        token = path.read_text()
        stranger = protos.get_service_grpc().OracleStub(channel)
        for metadata in ((), ((chief.HEADER, token[:-1]),), ((chief.HEADER, ""),)):
            for method, request in (
                (stranger.CreateTrial, ask),
                (stranger.UpdateTrial, service.UpdateTrialRequest(trial_id="0000")),
                (stranger.EndTrial, service.EndTrialRequest()),
                (stranger.UpdateSpace, service.UpdateSpaceRequest()),
            ):
                status, _ = refusal(method, request, metadata=metadata)
                assert status == "UNAUTHENTICATED"
        assert servicer.oracle.trials == {}
        # A worker with the token of an earlier chief reads the new one.
        read, tokens = chief._Bearer._token, []

        def late(self):
            tokens.append(read(self) if tokens else "an earlier one")
            return tokens[-1]

        worker = chief.stub(address, folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(chief._Bearer, "_token", late)
            assert worker.CreateTrial(ask, timeout=20).trial.trial_id == "0000"
        assert tokens == ["an earlier one", token, token]


def test_invalid_messages_are_refused(servicer):
    service, proto = protos.get_service(), protos.get_proto()
    folder = servicer.tuner.task.folder
    ask = service.CreateTrialRequest(tuner_id="a")

    def report(value, trial="0000", step=1, name="val_loss"):
        return service.UpdateTrialRequest(trial_id=trial, metrics={name: value}, step=step)

    def end(trial, status):
        return service.EndTrialRequest(trial=proto.Trial(trial_id=trial, status=status))

    def files():
        return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    with listening(servicer) as address:
        worker = chief.stub(address, folder)
        create, update = worker.CreateTrial, worker.UpdateTrial
        assert create(ask, timeout=20).trial.trial_id == "0000"
        write_outcome(
            servicer.tuner.task.trial_folder("0000"), Outcome("0000", "completed", {}, 0.5)
        )
        before, state = files(), servicer.oracle.get_state()
        for method, request, text in (
            (create, service.CreateTrialRequest(tuner_id="../a"), "tuner_id='../a': expected"),
            (create, service.CreateTrialRequest(), "tuner_id='': expected a worker's"),
            (worker.GetTrial, service.GetTrialRequest(trial_id="../x"), "trial_id='../x': expec"),
            (update, report(0.5, "0001"), "trial_id='0001': expected the id of a trial"),
            (update, report(0.5, name="loss"), "metrics=['loss']: expected ['val_loss']"),
            (update, service.UpdateTrialRequest(trial_id="0000"), "metrics=[]: expected"),
            (update, report(float("nan")), "val_loss=nan: expected a finite"),
            (update, report(float("-inf")), "val_loss=-inf: expected a finite"),
            (update, report(-1e9), "val_loss=-1000000000.0: the trial's result.json has 0.5"),
            (update, report(0.5, step=0), "step=0: expected an epoch from 1 to"),
            (update, report(0.5, step=10**9), "step=1000000000: expected an epoch"),
            (worker.EndTrial, end("/etc/passwd", "FAILED"), "trial_id='/etc/passwd': expected"),
            (worker.EndTrial, end("0000", "STOPPED"), "status="),
            (worker.EndTrial, end("0000", "COMPLETED"), "status=COMPLETED: expected val_loss"),
            (worker.UpdateSpace, service.UpdateSpaceRequest(), "this chief sends values"),
        ):
            status, details = refusal(method, request)
            assert (status, details[: len(text)]) == ("INVALID_ARGUMENT", text)
        # Bytes that are no message, and a message that is too large.
        token = ((chief.HEADER, (folder / chief.TOKEN).read_text()),)
        with grpc.insecure_channel(address) as channel:
            raw = channel.unary_unary("/keras_tuner.Oracle/UpdateTrial", None, None)
            assert refusal(raw, b"\xff\xff\xff", metadata=token)[0] == "INTERNAL"
            large = service.CreateTrialRequest(tuner_id="a" * (1 << 21)).SerializeToString()
            assert refusal(raw, large, metadata=token)[0] == "RESOURCE_EXHAUSTED"
        assert servicer.error is None
        assert servicer.oracle.get_state() == state
        assert files() == before
        # The search continues.
        update(report(0.5), timeout=20)
        worker.EndTrial(end("0000", "COMPLETED"), timeout=20)
        assert servicer.oracle.trials["0000"].score == 0.5
        assert create(ask, timeout=20).trial.trial_id == "0001"


def test_names_of_trials_that_are_paths_are_refused(servicer):
    for name in ("", "..", "a/b", "/etc", "a\\b", "a" * 101, "é", "0000\n"):
        with pytest.raises(TuningError, match=r"^trial_id=.*: expected letters and digits\.$"):
            servicer.tuner.task.trial_folder(name)
    assert (
        servicer.tuner.task.trial_folder("0000") == servicer.tuner.task.folder / "trials" / "0000"
    )


@pytest.mark.parametrize("lost", ["parent", "chief"])
def test_a_worker_without_a_chief_ends(lost, monkeypatch):
    class Stub:
        def GetTrial(self, request, timeout):
            if lost == "chief":
                raise Unavailable

    class Unavailable(grpc.RpcError):
        def code(self):
            return grpc.StatusCode.UNAVAILABLE

    sent = []
    monkeypatch.setattr(chief.os, "kill", lambda *arguments: sent.append(arguments))
    monkeypatch.setattr(chief, "PERIOD", 0.01)
    monkeypatch.setattr(chief, "PATIENCE", 0.05)
    parent = os.getppid() + 1 if lost == "parent" else os.getppid()
    monkeypatch.setenv(chief.PARENT, str(parent))
    tuner = SimpleNamespace(running="0000", oracle=SimpleNamespace(stub=Stub()))
    with chief._heartbeat(tuner):
        until = time.monotonic() + 10
        while not sent and time.monotonic() < until:
            time.sleep(0.01)
    assert sent == [(os.getpid(), signal.SIGTERM)]


def test_roles(monkeypatch):
    assert chief.role() == "alone"
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    with pytest.raises(ConfigError, match="KERASTUNER_TUNER_ID is not set"):
        chief.role()
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", "9999")
    for name, role in (("chief", "chief"), ("tuner0", "worker")):
        monkeypatch.setenv("KERASTUNER_TUNER_ID", name)
        assert chief.role() == role
