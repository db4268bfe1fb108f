"""Forked processes start, compute and end as new ones."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from tests.processes import Call, Forked

pytestmark = [pytest.mark.tensorflow, pytest.mark.xdist_group("processes")]


def run(*command, **options):
    """The exit status and the output of a Python command."""
    process = Forked(
        [sys.executable, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )
    output, _ = process.communicate(timeout=100)
    return process.returncode, output


def test_the_environment(tmp_path):
    """No module of the checkout is imported, and arguments, folder and streams are its own."""
    code = (
        "import os, sys; print(sys.argv, os.getcwd(), os.getpid(), os.environ['ONE'], 'TWO' in "
        "os.environ, os.getsid(0) == os.getpid(), sys.stdin.read()); "
        "print(*(n for n in sys.modules if n.partition('.')[0] in ('kerasrnn', 'tests')))"
    )
    environment = {"ONE": "1", "PATH": os.environ["PATH"]}
    process = Forked(
        [sys.executable, "-P", "-c", code, "a b", "c"],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    output, _ = process.communicate("in")
    assert process.returncode == 0
    expected = f"['-c', 'a b', 'c'] {tmp_path} {process.pid} 1 False True in\n\n"
    assert output == expected


def test_modules_and_scripts(tmp_path):
    (tmp_path / "beside.py").write_text("value = 3")
    (tmp_path / "script.py").write_text("import beside, sys; print(beside.value, sys.argv[1:])")
    assert run(tmp_path / "script.py", "x") == (0, "3 ['x']\n")
    assert run("-m", "script", "y", cwd=tmp_path) == (0, "3 ['y']\n")


@pytest.mark.parametrize(
    ("code", "status", "output"),
    [
        ("import sys; sys.exit(3)", 3, ""),
        ("import sys; sys.exit('no')", 1, "no\n"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero\n"),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL, ""),
        ("import os; os.kill(os.getpid(), 15)", -signal.SIGTERM, ""),
        ("import os; os.kill(os.getpid(), 2)", -signal.SIGINT, "KeyboardInterrupt\n"),
        ("class Stop(KeyboardInterrupt): pass\nraise Stop", 1, "Stop\n"),
        ("import atexit; atexit.register(print, 'end')", 0, "end\n"),
        ("import threading; threading.Timer(0.1, print, ['end']).start()", 0, "end\n"),
    ],
)
def test_the_end(code, status, output):
    code, found = run("-c", code)
    assert (code, found[-len(output) :] if output else found) == (status, output)


def test_a_process_that_is_killed():
    process = Forked([sys.executable, "-c", "import time; time.sleep(60)"])
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    process.kill()
    assert process.wait(60) == process.poll() == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def nested():
    """Fork a process from a forked one."""
    print(*run("-c", "print('inner')"))


def test_processes_of_processes(tmp_path):
    process = Call(tmp_path / "output.txt", nested)
    assert process.wait() == 0, process.output()
    assert process.output() == "0 inner\n\n"


COMPUTE = """
import os, sys
import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context
assert not context.context()._initialized
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
strategy = tf.distribute.MirroredStrategy()
with strategy.scope():
    weight = tf.Variable(np.arange(6.0).reshape(2, 3) / 6)

def value():
    with tf.GradientTape() as tape:
        y = tf.reduce_sum(tf.tanh(tf.matmul(weight, weight, transpose_b=True)))
    gradient = tape.gradient(y, weight)
    return tf.distribute.get_replica_context().all_reduce("SUM", gradient)

run = tf.function(lambda: strategy.run(tf.function(value)))
print(strategy.num_replicas_in_sync)
dataset = tf.data.Dataset.range(100).map(lambda n: 2 * n, num_parallel_calls=4).prefetch(2)
print(sum(int(n) for n in dataset))
compiled = tf.function(lambda x: tf.linalg.matmul(x, x), jit_compile=True)
print(compiled(tf.constant(np.eye(2) * 3))[0, 0].numpy())
np.save(sys.argv[1], strategy.experimental_local_results(run())[0])
"""


def test_tensorflow_computes(tmp_path):
    """On two devices, with the threads of a dataset, and by XLA; compared with NumPy."""
    status, output = run("-c", COMPUTE, tmp_path / "gradient.npy")
    assert status == 0, output
    assert output.splitlines()[-3:] == ["2", "9900", "9.0"]
    w = np.arange(6.0).reshape(2, 3) / 6
    inner = 1 - np.tanh(w @ w.T) ** 2
    np.testing.assert_allclose(np.load(tmp_path / "gradient.npy"), 2 * (inner + inner.T) @ w)
