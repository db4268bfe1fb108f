"""Trainings on several devices or workers, or in parts, have the same results."""

import contextlib
import json
import os
import signal
import socket
import time

import numpy as np
import pytest

from kerasrnn.__main__ import main
from kerasrnn.recipes.base.execution import Execution
from kerasrnn.recipes.base.runs import Run
from kerasrnn.recipes.training import train
from kerasrnn.training import watchdog
from tests.processes import Call
from tests.recipes import made_up
from tests.recipes.training import cluster
from tests.recipes.training.cluster import Plan
from tests.recipes.training.compared import arrays_of, log_of

pytestmark = [pytest.mark.tensorflow, pytest.mark.xdist_group("processes")]

ROUNDING = 1e-6
"""Rounding errors of sums in another order; weights and their steps are about 1."""


def assert_same_training(one, other):
    """Weights, the optimizer's state and the logs of both."""
    expected, found = arrays_of(one), arrays_of(other)
    assert expected.keys() == found.keys()
    for key, values in expected.items():
        np.testing.assert_allclose(found[key], values, rtol=ROUNDING, atol=ROUNDING, err_msg=key)
    for a, b in zip(log_of(one), log_of(other), strict=True):
        for name, value in a.items():
            assert float(b[name]) == pytest.approx(float(value), abs=1e-5), name


def trained(folder, function, *arguments):
    """Train in a separate process, by a function of `cluster`."""
    process = Call(folder / "output.txt", function, folder, *arguments)
    assert process.wait() == 0, process.output()


@pytest.fixture(scope="module")
def devices(tmp_path_factory):
    """The folder of trainings on one device, and on two."""
    folder = tmp_path_factory.mktemp("devices")
    trained(folder, cluster.main, *(Plan("recurrent", name) for name in ("one", "mirrored")))
    return folder


def test_two_devices(devices):
    """Masked sequences, compiled loops, a validation set that cannot be split evenly."""
    assert_same_training(devices / "recurrent-one", devices / "recurrent-mirrored")


def test_a_mean_over_tokens_is_that_of_the_whole_batch(tmp_path):
    """Two devices with two parts each, of different numbers of tokens, with clipping."""
    split = Plan("tokens", "mirrored", accumulate=2, steps_per_execution=3)
    trained(tmp_path, cluster.main, Plan("tokens", "one"), split)
    assert_same_training(tmp_path / "tokens-one", tmp_path / "tokens-mirrored")


def test_deterministic_trainings_are_the_same(tmp_path):
    plan = Plan("light", "one", deterministic=True)
    trained(tmp_path, cluster.twice, *plan)
    folders = [tmp_path / str(number) / plan.folder for number in range(2)]
    assert all(Run(folder).execution().deterministic for folder in folders)
    first, second = map(arrays_of, folders)
    for key, values in first.items():
        np.testing.assert_array_equal(second[key], values, err_msg=key)


class Workers:
    """Two workers on this machine."""

    plan = Plan("light", "multiworker")

    def __init__(self, folder, seconds_a_step=0.0):
        with contextlib.ExitStack() as stack:
            free = [stack.enter_context(socket.create_server(("localhost", 0))) for _ in range(2)]
            addresses = [f"localhost:{place.getsockname()[1]}" for place in free]
        self.processes = []
        for index in range(2):
            task = {"type": "worker", "index": index}
            config = json.dumps({"cluster": {"worker": addresses}, "task": task})
            log = folder / f"worker{index}.txt"
            environment = {"TF_CONFIG": config, "SECONDS_A_STEP": str(seconds_a_step)}
            process = Call(log, cluster.main, folder, self.plan, environment=environment)
            self.processes.append(process)

    def wait(self):
        """The exit status and the output of each."""
        codes = [process.wait() for process in self.processes]
        return codes, self.outputs()

    def outputs(self):
        return [process.output() for process in self.processes]


@pytest.mark.slow
def test_two_workers(tmp_path):
    """One is stopped, and the other stops after the same step; one is killed; both finish."""
    trained(tmp_path, cluster.main, Plan("light", "one"))
    place = tmp_path / Workers.plan.folder
    for index, number in ((1, signal.SIGTERM), (1, signal.SIGKILL)):
        workers = Workers(tmp_path, seconds_a_step=0.5)  # the signal arrives before the last step
        before = _position(place)
        while _position(place) == before:
            assert all(process.poll() is None for process in workers.processes), workers.outputs()
            time.sleep(0.05)
        os.kill(workers.processes[index].pid, number)
        since = time.monotonic()
        codes, outputs = workers.wait()
        if number == signal.SIGTERM:
            assert codes == [1, 1]
            assert "Interrupted: stopped in epoch" in outputs[0]
            assert "Interrupted: stopped in epoch" in outputs[1]
        else:
            assert codes == [1, -signal.SIGKILL]
            assert "ExecutionError: a worker was lost" in outputs[0]
            assert time.monotonic() - since < 2 * watchdog.PATIENCE
    codes, outputs = Workers(tmp_path).wait()
    assert codes == [0, 0], outputs
    assert_same_training(tmp_path / "light-one", place)


def _position(place):
    with contextlib.suppress(FileNotFoundError):
        index = json.loads((place / "checkpoint" / "index.json").read_text())
        return index["epoch"], index["step"]
    return None


@pytest.mark.usefixtures("recipe")
def test_indivisible_batches_are_refused(tmp_path, capsys, monkeypatch):
    message = "batch_size=30: expected a multiple of 4: devices=1 times accumulate=4"
    monkeypatch.chdir(tmp_path)
    assert main(["train", "japanese_vowels", "--accumulate", "4"]) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_half_precision(light, tmp_path):
    """Training learns as in float32, and the kept model is one of float32."""
    config = made_up.small(learning_rate=0.1, dropout=0.0, epochs=3)
    losses = {}
    for name in ("float32", "bfloat16", "float16"):
        run = Run.create(light, config, tmp_path / name)
        train(light, config, run, light.load(None), Execution("one", name))
        losses[name] = [float(row["loss"]) for row in log_of(run.folder)]
        assert {layer.compute_dtype for layer in run.load_model().layers} == {"float32"}
    for name in ("bfloat16", "float16"):
        assert losses[name] != losses["float32"]
        assert losses[name] == pytest.approx(losses["float32"], rel=0.02)
    assert losses["float32"][-1] < 0.5 * losses["float32"][0]
