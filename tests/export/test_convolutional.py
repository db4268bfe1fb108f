"""Exports of convolutional layers: in each format, to and from Keras, and as single steps."""

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn.export import (
    from_keras,
    parity,
    to_keras,
    to_litert,
    to_onnx,
    to_saved_model,
    to_step,
)
from tests.catalogue import IMAGES_IN_KERAS, variant_id
from tests.measure import op_by_op, passing_masks, randomize

pytestmark = pytest.mark.tensorflow

IMAGE = (4, 3, 2)


@pytest.fixture(autouse=True)
def _small_cases(monkeypatch):
    """Compared on one small batch; tests/export/test_parity.py has all sizes."""
    monkeypatch.setattr(parity, "SIZES", ((2, 3, "none"),))


def shaped(x, *image):
    """Each step with another shape, and with the mask."""
    return kerasrnn.BatchedTimeDistributed(keras.layers.Reshape(image))(x)


def model_of(masked):
    """Both cells and every rank, Keras's layer, and the channels first; any batch and length."""
    layers, frames = keras.layers, keras.Input((None, *IMAGE), name="frames")
    mask = keras.Input((None,), dtype="bool", name="mask") if masked else None
    options = {"return_sequences": True}
    x = kerasrnn.ConvLSTM2D(2, 3, padding="same", dropout=0.1, **options)(frames, mask=mask)
    first = kerasrnn.ConvGRU2D(2, 2, data_format="channels_first", reset_after=False, **options)
    of_keras = passing_masks(layers.ConvLSTM2D(2, 2, strides=2, name="keras"))
    line = kerasrnn.ConvGRU1D(2, 3, dilation_rate=2)
    body = kerasrnn.ConvLSTM3D(2, 2, padding="same")
    outputs = {
        "first": first(shaped(x, 2, 4, 3)),
        "of_keras": of_keras(x),
        "line": line(shaped(x, 12, 2)),
        "body": body(shaped(x, 2, 2, 3, 2)),
    }
    model = keras.Model([frames, mask] if masked else frames, outputs)
    randomize(model)
    return model


@pytest.fixture(scope="module")
def model():
    return model_of(masked=True)


@pytest.mark.parametrize("export", [to_saved_model, to_onnx, to_litert])
def test_exports_compute_the_same(model, export, tmp_path):
    """With any mask. The formats have no operator for such a layer: it is a loop."""
    report = export(model, tmp_path / "exported")
    assert report.batches >= 1
    assert report.difference < 1e-5


def test_a_step_computes_the_same(tmp_path):
    """As a file, too; the states are images."""
    step = to_step(model_of(masked=False))
    shapes = {s.name: tuple(s.shape[1:]) for s in step.inputs}
    assert shapes["frames_t"] == IMAGE
    assert shapes["keras_c"] == (2, 1, 2)
    assert {shape for name, shape in shapes.items() if name.startswith("conv_gru")} == {
        (2, 3, 2),  # the channels first
        (8, 2),
    }
    assert to_onnx(step, tmp_path / "step.onnx").difference < 1e-5


@op_by_op()
@pytest.mark.parametrize("row", IMAGES_IN_KERAS, ids=variant_id)
def test_there_and_back(row):
    """Alone; outputs, configuration and class are those of Keras."""
    own = row.keras_layer(2, 2, return_sequences=True, name="it", padding="same")
    own.build((None, None, *row.image))
    randomize(own)
    x = np.random.default_rng(0).standard_normal((2, 3, *row.image)).astype("float32")
    ours = from_keras(own)
    assert type(ours) is row.layer
    np.testing.assert_allclose(ours(x), own(x), atol=1e-6)
    back = to_keras(ours)
    assert type(back) is row.keras_layer
    assert back.get_config() == own.get_config()


def test_keras_has_no_convolutional_gru():
    layer = kerasrnn.ConvGRU1D(2, 2)
    layer.build((None, None, 4, 2))
    with pytest.raises(ValueError, match="Keras has no ConvGRU1D"):
        to_keras(layer)
