"""The devices of a training, and errors about missing ones."""

import pytest

from kerasrnn.training.errors import BatchError, ExecutionError
from kerasrnn.training.placement import Placement

pytestmark = pytest.mark.tensorflow


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "JSONDecodeError"),
        ('{"cluster": {"worker": ["a:1"]}}', "KeyError: 'task'"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}', "index 1"),
    ],
)
def test_an_invalid_cluster_is_refused(monkeypatch, text, message):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ExecutionError, match=r"expected JSON such as") as error:
        Placement("multiworker")
    assert message in str(error.value)


def test_missing_devices_are_refused(monkeypatch):
    for name in ("TF_CONFIG", "TPU_NAME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ExecutionError, match="'mirrored': expected two devices or more; found"):
        Placement("mirrored")
    with pytest.raises(ExecutionError, match="TF_CONFIG with the addresses of the workers"):
        Placement("multiworker")
    with pytest.raises(ExecutionError, match=r"expected the name of a TPU in .* TPU_NAME"):
        Placement("tpu")
    assert Placement().described() == {"strategy": "one", "replicas": 1, "workers": 1}


def test_indivisible_batches_are_refused():
    message = "batch_size=30: expected a multiple of 4: devices=1 times accumulate=4"
    with pytest.raises(BatchError, match=message):
        Placement("one", accumulate=4).check(30)
    Placement("one", accumulate=4).check(32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "two"}, "strategy='two': expected 'auto', 'one', 'mirrored', 'multiworker'"),
        (
            {"precision": "float8"},
            "precision='float8': expected 'float32', 'bfloat16' or 'float16'",
        ),
        ({"accumulate": 0}, "accumulate=0: expected a positive integer"),
        ({"deterministic": 1}, "deterministic=1: expected True or False"),
    ],
)
def test_invalid_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Placement(**options)
