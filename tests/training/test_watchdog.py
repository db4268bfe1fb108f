"""Workers that are lost."""

import socket
import subprocess
import sys
import time

import pytest

from tests.processes import Forked

pytestmark = [pytest.mark.tensorflow, pytest.mark.xdist_group("processes")]


def test_an_unreachable_worker_ends_the_others():
    """Even if they wait for it within a step."""
    with socket.create_server(("localhost", 0)) as server:
        address = f"localhost:{server.getsockname()[1]}"
        code = (
            "import time; from kerasrnn.training.watchdog import watched\n"
            f"with watched(['{address}'], patience=1.0, period=0.2):\n"
            "    print('working', flush=True); time.sleep(60)"
        )
        process = Forked(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "working\n"
        time.sleep(2.5)
        assert process.poll() is None
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert f"a worker was lost: {address} could not be reached for 1 seconds" in errors
