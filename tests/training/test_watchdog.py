"""Workers that are lost."""

import socket
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.tensorflow


def test_a_worker_that_does_not_answer_ends_the_others():
    """Also when they wait for it in the midst of a step."""
    with socket.create_server(("localhost", 0)) as server:
        address = f"localhost:{server.getsockname()[1]}"
        code = (
            "import time; from kerasrnn.training.watchdog import watched\n"
            f"with watched(['{address}'], patience=1.0, period=0.2):\n"
            "    print('working', flush=True); time.sleep(60)"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "working\n"
        time.sleep(2.5)
        assert process.poll() is None
    _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert f"a worker was lost: {address} could not be reached for 1 seconds" in said
