"""Searches: what they leave, how they end, are resumed and shared; models of one's own data."""

import contextlib
import csv
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
import keras
import keras_tuner
import numpy as np
import pytest
from keras_tuner.src import protos

from kerasrnn import recipes, zoo
from kerasrnn.__main__ import main
from kerasrnn.files import LockedError, locked
from kerasrnn.recipes import training, tuning
from kerasrnn.recipes.base import search_space as space
from kerasrnn.recipes.base.config import ConfigError
from kerasrnn.recipes.base.errors import SourceError
from kerasrnn.recipes.base.execution import Execution
from kerasrnn.recipes.command.train import _read_config
from kerasrnn.recipes.tuning import chief, hypermodels, oracles, search
from kerasrnn.recipes.tuning.results import Outcome, read_outcome, write_outcome
from kerasrnn.recipes.tuning.search import TuningError
from kerasrnn.training.errors import DivergenceError
from kerasrnn.training.loop import Loop
from kerasrnn.training.progress import Progress
from kerasrnn.training.step import TrainingModel

pytestmark = pytest.mark.tensorflow

# Two options are searched, and what belongs to the second.
FIXED = [
    "--units=4",
    "--epochs=2",
    "--cell=gru",
    "--depth=1",
    "--no-bidirectional",
    "--dropout=0.1",
]
TUNE = ["tune", "japanese_vowels", *FIXED, "--batch-size=17"]
SCRIPT = Path(__file__).with_name("tuned.py")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    # That would take most of the time; test_training.py trains with compiled loops.
    monkeypatch.setattr(TrainingModel, "compile_loops", lambda self: None)


@pytest.fixture
def there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def results(folder):
    return json.loads((Path(folder) / "results.json").read_text())["trials"]


def fits(monkeypatch, outcome):
    """In place of the training: `outcome(config)` is the validation loss of its only epoch."""
    asked = []

    def fit(recipe, config, run, data, execution, progress, placement):
        asked.append(config)
        loss = outcome(config)
        return [{"epoch": 0, "val_loss": loss, "val_accuracy": 1 - loss, "seconds": 0.1}]

    monkeypatch.setattr(training, "fit", fit)
    monkeypatch.setattr(keras.utils, "clear_session", lambda: None)  # there is nothing to clear
    return asked


def test_a_search_and_what_it_leaves(recipe, there, capsys):
    assert main([*TUNE, "--trials=2", "--output=found", "--progress=lines"]) == 0
    printed = capsys.readouterr().out
    trials = results("found")
    assert [trial["status"] for trial in trials] == ["completed"] * 2
    losses = [trial["value"] for trial in trials]
    assert losses == sorted(losses)
    for trial in trials:
        folder = there / "found" / "trials" / trial["trial"]
        with (folder / "log.csv").open(newline="") as file:
            log = list(csv.DictReader(file))
        assert float(log[-1]["val_loss"]) == trial["value"]
        assert trial["epoch"] == trial["epochs"] == len(log) == 2
        config = json.loads((folder / "config.json").read_text())["config"]
        assert config["validation"] == search.HELD_OUT
        assert {name: config[name] for name in trial["values"]} == trial["values"]
        assert not (folder / "checkpoint").exists()
        assert not (folder / "model.keras").exists()
        assert not (folder / "metrics.json").exists()  # the test data has not been looked at
    defaults = next(trial for trial in trials if trial["trial"] == "0000")["values"]
    assert defaults == {"learning_rate": 3e-3, "clipping": "global_norm", "clip_at": 1.0}

    with (there / "found" / "results.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [float(row["val_loss"]) for row in table] == losses
    assert [row["trial"] for row in table] == [trial["trial"] for trial in trials]
    shown = re.findall(r"^(\d{4})   (\d\.\d{4}) +2/2 ", printed, re.MULTILINE)
    assert shown == [(trial["trial"], f"{trial['value']:.4f}") for trial in trials]
    picture = there / "found" / "hyperparameters.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert f"picture: {Path('found') / picture.name}" in printed

    best = json.loads((there / "found" / "best.json").read_text())
    trained = json.loads((there / "found/trials" / trials[0]["trial"] / "config.json").read_text())
    # In the end all of the training data is trained on.
    assert best["config"] == {**trained["config"], "validation": 0.0}
    assert (
        main(["train", "japanese_vowels", "--config=found/best.json", "--output=run", "--epochs=1"])
        == 0
    )
    said = json.loads((there / "run" / "config.json").read_text())
    assert said["config"] == {**best["config"], "epochs": 1}
    assert _read_config(recipe, there / "run" / "config.json") == said["config"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "best.json: expected JSON"),
        ("[]", "best.json: expected a search's best.json or a run's config.json"),
        ('{"recipe": "japanese_vowels"}', "expected a search's best.json or a run's config.json"),
        ('{"recipe": "g2p", "config": {}}', "belongs to the recipe g2p; expected japanese_vowels"),
        (
            '{"recipe": "japanese_vowels", "config": {"unit": 3}}',
            "best.json: option 'unit' does not exist; expected one of: epochs, ",
        ),
        (
            '{"recipe": "japanese_vowels", "config": {"units": "3"}}',
            "best.json: units='3': expected an integer, at least 1",
        ),
    ],
)
def test_files_that_are_no_configuration(text, message, recipe, there, capsys):
    Path("best.json").write_text(text)
    assert main(["train", "japanese_vowels", "--config=best.json", "--output=run"]) == 1
    assert message in capsys.readouterr().err
    assert not Path("run").exists()


