"""Many devices, many workers, parts of batches: the same weights."""

import contextlib
import functools
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
from kerasrnn.training.step import TrainingModel
from tests.recipes import made_up
from tests.recipes.training import cluster
from tests.recipes.training.test_survival import arrays_of, log_of
from tests.training.forked import Forked

pytestmark = pytest.mark.tensorflow

ROUNDING = 1e-6
"""Of sums that are added up in another order; weights and their steps are about 1."""


def assert_same_training(one, other):
    """Weights, the optimizer's state and the logs of both."""
    expected, found = arrays_of(one), arrays_of(other)
    assert expected.keys() == found.keys()
    for key, values in expected.items():
        np.testing.assert_allclose(found[key], values, rtol=ROUNDING, atol=ROUNDING, err_msg=key)
    for a, b in zip(log_of(one), log_of(other), strict=True):
        for name, value in a.items():
            assert float(b[name]) == pytest.approx(float(value), abs=1e-5), name


def trained(folder, *arguments):
    """By `cluster.main`, in a process of its own."""
    folder.mkdir(exist_ok=True)
    process = Forked(folder / "said.txt", *arguments)
    assert process.wait() == 0, process.said()


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A training on one device, and the same on two."""
    folder = tmp_path_factory.mktemp("devices")
    trained(folder, cluster.main, folder, "japanese_vowels", "one:1:1", "mirrored:1:1")
    return folder


@pytest.mark.slow
@pytest.mark.xdist_group("devices")
def test_two_devices(alone):
    """Masked sequences, compiled loops, a validation set that cannot be split evenly."""
    one, two = (alone / f"japanese_vowels-{plan}-1-1" for plan in ("one", "mirrored"))
    assert_same_training(one, two)


@pytest.mark.slow
def test_a_mean_over_tokens_is_that_of_the_whole_batch(tmp_path):
    """Shares of different numbers of tokens, two devices with two parts each, clipped together."""
    name = "word_segmentation"
    trained(tmp_path, cluster.main, tmp_path, name, "one:1:1", "mirrored:2:3")
    assert_same_training(tmp_path / f"{name}-one-1-1", tmp_path / f"{name}-mirrored-2-3")


@pytest.mark.slow
def test_deterministic_trainings_are_the_same(tmp_path):
    arrays = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        train = functools.partial(cluster.main, deterministic=True, cell="simple_rnn")
        trained(folder, train, folder, "japanese_vowels", "one:1:1")
        place = folder / "japanese_vowels-one-1-1"
        assert Run(place).execution().deterministic
        arrays.append(arrays_of(place))
    for key, values in arrays[0].items():
        np.testing.assert_array_equal(arrays[1][key], values, err_msg=key)


class Workers:
    """Two workers on this machine."""

    def __init__(self, folder):
        with contextlib.ExitStack() as stack:
            free = [stack.enter_context(socket.create_server(("localhost", 0))) for _ in range(2)]
            addresses = [f"localhost:{place.getsockname()[1]}" for place in free]
        self.processes = []
        for index in range(2):
            task = {"type": "worker", "index": index}
            config = json.dumps({"cluster": {"worker": addresses}, "task": task})
            arguments = (folder, "japanese_vowels", "multiworker:1:1")
            log = folder / f"worker{index}.txt"
            self.processes.append(Forked(log, cluster.main, *arguments, TF_CONFIG=config))

    def wait(self):
        """The exit status of both, and what they said."""
        codes = [process.wait() for process in self.processes]
        return codes, self.said()

    def said(self):
        return [process.said() for process in self.processes]


@pytest.mark.slow
@pytest.mark.xdist_group("devices")
def test_two_workers(alone, tmp_path):
    """One stops, and with it the other, after the same step; then one is lost; then both end."""
    place = tmp_path / "japanese_vowels-multiworker-1-1"
    for index, number in ((1, signal.SIGTERM), (1, signal.SIGKILL)):
        workers = Workers(tmp_path)
        before = _position(place)
        while _position(place) == before:
            assert all(process.poll() is None for process in workers.processes), workers.said()
            time.sleep(0.05)
        os.kill(workers.processes[index].pid, number)
        since = time.monotonic()
        codes, said = workers.wait()
        if number == signal.SIGTERM:
            assert codes == [1, 1]
            assert "Interrupted: stopped in epoch" in said[0]
            assert "Interrupted: stopped in epoch" in said[1]
        else:
            assert codes == [1, -signal.SIGKILL]
            assert "ExecutionError: a worker was lost" in said[0]
            assert time.monotonic() - since < 2 * watchdog.PATIENCE
    codes, said = Workers(tmp_path).wait()
    assert codes == [0, 0], said
    assert_same_training(alone / "japanese_vowels-one-1-1", place)


def _position(place):
    with contextlib.suppress(FileNotFoundError):
        index = json.loads((place / "checkpoint" / "index.json").read_text())
        return index["epoch"], index["step"]
    return None


def test_batches_that_cannot_be_split(recipe, tmp_path, capsys, monkeypatch):
    message = "batch_size=30: expected a multiple of 4: devices=1 times accumulate=4"
    monkeypatch.chdir(tmp_path)
    assert main(["train", "japanese_vowels", "--accumulate", "4"]) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_half_precision(recipe, tmp_path, monkeypatch):
    """Learns as float32 does; and what is kept is a model of float32."""
    monkeypatch.setattr(TrainingModel, "compile_loops", lambda self: None)
    config = made_up.small(cell="gru", learning_rate=0.03, dropout=0.0, epochs=3)
    losses = {}
    for name in ("float32", "bfloat16", "float16"):
        run = Run.create(recipe, config, tmp_path / name)
        train(recipe, config, run, recipe.load(None), Execution("one", name))
        losses[name] = [float(row["loss"]) for row in log_of(run.folder)]
        assert {layer.compute_dtype for layer in run.load_model().layers} == {"float32"}
    for name in ("bfloat16", "float16"):
        assert losses[name] != losses["float32"]
        assert losses[name] == pytest.approx(losses["float32"], rel=0.02)
    assert losses["float32"][-1] < 0.5 * losses["float32"][0]
