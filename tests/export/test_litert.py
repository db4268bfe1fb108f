"""LiteRT files, run by LiteRT's interpreter."""

import os
import re
from pathlib import Path

import keras
import numpy as np
import pytest

from kerasrnn.export import litert, parity, to_litert
from kerasrnn.export.signature import output_names
from kerasrnn.standard_error import filtered
from tests.catalogue import PARTS, part_id
from tests.export.models import batches, model_of

pytestmark = pytest.mark.tensorflow


def run(path, **inputs):
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(model_path=str(path)).get_signature_runner()(**inputs)


@pytest.mark.parametrize("part", PARTS, ids=part_id)
def test_cells(part, tmp_path):
    """By their names, with any mask, with LiteRT's built-in operators only.

    Keras's own layers cannot be converted unchanged if the batch is dynamic.
    """
    model, path = model_of(part), tmp_path / "model.tflite"
    to_litert(model, path, check=False)
    expected = parity.reference(model)
    for x in batches():
        y = run(path, steps=x)
        assert sorted(y) == sorted(model.output)
        for name, right in zip(output_names(model), expected([x]), strict=True):
            np.testing.assert_allclose(y[name], right, atol=1e-5, err_msg=name)


def test_an_operation_that_litert_lacks(tmp_path):
    class Lengths(keras.layers.Layer):
        def call(self, x):
            import tensorflow as tf

            return tf.strings.length(tf.strings.as_string(x))

    model = keras.Sequential([keras.Input((None, 3)), Lengths()], name="m")
    with pytest.raises(ValueError, match="model 'm': LiteRT has no operator for AsString, StringL"):
        to_litert(model, tmp_path / "m.tflite")
    assert not list(tmp_path.iterdir())


def test_only_the_remark_of_the_interpreter_is_suppressed(capfd):
    """LiteRT writes it once per process, so that the filter is tested without it."""
    import ai_edge_litert

    remark = b"Created TensorFlow Lite XNNPACK delegate for CPU."
    libraries = Path(ai_edge_litert.__file__).parent.glob("libpywrap*")
    assert any(remark in library.read_bytes() for library in libraries)

    with filtered(lambda text: re.sub(litert.REMARK, b"", text)):
        os.write(2, b"WARNING: y\nINFO: " + remark + b"\nERROR: x\n")
    assert capfd.readouterr().err == "WARNING: y\nERROR: x\n"

    def fail():
        with filtered(lambda text: b""):
            os.write(2, b"why")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert capfd.readouterr().err == "why"
