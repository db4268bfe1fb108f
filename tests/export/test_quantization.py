"""Weights in eight bits, compared with weights that NumPy rounds."""

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn import zoo
from kerasrnn.export import parity, to_int8, to_onnx
from tests.export.models import sequential
from tests.export.test_onnx import recurrent_nodes
from tests.measure import randomize

pytestmark = pytest.mark.tensorflow


def run(path, *inputs):
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    names = [tensor.name for tensor in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=True)))


def rounded(matrix):
    """Round each column to 255 levels."""
    scale = np.abs(matrix).max(axis=0) / 127
    return np.rint(matrix / scale) * scale


def test_a_file_computes_with_rounded_weights(tmp_path):
    """A model with these weights gives the same outputs; biases are exact."""
    steps = keras.Input((None,), dtype="int32", name="steps")
    embedded = keras.layers.Embedding(60, 40, mask_zero=True)(steps)
    outputs = [
        keras.layers.Dense(30)(cell(40, return_sequences=True)(embedded))
        for cell in (kerasrnn.SimpleRNN, kerasrnn.GRU, kerasrnn.LSTM)
    ]
    model = keras.Model(steps, outputs)
    randomize(model)
    model.set_weights([0.3 * w for w in model.get_weights()])  # else SimpleRNN is chaotic
    to_onnx(model, tmp_path / "model.onnx", check=False)
    report = to_int8(tmp_path / "model.onnx", tmp_path / "small.onnx")
    assert report.bytes == (tmp_path / "small.onnx").stat().st_size
    ids = np.array([[5, 40, 3, 0], [7, 7, 0, 0]], "int32")
    model.set_weights(
        [rounded(w) if w.ndim == 2 and len(w) > 2 else w for w in model.get_weights()]
    )
    found = run(tmp_path / "small.onnx", ids)
    for y, expected in zip(found, parity.reference(model)([ids]), strict=True):
        np.testing.assert_allclose(y, expected, atol=1e-5)


def test_a_row_does_not_depend_on_its_batch(tmp_path):
    """Not even if another row is a thousand times as large."""
    layers = [kerasrnn.Bidirectional(kerasrnn.LSTM(40)), keras.layers.Dense(30)]
    model = sequential(*layers, shape=(None, 30))
    to_onnx(model, tmp_path / "model.onnx", check=False)
    to_int8(tmp_path / "model.onnx", tmp_path / "small.onnx")
    x = np.random.default_rng(0).standard_normal((3, 9, 30)).astype("float32")
    (alone,) = run(tmp_path / "small.onnx", x[:1])
    x[1] *= 1000
    (together,) = run(tmp_path / "small.onnx", x)
    np.testing.assert_allclose(together[0], alone[0], atol=1e-6)


def test_a_quarter_of_the_size_and_nearly_the_same(tmp_path):
    ids = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(1000, 64, mask_zero=True)(ids)
    outputs = [
        keras.layers.Dense(20)(kerasrnn.Bidirectional(cell(128, return_sequences=True))(x))
        for cell in (kerasrnn.LSTM, kerasrnn.GRU)
    ]
    whole = to_onnx(keras.Model(ids, outputs), tmp_path / "model.onnx", check=False)
    small = to_int8(whole.path, tmp_path / "small.onnx")
    assert small.bytes < 0.3 * whole.bytes
    # The operators are those of the source.
    assert recurrent_nodes(small.path) == recurrent_nodes(whole.path)
    ids = np.array([[5, 900, 3, 0], [7, 7, 0, 0]], "int32")
    for one, other in zip(run(whole.path, ids), run(small.path, ids), strict=True):
        error = np.abs(one - other)[ids > 0]
        assert 0 < error.max() < 0.03 * np.abs(one).max()


def test_loops_are_quantized_too(tmp_path):
    """The weights of a decoder are in the graph of its loop, or are read there."""
    model = zoo.encoder_decoder(zoo.Tokens(9, 32), zoo.Classes(30), units=128, attention="bahdanau")
    writer = zoo.generator(model, max_length=5, start=29, end=28)
    whole = to_onnx(writer, tmp_path / "model.onnx", check=False)
    small = to_int8(whole.path, tmp_path / "small.onnx")
    assert small.bytes < 0.3 * whole.bytes
    ids = np.array([[5, 3, 4]], "int32")
    assert run(small.path, ids)[0].shape == (1, 5)


def test_weights_that_stay_floats(tmp_path):
    """Small tensors, and weights that are not finite."""
    import onnx
    from onnx import numpy_helper

    model = sequential(keras.layers.Dense(60), keras.layers.Dense(2), shape=(50,))
    kernel = model.get_weights()[0]
    kernel[0, 0] = np.inf
    model.layers[0].kernel.assign(kernel)
    whole = to_onnx(model, tmp_path / "model.onnx", check=False)
    small = to_int8(whole.path, tmp_path / "small.onnx")
    arrays = list(map(numpy_helper.to_array, onnx.load(small.path).graph.initializer))
    assert not [array for array in arrays if array.dtype == np.int8]
    assert any(np.array_equal(array, kernel) for array in arrays)


def test_bad_files(tmp_path):
    with pytest.raises(FileNotFoundError):
        to_int8(tmp_path / "none.onnx", tmp_path / "small.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ValueError, match=r"source='.*text.onnx': cannot be read as an ONNX file"):
        to_int8(tmp_path / "text.onnx", tmp_path / "small.onnx")
    assert not (tmp_path / "small.onnx").exists()
