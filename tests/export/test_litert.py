"""LiteRT files, run by LiteRT's interpreter."""

import os
import re
from pathlib import Path

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn.export import litert, parity, to_litert, to_step
from kerasrnn.export.signature import output_names
from kerasrnn.standard_error import filtered
from tests.catalogue import ROWS
from tests.export.models import batches, every_cell, sequential
from tests.measure import passing_masks, randomize

pytestmark = pytest.mark.tensorflow


def run(path, **inputs):
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(model_path=str(path)).get_signature_runner()(**inputs)


def test_cells(tmp_path):
    """All in one file, by their names, whatever is masked, with LiteRT's own operators alone."""
    path = tmp_path / "model.tflite"
    to_litert(every_cell(), path, check=False)
    expected = parity.reference(every_cell())
    for x in batches():
        y = run(path, steps=x)
        assert sorted(y) == sorted(row.name for row in ROWS)
        for name, right in zip(output_names(every_cell()), expected([x]), strict=True):
            np.testing.assert_allclose(y[name], right, atol=1e-5, err_msg=name)


def test_every_step_both_directions_and_layers_of_keras(tmp_path):
    """Keras's own layers cannot be converted with a dynamic batch, as they are."""
    path, layers = tmp_path / "model.tflite", keras.layers
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32", name="ids"),
            layers.Embedding(9, 4, mask_zero=True),
            passing_masks(layers.Bidirectional(layers.LSTM(5, return_sequences=True))),
            kerasrnn.StackedRNN([kerasrnn.GRU(4)], return_sequences=True),
            layers.Dense(2, name="scores"),
        ]
    )
    randomize(model)
    assert to_litert(model, path).difference < 1e-5
    ids = np.array([[1, 2, 0, 3], [4, 0, 0, 0], [0, 0, 0, 0]], "int32")
    np.testing.assert_allclose(run(path, ids=ids)["scores"], model(ids), atol=1e-5)


def test_steps_have_no_loop(tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    path = tmp_path / "step.tflite"
    model = sequential(kerasrnn.UGRNN(4, return_sequences=True), keras.layers.LSTM(3))
    assert to_litert(to_step(model), path).difference < 1e-5
    interpreter = Interpreter(model_path=str(path))
    assert "WHILE" not in {op["op_name"] for op in interpreter._get_ops_details()}


def test_an_operation_that_litert_has_not(tmp_path):
    class Lengths(keras.layers.Layer):
        def call(self, x):
            import tensorflow as tf

            return tf.strings.length(tf.strings.as_string(x))

    model = keras.Sequential([keras.Input((None, 3)), Lengths()], name="m")
    with pytest.raises(ValueError, match="model 'm': LiteRT has no operator for AsString, StringL"):
        to_litert(model, tmp_path / "m.tflite")
    assert not list(tmp_path.iterdir())


def test_the_remark_of_the_interpreter_alone_is_held_back(capfd):
    """It is written once in a process, from inside of LiteRT: there is no more to be tried here."""
    import ai_edge_litert

    remark = b"Created TensorFlow Lite XNNPACK delegate for CPU."
    libraries = Path(ai_edge_litert.__file__).parent.glob("libpywrap*")
    assert any(remark in library.read_bytes() for library in libraries)

    with filtered(lambda said: re.sub(litert.REMARK, b"", said)):
        os.write(2, b"WARNING: y\nINFO: " + remark + b"\nERROR: x\n")
    assert capfd.readouterr().err == "WARNING: y\nERROR: x\n"

    def fail():
        with filtered(lambda said: b""):
            os.write(2, b"why")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert capfd.readouterr().err == "why"