def test_a_file_that_is_missing_and_one_too_many(recipe, there, capsys):
    assert main(["train", "japanese_vowels", "--config=none.json"]) == 1
    assert "--config none.json cannot be read: No such file or directory" in capsys.readouterr().err
    options = ["--config=none.json", "--resume", "--output=run"]
    assert main(["train", "japanese_vowels", *options]) == 1
    assert "--config: a resumed run keeps its configuration" in capsys.readouterr().err


def test_failed_trials_are_listed_and_not_fatal(recipe, there, capsys, monkeypatch):
    asked = []

    def loss(config):
        asked.append(config)
        if len(asked) == 1:
            raise DivergenceError("the loss is not finite")
        if len(asked) == 2:
            raise MemoryError
        return float("nan") if len(asked) == 3 else 0.5

    fits(monkeypatch, loss)
    assert main([*TUNE, "--trials=4", "--output=found"]) == 0
    printed = capsys.readouterr().out
    assert [trial["status"] for trial in results("found")] == ["completed"] + ["failed"] * 3
    lines = printed.splitlines()
    assert "0000  failed: DivergenceError: the loss is not finite (learning_rate 0.003, " in printed
    assert any(line.startswith("0001  failed: MemoryError (") for line in lines)
    assert any("0002  failed: TrialFailedError: val_loss is nan in epoch 1" in x for x in lines)
    error = there / "found" / "trials" / "0000" / "error.txt"
    assert "Traceback" in error.read_text()
    assert json.loads((there / "found" / "best.json").read_text())["found"]["trial"] == "0003"


def test_a_search_in_which_everything_fails_ends(recipe, there, capsys, monkeypatch):
    def loss(config):
        raise ValueError("no such thing")

    asked = fits(monkeypatch, loss)
    assert main([*TUNE, "--trials=20", "--output=found"]) == 1
    assert len(asked) == oracles.HOPELESS
    assert "none of 5 trials succeeded; the last failed with: ValueError: no such thing" in (
        capsys.readouterr().err
    )


