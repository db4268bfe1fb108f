"""Weights in eight bits, against NumPy's own rounding of them."""

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn import zoo
from kerasrnn.export import to_int8, to_onnx
from tests.export.models import sequential
from tests.export.test_onnx import recurrent_nodes

pytestmark = pytest.mark.tensorflow


def run(path, *inputs):
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    names = [tensor.name for tensor in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=True)))


def rounded(matrix):
    """Each column in 255 levels."""
    scale = np.abs(matrix).max(axis=0) / 127
    return np.rint(matrix / scale) * scale


@pytest.mark.parametrize("cell", ["simple_rnn", "gru"])
def test_operators_without_integers_compute_with_rounded_weights(cell, tmp_path):
    """Of these the difference is all in the weights: the model that has them says the same."""
    layer = {"simple_rnn": kerasrnn.SimpleRNN, "gru": kerasrnn.GRU}[cell]
    model = sequential(layer(40, return_sequences=True), shape=(None, 30))
    to_onnx(model, tmp_path / "model.onnx")
    report = to_int8(tmp_path / "model.onnx", tmp_path / "small.onnx")
    assert report.bytes == (tmp_path / "small.onnx").stat().st_size
    x = np.random.default_rng(0).standard_normal((2, 9, 30)).astype("float32")
    kernel, recurrent, *bias = model.get_weights()
    model.set_weights([rounded(kernel), rounded(recurrent), *bias])
    np.testing.assert_allclose(run(tmp_path / "small.onnx", x)[0], model(x), atol=1e-5)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_quarter_of_the_size_and_nearly_the_same(cell, tmp_path):
    recurrent = {"lstm": kerasrnn.LSTM, "gru": kerasrnn.GRU}[cell](128, return_sequences=True)
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(1000, 64, mask_zero=True),
            kerasrnn.BidirectionalRNN(recurrent),
            keras.layers.Dense(20),
        ]
    )
    whole = to_onnx(model, tmp_path / "model.onnx")
    small = to_int8(whole.path, tmp_path / "small.onnx")
    assert small.bytes < 0.3 * whole.bytes
    operator = "DynamicQuantizeLSTM" if cell == "lstm" else "GRU"
    assert recurrent_nodes(small.path).get(operator, 0) == 2
    ids = np.array([[5, 900, 3, 0], [7, 7, 0, 0]], "int32")
    (one,), (other,) = run(whole.path, ids), run(small.path, ids)
    error = np.abs(one - other)[ids > 0]
    assert 0 < error.max() < 0.03 * np.abs(one).max()


def test_loops_are_quantized_too(tmp_path):
    """A writer of one file: its decoder's weights stand in the loop's graph or are read there."""
    model = zoo.encoder_decoder(zoo.Tokens(9, 32), zoo.Classes(30), units=128, attention="bahdanau")
    writer = zoo.generator(model, max_length=5, start=29, end=28)
    whole = to_onnx(writer, tmp_path / "model.onnx")
    small = to_int8(whole.path, tmp_path / "small.onnx")
    assert small.bytes < 0.3 * whole.bytes
    ids = np.array([[5, 3, 4]], "int32")
    assert run(small.path, ids)[0].shape == (1, 5)


@pytest.mark.parametrize("reduce_range", [False, True])
def test_levels(reduce_range, tmp_path):
    """Matrix products are of weights of eight bits, or of seven."""
    import onnx
    from onnx import numpy_helper

    model = sequential(keras.layers.Dense(60), shape=(50,))
    whole = to_onnx(model, tmp_path / "model.onnx")
    small = to_int8(whole.path, tmp_path / "small.onnx", reduce_range)
    arrays = map(numpy_helper.to_array, onnx.load(small.path).graph.initializer)
    (kernel,) = [array for array in arrays if array.dtype == np.int8 and array.ndim == 2]
    assert np.abs(kernel).max() == (64 if reduce_range else 127)
    x = np.random.default_rng(0).standard_normal((3, 50)).astype("float32")
    expected = np.asarray(model(x))
    assert np.abs(run(small.path, x)[0] - expected).max() < 0.03 * np.abs(expected).max()


def test_bad_files(tmp_path):
    with pytest.raises(FileNotFoundError):
        to_int8(tmp_path / "none.onnx", tmp_path / "small.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ValueError, match=r"source='.*text.onnx': cannot be read as an ONNX file"):
        to_int8(tmp_path / "text.onnx", tmp_path / "small.onnx")
    assert not (tmp_path / "small.onnx").exists()
