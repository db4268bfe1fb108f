"""ONNX files in other runtimes than the one that checks them: versions of onnxruntime, OpenVINO,
and onnxruntime in JavaScript.

    make test-runtimes

installs each below `build/runtimes`, in a folder of its own, and runs these tests. They keep the
table of docs/export.md true, failures included.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn import zoo
from kerasrnn.export import parity, signature, to_int8, to_onnx
from tests.catalogue import BY_NAME
from tests.export.models import batches
from tests.measure import randomize

pytestmark = [pytest.mark.tensorflow, pytest.mark.runtimes]

ROOT = Path(__file__).parents[2]
RUNTIMES = ROOT / "build" / "runtimes"
HERE = Path(__file__).parent / "runtimes"
OPERATORS = ("SimpleRNN", "LSTM", "PeepholeLSTM", "CoupledLSTM", "GRU", "MGU")


FAILURES = {
    "openvino": {
        **{f"PeepholeLSTM, {direction}": "wrong" for direction in ("forward", "backward", "both")},
        "a loop": "does not load",
        "greedy decoding": "does not load",
    }
}
"""The known failures, by runtime and case."""


def runtimes():
    """The names of the installed runtimes, such as `onnxruntime-1.23.2`."""
    found = sorted(path.name for path in RUNTIMES.glob("*") if path.is_dir())
    return found or [pytest.param("none", marks=pytest.mark.skip("run make test-runtimes"))]


def recurrent(name, direction, states=False, **options):
    """The outputs of a masked layer for all steps, and its final states."""
    options = {"return_sequences": True, "return_state": True} | options
    layer = BY_NAME[name].layer(4, go_backwards=direction == "backward", **options)
    count = len(layer.cell.state_names)
    if direction == "both":
        layer, count = kerasrnn.Bidirectional(layer), 2 * count
    steps = keras.Input((None, 3), name="steps")
    starts = [keras.Input((4,), name=f"start_{n}") for n in range(count if states else 0)]
    found = layer(keras.layers.Masking()(steps), initial_state=starts or None)
    return keras.Model([steps, *starts], list(found) if isinstance(found, (list, tuple)) else found)


def sequential(*layers):
    return keras.Sequential([keras.Input((None, 3), name="steps"), keras.layers.Masking(), *layers])


def models():
    """By name; those in `steps` take vectors of three numbers."""
    made = {
        f"{name}, {direction}": recurrent(name, direction)
        for name in OPERATORS
        for direction in ("forward", "backward", "both")
    }
    for name in ("SimpleRNN", "LSTM", "GRU"):
        made[f"{name}, states given"] = recurrent(name, "both", states=True)
        made[f"{name}, last output"] = recurrent(name, "backward", return_sequences=False)
        made[f"{name}, zeros shown"] = recurrent(name, "forward", zero_output_for_mask=True)
    made["GRU, reset before"] = recurrent("GRU", "both", reset_after=False)
    made["a stack"] = sequential(
        kerasrnn.Bidirectional(kerasrnn.LSTM(4, return_sequences=True)),
        kerasrnn.GRU(4, return_sequences=True),
        kerasrnn.SimpleRNN(4),
        keras.layers.Dense(2),
    )
    made["a loop"] = sequential(kerasrnn.UGRNN(4, return_sequences=True))
    for model in made.values():
        randomize(model)
    return made


def described(arrays):
    return {
        name: {"dtype": str(x.dtype), "shape": x.shape, "values": x.ravel().tolist()}
        for name, x in arrays.items()
    }


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Files with their inputs and what Keras computes, by name."""
    folder = tmp_path_factory.mktemp("files")
    found = {}
    for number, (name, model) in enumerate(models().items()):
        path = folder / f"{number}.onnx"
        to_onnx(model, path, check=False)
        given = []
        for x in batches():
            inputs = {"steps": x}
            for n, tensor in enumerate(model.inputs[1:]):
                inputs[tensor.name] = np.full((len(x), 4), 0.1 * (n + 1), "float32")
            given.append(inputs)
        found[name] = (path, given, *_expected(model, given))
    source = np.array([[1, 2, 3, 4], [5, 6, 0, 0], [0, 0, 0, 0]], "int32")
    speller = zoo.encoder_decoder(
        zoo.Tokens(9, 8), zoo.Classes(7), units=40, attention="bahdanau", bidirectional=True
    )
    randomize(speller)
    writer = zoo.generator(speller, max_length=5, start=6, end=5)
    to_onnx(writer, folder / "greedy.onnx")
    found["greedy decoding"] = (
        folder / "greedy.onnx",
        [{"source": source[:2]}],
        *_expected(writer, [{"source": source[:2]}]),
    )
    found["in eight bits"] = _in_eight_bits(folder)
    return found


def _in_eight_bits(folder):
    """Each column of the matrices in 255 levels: the model that has such weights is the measure."""
    model = sequential(kerasrnn.LSTM(40), keras.layers.Dense(30))
    randomize(model)
    to_int8(to_onnx(model, folder / "whole.onnx").path, folder / "small.onnx")
    kernel, recurrent, bias, dense, offset = model.get_weights()
    recurrent, dense = (np.rint(w / s) * s for w in (recurrent, dense) for s in [_scale(w)])
    model.set_weights([kernel, recurrent, bias, dense, offset])
    given = [{"steps": x} for x in batches()]
    return folder / "small.onnx", given, *_expected(model, given)


def _scale(matrix):
    return np.abs(matrix).max(axis=0) / 127


def _expected(model, given):
    names = signature.output_names(model)
    run = parity.reference(model)
    return names, [run(list(inputs.values())) for inputs in given]


@pytest.fixture(scope="module", params=runtimes())
def results(request, cases, tmp_path_factory):
    """The results of a runtime, by case: batches of outputs, or an error."""
    folder = tmp_path_factory.mktemp("results")
    requested = [
        {"file": str(path), "batches": [described(inputs) for inputs in given]}
        for path, given, *_ in cases.values()
    ]
    (folder / "cases.json").write_text(json.dumps(requested))
    package = request.param.rpartition("-")[0]
    place, files = RUNTIMES / request.param, [folder / "cases.json", folder / "results.json"]
    if package in ("onnxruntime-node", "onnxruntime-web"):
        command = ["node", HERE / "run_node.mjs", package, *files]
    else:
        command = [sys.executable, "-S", HERE / "run_python.py", package, *files]
    done = subprocess.run(
        [str(part) for part in command],
        cwd=place,
        env=os.environ | {"PYTHONPATH": str(place)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((folder / "results.json").read_text())
    return request.param, dict(zip(cases, found, strict=True))


def test_the_files_are_right(cases, results):
    """With padding before, after and between steps, fully masked rows, and given states."""
    runtime, found = results
    failures, gaps = {}, {}
    for case, (_, _, names, expected) in cases.items():
        if "error" in found[case]:
            failures[case], gaps[case] = "does not load", found[case]["error"]
            continue
        gaps[case] = 0.0
        for outputs, right in zip(found[case]["batches"], expected, strict=True):
            for key, values in zip(names, right, strict=True):
                y = np.array(outputs[key]["values"], "float64").reshape(outputs[key]["shape"])
                assert y.shape == values.shape, case
                gaps[case] = np.fmax(gaps[case], np.abs(y - values).max())
        if not gaps[case] <= 1e-5:
            failures[case] = "wrong"
    assert failures == FAILURES.get(runtime.rpartition("-")[0], {}), gaps