def test_what_would_fail_every_trial_ends_the_search(recipe, there, capsys, monkeypatch):
    def loss(config):
        raise SourceError("the archive is gone")

    asked = fits(monkeypatch, loss)
    assert main([*TUNE, "--output=found"]) == 1
    assert len(asked) == 1
    assert "kerasrnn: the archive is gone" in capsys.readouterr().err
    asked = fits(monkeypatch, lambda config: 0.1)
    assert main([*TUNE, "--output=found", "--resume", "--trials=2"]) == 0
    assert len(asked) == 2  # it was not the trial's fault
    assert [trial["status"] for trial in results("found")] == ["completed"] * 2


def test_a_budget_in_minutes(recipe, there, monkeypatch):
    now = [0.0]

    def loss(config):
        now[0] += 25.0
        return 0.5

    asked = fits(monkeypatch, loss)
    monkeypatch.setattr(oracles.time, "monotonic", lambda: now[0])
    assert main([*TUNE, "--minutes=1", "--output=found"]) == 0
    assert len(asked) == 3  # begun after 0, 25 and 50 seconds
    assert main([*TUNE, "--minutes=1", "--trials=2", "--output=two"]) == 0
    assert len(asked) == 5


@pytest.mark.parametrize("algorithm", ["random", "bayesian"])
def test_the_best_is_found(algorithm, recipe, there, monkeypatch):
    """Of a loss that is lowest at a learning rate of 0.01: better than the default's."""

    def loss(config):
        return abs(np.log10(config.learning_rate) + 2) + 0.1 * (config.clipping == "none")

    asked = fits(monkeypatch, loss)
    options = [f"--algorithm={algorithm}", "--trials=9", "--output=found"]
    assert main([*TUNE, *options]) == 0
    best = json.loads(Path("found/best.json").read_text())
    assert best["found"]["val_loss"] == min(map(loss, asked)) < 0.2 < loss(asked[0])
    assert best["config"]["learning_rate"] == min(asked, key=loss).learning_rate
    assert len(set(asked)) == 9
    assert all(3e-4 <= config.learning_rate <= 3e-2 for config in asked)


def test_hyperband_trains_the_best_for_longer(recipe, there, monkeypatch):
    asked = fits(
        monkeypatch, lambda config: abs(np.log10(config.learning_rate) + 2) / config.epochs
    )
    options = ["--epochs=9", "--algorithm=hyperband", "--output=found"]
    assert main([*TUNE, *options]) == 0
    trained = [config.epochs for config in asked]
    # Li et al.'s brackets, of nine epochs and a third of the trials each time.
    assert {n: trained.count(n) for n in (1, 3, 9)} == {1: 9, 3: 3 + 5, 9: 1 + 2 + 3}
    best = json.loads(Path("found/best.json").read_text())["config"]
    assert best["epochs"] == 9
    short = asked[:9]
    longer = [config.learning_rate for config in asked if config.epochs == 3][:3]
    ranked = sorted(short, key=lambda config: abs(np.log10(config.learning_rate) + 2))
    assert longer == [config.learning_rate for config in ranked[:3]]


def test_another_measure(recipe, there, monkeypatch):
    fits(monkeypatch, lambda config: config.learning_rate)
    assert main([*TUNE, "--objective=val_accuracy", "--trials=4", "--output=found"]) == 0
    values = [trial["value"] for trial in results("found")]
    assert values == sorted(values, reverse=True)


def test_the_epoch_that_is_measured():
    rows = [
        {"epoch": n, "val_loss": loss, "val_accuracy": accuracy}
        for n, (loss, accuracy) in enumerate([(float("nan"), 0.1), (0.3, 0.6), (0.4, 0.8)])
    ]
    assert tuning.measured(rows, "val_loss", "last") == (0.4, 3)
    assert tuning.measured(rows, "val_loss", "best") == (0.3, 2)
    assert tuning.measured(rows, "val_accuracy", "best") == (0.6, 2)
    with pytest.raises(tuning.TrialFailedError, match="val_loss is nan in epoch 1"):
        tuning.measured(rows[:1], "val_loss", "best")


