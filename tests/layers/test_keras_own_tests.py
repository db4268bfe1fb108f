"""Keras's own tests of its recurrent layers, run on the layers of kerasrnn.

Only if the wheel of Keras contains them, as that of 3.15 does.
"""

import importlib
import sys
import unittest
from pathlib import Path

import keras
import pytest

import kerasrnn
from tests.measure import op_by_op

pytestmark = pytest.mark.tensorflow

LAYERS = sys.modules[keras.layers.RNN.__module__.rpartition(".rnn.")[0]]
FILES = "bidirectional dropout_rnn_cell gru lstm rnn simple_rnn stacked_rnn_cells time_distributed"
OURS = "RNN LSTM LSTMCell GRU GRUCell SimpleRNN SimpleRNNCell"

# They ask whether Keras's `Bidirectional` runs both directions in one call of the backend, which it
# does for Keras's own classes only. With these layers each direction is a call, also in cuDNN.
FUSED = {"test_fused_lstm_eligibility", "test_fused_gru_eligibility"}

# Each fits and saves with all of Keras's options: 220 s of processor time, for what the tests of
# the layers cover, too.
SLOW = "test_basics"


def cases(file):
    module = importlib.import_module(f"{LAYERS.__name__}.rnn.{file}_test")
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, unittest.TestCase):
            yield from unittest.defaultTestLoader.loadTestsFromTestCase(value)


def is_skipped(case):
    """`unittest` ignores the marks of pytest."""
    marks = getattr(getattr(case, case._testMethodName), "pytestmark", [])
    return any(mark.name == "skipif" and mark.args[0] for mark in marks)


@pytest.mark.skipif(
    not (Path(LAYERS.__file__).parent / "rnn" / "rnn_test.py").exists(),
    reason="this Keras comes without its tests",
)
@pytest.mark.parametrize("file", FILES.split())
@pytest.mark.filterwarnings("ignore")
def test_keras_own_tests(file, monkeypatch):
    for name in OURS.split():
        monkeypatch.setattr(LAYERS, name, getattr(kerasrnn, name))
    suite = unittest.TestSuite(
        case for case in cases(file) if case._testMethodName != SLOW and not is_skipped(case)
    )
    assert suite.countTestCases() > 0
    result = unittest.TestResult()
    with op_by_op():
        suite.run(result)
    failed = {case._testMethodName: text for case, text in result.failures + result.errors}
    expected = FUSED if file == "bidirectional" else set()
    assert failed.keys() == expected, "\n".join(text for name, text in failed.items())