def test_an_interrupted_search_goes_on(recipe, there, capsys, monkeypatch):
    """Where its training stopped, with the values that it had, and for as long as it is asked."""
    original = Loop.train

    def until(self, batches, steps):
        os.kill(os.getpid(), signal.SIGTERM)
        return original(self, batches, steps)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "train", until)
        assert main([*TUNE, "--trials=1", "--search-seed=3", "--output=found"]) == 143
    message = (
        "stopped with 0 trials done; resume with: kerasrnn tune japanese_vowels --resume --out"
    )
    assert message in capsys.readouterr().err
    (before,) = results("found")
    assert before["status"] == "running"
    assert not (there / "found" / "best.json").exists()
    assert main(["tune", "japanese_vowels", "--resume", "--output=found"]) == 0
    (after,) = results("found")
    assert (after["status"], after["values"]) == ("completed", before["values"])
    sessions = (there / "found/trials/0000/sessions.jsonl").read_text().splitlines()
    assert [json.loads(line)["ended"][:11] for line in sessions] == ["Interrupted", "finished"]
    asked = fits(monkeypatch, lambda config: 9.0)
    assert main(["tune", "japanese_vowels", "--resume", "--output=found", "--trials=3"]) == 0
    assert len(asked) == 2
    assert [trial["trial"] for trial in results("found")] == ["0000", "0001", "0002"]


@contextlib.contextmanager
def started(*options, **environment):
    process = subprocess.Popen(
        [sys.executable, "-P", str(SCRIPT), *TUNE, "--progress=lines", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "default", **environment},
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
def test_a_killed_search_goes_on(recipe, there):
    """The trial that was done is not repeated; the one that was cut off is taken up."""
    output = f"--output={there / 'found'}"
    with started("--trials=2", output, SECONDS_A_STEP="0.15") as process:
        wait_for((there / "found/trials/0001/checkpoint/index.json").exists, process)
    assert not (there / "found/trials/0001/result.json").exists()
    first = (there / "found/trials/0000/result.json").stat().st_mtime_ns
    assert main(["tune", "japanese_vowels", "--resume", "--output=found"]) == 0
    assert [trial["status"] for trial in results("found")] == ["completed"] * 2
    assert (there / "found/trials/0000/result.json").stat().st_mtime_ns == first
    sessions = (there / "found/trials/0001/sessions.jsonl").read_text().splitlines()
    assert [json.loads(line).get("ended") for line in sessions] == [None, "finished"]


@pytest.mark.slow
def test_two_workers_one_of_which_is_killed(there):
    """Side by side, over keras-tuner's protocol; what a lost one had is done by another."""
    found = there / "found"
    output = f"--output={found}"
    with started("--trials=2", "--workers=2", output, SECONDS_A_STEP="0.2") as process:
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
def desk(recipe, there):
    search = tuning.Search.create(
        recipe, there / "found", {"units": 4}, tuning.SearchOptions(trials=2), Execution(), None
    )
    return chief._Servicer(tuning.Tuner(search, search.options, None, Progress()))


def handed_out(desk, worker):
    service = protos.get_service()
    return desk.CreateTrial(service.CreateTrialRequest(tuner_id=worker), None).trial


def ended(desk, name, status):
    service, proto = protos.get_service(), protos.get_proto()
    request = service.EndTrialRequest(trial=proto.Trial(trial_id=name, status=status))
    desk.EndTrial(request, None)


def test_a_worker_that_is_not_heard_of_loses_its_trial(desk, monkeypatch):
    first, second = handed_out(desk, "a"), handed_out(desk, "b")
    assert (first.trial_id, second.trial_id) == ("0000", "0001")
    assert not handed_out(desk, "c").trial_id or desk.stop_triggered  # there are two
    now = time.monotonic() + chief.PATIENCE + 1
    monkeypatch.setattr(chief.time, "monotonic", lambda: now)
    desk.GetTrial(protos.get_service().GetTrialRequest(trial_id="0001"), None)  # b's heartbeat
    desk.withdraw_silent()
    assert set(desk.oracle.ongoing_trials) == {"b"}
    again = handed_out(desk, "c")
    assert again.trial_id == "0000"
    assert again.hyperparameters == first.hyperparameters
    assert not desk.is_done()

    ended(desk, "0000", "FAILED")
    ended(desk, "0000", "COMPLETED")  # by worker a, which had only been slow
    assert desk.oracle.trials["0000"].status == "FAILED"
    assert desk.oracle.end_order == ["0000"]
    assert desk.withdraw("b", "signal 9")
    assert not desk.withdraw("b", "signal 9")  # it has none any more
    assert handed_out(desk, "d").trial_id == "0001"
    assert desk.withdraw("d", "signal 9")
    failed = read_outcome(desk.tuner.task.trial_folder("0001"))
    assert failed.reason == "its process was lost twice: signal 9"
    assert handed_out(desk, "c").status == protos.get_proto().STOPPED
    assert desk.oracle.ongoing_trials == {}


def test_what_a_chief_knew_is_on_the_disk(desk):
    """A trial that has ended is not handed out again after the chief was killed."""
    handed_out(desk, "a")
    handed_out(desk, "b")
    desk.oracle.update_trial("0000", {"val_loss": 0.5})
    ended(desk, "0000", "COMPLETED")
    search = desk.tuner.task
    tuner = tuning.Tuner(search, search.options, None, Progress())
    assert tuner.own_oracle.ongoing_trials == {}
    assert tuner.own_oracle.trials["0000"].score == 0.5
    assert [tuner.own_oracle.create_trial("c").trial_id for _ in range(2)] == ["0001", "0001"]
    assert tuner.own_oracle.create_trial("d").status == "STOPPED"


@contextlib.contextmanager
def listening(desk):
    """A chief that listens; its address."""
    server, port = chief.server(desk, "127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None)


def refusal(method, request, **options):
    """The status and the words with which a message is refused."""
    with pytest.raises(grpc.RpcError) as error:
        method(request, timeout=20, **options)
    return error.value.code().name, error.value.details()


def test_who_has_no_token_is_not_answered(desk):
    """Another user of the machine, who finds the port: the token is the owner's to read."""
    service, folder = protos.get_service(), desk.tuner.task.folder
    ask = service.CreateTrialRequest(tuner_id="a")
    with listening(desk) as address, grpc.insecure_channel(address) as channel:
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
        assert desk.oracle.trials == {}
        # A worker that has read the token of a chief before, or none, reads the new one.
        read, seen = chief._Bearer._token, []

        def late(self):
            seen.append(read(self) if seen else "of another")
            return seen[-1]

        worker = chief.stub(address, folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(chief._Bearer, "_token", late)
            assert worker.CreateTrial(ask, timeout=20).trial.trial_id == "0000"
        assert seen == ["of another", token, token]


def test_a_bad_message_is_refused_and_changes_nothing(desk):
    service, proto = protos.get_service(), protos.get_proto()
    folder = desk.tuner.task.folder
    ask = service.CreateTrialRequest(tuner_id="a")

    def report(value, trial="0000", step=1, name="val_loss"):
        return service.UpdateTrialRequest(trial_id=trial, metrics={name: value}, step=step)

    def end(trial, status):
        return service.EndTrialRequest(trial=proto.Trial(trial_id=trial, status=status))

    def files():
        return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    with listening(desk) as address:
        worker = chief.stub(address, folder)
        create, update = worker.CreateTrial, worker.UpdateTrial
        assert create(ask, timeout=20).trial.trial_id == "0000"
        write_outcome(desk.tuner.task.trial_folder("0000"), Outcome("0000", "completed", {}, 0.5))
        before, state = files(), desk.oracle.get_state()
        for method, request, words in (
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
            status, said = refusal(method, request)
            assert (status, said[: len(words)]) == ("INVALID_ARGUMENT", words)
        # What is no message at all, and what is larger than any.
        token = ((chief.HEADER, (folder / chief.TOKEN).read_text()),)
        with grpc.insecure_channel(address) as channel:
            raw = channel.unary_unary("/keras_tuner.Oracle/UpdateTrial", None, None)
            assert refusal(raw, b"\xff\xff\xff", metadata=token)[0] == "INTERNAL"
            large = service.CreateTrialRequest(tuner_id="a" * (1 << 21)).SerializeToString()
            assert refusal(raw, large, metadata=token)[0] == "RESOURCE_EXHAUSTED"
        assert desk.error is None
        assert desk.oracle.get_state() == state
        assert files() == before
        # And the search goes on.
        update(report(0.5), timeout=20)
        worker.EndTrial(end("0000", "COMPLETED"), timeout=20)
        assert desk.oracle.trials["0000"].score == 0.5
        assert create(ask, timeout=20).trial.trial_id == "0001"


def test_a_trials_name_is_no_path(desk):
    for name in ("", "..", "a/b", "/etc", "a\\b", "a" * 101, "é", "0000\n"):
        with pytest.raises(TuningError, match=r"^trial_id=.*: expected letters and digits\.$"):
            desk.tuner.task.trial_folder(name)
    assert desk.tuner.task.trial_folder("0000") == desk.tuner.task.folder / "trials" / "0000"


def test_a_search_that_goes_on_elsewhere(recipe, there):
    tuning.Search.create(
        recipe, there / "found", {}, tuning.SearchOptions(trials=2), Execution(), None
    )
    before = sorted((there / "found").rglob("*"))
    with locked(there / "found", "searching"), pytest.raises(LockedError) as error:
        tuning.tune(recipe, there / "found", resume=True)
    assert str(error.value).startswith(f"{there / 'found'} is in use: searching by process ")
    assert sorted((there / "found").rglob("*")) == before


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


def test_what_is_refused(recipe, there, capsys):
    for options, message in (
        (["--trials=0"], "trials=0: expected at least 1, or a budget of minutes"),
        (["--objective=val_bleu"], "objective='val_bleu': expected one of val_loss, val_accuracy"),
        (
            ["--learning-rate=0.1", "--clipping=none"],
            "all options of the search space are fixed",
        ),
        (["--clipping=none", "--clip-at=2"], "clip_at=2.0: expected 1.0"),
        (["--batch-size=53"], "batch_size=53: expected at most the 51"),
        (["--strategy=multiworker"], "strategy='multiworker': expected another"),
        (["--resume"], "--resume: expected the search's folder in --output"),
        (["--resume", "--output=nowhere"], "nowhere is not a search's folder"),
    ):
        assert main([*TUNE, *options]) == 1
        assert message in capsys.readouterr().err
    assert not list(there.iterdir())


def test_a_search_is_resumed_as_it_was_started(recipe, there, capsys, monkeypatch):
    fits(monkeypatch, lambda config: 0.5)
    assert main([*TUNE, "--trials=1", "--output=found"]) == 0
    assert main([*TUNE, "--output=found"]) == 1
    assert "found is not empty" in capsys.readouterr().err
    resume = ["tune", "japanese_vowels", "--resume", "--output=found"]
    for option, message in (
        ("--units=5", "units=5: the search in found has 4"),
        ("--seed=5", "seed=5: the search in found has no fixed value"),
        ("--algorithm=bayesian", "algorithm=bayesian: the search in found has random"),
    ):
        assert main([*resume, option]) == 1
        assert message in capsys.readouterr().err
    assert main(["tune", "reverse", "--resume", "--output=found"]) == 1
    assert "is not a search of the recipe reverse" in capsys.readouterr().err
    (there / "found" / "search.json").write_text('{"recipe": "japanese_vowels"}')
    assert main(resume) == 1
    assert "search.json is damaged" in capsys.readouterr().err


def test_help_shows_the_space(capsys):
    with pytest.raises(SystemExit) as exit:
        main(["tune", "japanese_vowels", "--help"])
    assert exit.value.code == 0
    printed = capsys.readouterr().out
    for text in ("--minutes", "--clip-at", "units             16 to 256, times 2", "yes or no"):
        assert text in printed


def test_roles(monkeypatch):
    assert chief.role() == "alone"
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    with pytest.raises(ConfigError, match="KERASTUNER_TUNER_ID is not set"):
        chief.role()
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", "9999")
    for name, role in (("chief", "chief"), ("tuner0", "worker")):
        monkeypatch.setenv("KERASTUNER_TUNER_ID", name)
        assert chief.role() == role


# Models of one's own data.


def test_stacks_return_sequences_where_the_next_layer_reads_them():
    for topology, pooling, last in (
        ("many_to_one", "last", False),
        ("many_to_one", "max", True),
        ("many_to_many", None, True),
    ):
        fixed = {"pooling": pooling} if pooling else {}
        model = recipes.hypermodel(
            zoo.Tokens(20, 4), zoo.Classes(3), topology, cell="gru", units=4, depth=3, **fixed
        ).build(keras_tuner.HyperParameters())
        returned = [layer.return_sequences for layer in model.get_layer("recurrent").layers]
        assert returned == [True, True, last]
        expected = (None, None, 3) if topology == "many_to_many" else (None, 3)
        assert model.output_shape == expected


def test_every_value_makes_a_model():
    for topology in hypermodels.TOPOLOGIES:
        made = recipes.hypermodel(
            zoo.Vectors(2), zoo.MultiLabel(3), topology, units=space.powers(2, 4)
        )
        hyperparameters = keras_tuner.HyperParameters()
        made.build(hyperparameters)
        names = {hp.name for hp in hyperparameters.space}
        searched = {"cell", "units", "depth", "bidirectional", "dropout", "learning_rate"}
        searched |= {"clipping", "clip_at"} | ({"pooling"} if topology == "many_to_one" else set())
        assert names == searched
        hyperparameters.values |= {"units": 4, "depth": 2, "bidirectional": True}
        model = made.build(hyperparameters)
        assert model.get_layer("recurrent").layers[0].forward_layer.units == 4
        assert model.optimizer.global_clipnorm == pytest.approx(0.1)
        hyperparameters.values["clipping"] = "none"
        assert made.build(hyperparameters).optimizer.global_clipnorm is None


def test_a_tuner_searches_them(there):
    random = np.random.default_rng(0)
    x = random.standard_normal((32, 5, 2)).astype("float32")
    y = x.sum(axis=(1, 2), keepdims=False)[:, None]
    fixed = {
        "cell": "simple_rnn",
        "units": 2,
        "depth": 1,
        "bidirectional": False,
        "pooling": "last",
    }
    made = recipes.hypermodel(zoo.Vectors(2), zoo.Values(1), clipping="value", **fixed)
    tuner = keras_tuner.RandomSearch(
        made, objective="val_loss", max_trials=1, seed=1, directory=there, project_name="mine"
    )
    tuner.search(x, y, validation_data=(x, y), epochs=1, verbose=0)
    best = tuner.get_best_hyperparameters()[0].values
    assert set(best) == {"dropout", "learning_rate", "clip_at"}
    assert made.build(tuner.get_best_hyperparameters()[0]).optimizer.clipvalue == pytest.approx(
        best["clip_at"], rel=0.01
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"topology": "one_to_one"}, "topology='one_to_one': expected one of many_to_one, many"),
        ({"width": 3}, "width: expected names among cell, units, depth, "),
        ({"topology": "many_to_many", "pooling": "max"}, "pooling: expected names among cell, "),
    ],
)
def test_unknown_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        recipes.hypermodel(zoo.Vectors(2), zoo.Classes(2), **arguments)


def test_without_keras_tuner(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_tuner", None)
    with pytest.raises(ModuleNotFoundError, match="needs keras-tuner; install it with"):
        recipes.hypermodel(zoo.Vectors(2), zoo.Classes(2))
